package backfill

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// OpenProof takes the shape of a leaf for a [Verifier], or returns ErrShape as [OpenShape] does. Unlike that, it takes
// no fingerprint; a column of the job without a source is one whose plaintext is gone, and one in reverse is cut over.
func OpenProof(ctx context.Context, db *pg.DB, job Job, leaf uint32, keyring *cell.Keyring) (*Shape, error) {
	relation, err := pg.Inspect(ctx, db, job.Spec.Schema, job.Spec.Table)
	var gone *pg.NotFound
	if errors.As(err, &gone) || err == nil && relation.OID != job.Relation {
		return nil, fmt.Errorf("table %s.%s: %w", job.Spec.Schema, job.Spec.Table, ErrShape)
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s.%s: %w", job.Spec.Schema, job.Spec.Table, err)
	}
	at := slices.IndexFunc(relation.Leaves, func(l pg.Leaf) bool { return l.OID == leaf })
	if at < 0 {
		return nil, fmt.Errorf("a partition of %s is gone: %w", relation.Table(), ErrShape)
	}
	s := &Shape{Leaf: leaf, Table: relation.Leaves[at].Table()}
	if s.Key, s.Keys, err = keyColumns(relation, job.Spec.Key); err != nil {
		return nil, err
	}
	for _, c := range job.Spec.Columns {
		column, err := openProven(relation, c, keyring)
		if err != nil {
			return nil, err
		}
		s.Columns = append(s.Columns, column)
	}
	return s, nil
}

func openProven(relation pg.Relation, c SpecColumn, keyring *cell.Keyring) (Column, error) {
	if c.Foreign() && c.Source == "" {
		target, _ := relation.Column(c.Target)
		return openForeign(c, pg.Column{}, target)
	}
	if c.Source != "" {
		return openColumn(relation, c, keyring)
	}
	target, found := relation.Column(c.Target)
	if !found || target.Attnum != c.TargetAttnum {
		return Column{}, fmt.Errorf("column %s of %s: %w", c.Target, relation.Table(), ErrShape)
	}
	scheme, known := keyring.Scheme(c.ID, c.Scheme)
	if !known {
		return Column{}, fmt.Errorf("open scheme %d of column %d: %w", c.Scheme, c.ID, cell.ErrUnknownScheme)
	}
	return Column{ID: c.ID, Target: c.Target, Codec: scheme.Codec, Scheme: scheme}, nil
}
