package shape

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// OpenProof takes the shape of a leaf for a verifier, or returns [keyspace.ErrChanged] as [Open] does. Unlike that, it
// takes no fingerprint; a column of the job without a source is one whose plaintext is gone, and one in reverse is cut
// over.
func OpenProof(ctx context.Context, db *pg.DB, job work.Job, leaf uint32, keyring *cell.Keyring) (*Shape, error) {
	return openLeaf(ctx, db, job, leaf, keyring, openProven)
}

func openProven(relation pg.Relation, c work.Column, keyring *cell.Keyring) (Column, error) {
	if c.Source != "" {
		return openColumn(relation, c, keyring)
	}
	target, found := relation.Column(c.Target)
	if !found || target.Attnum != c.TargetAttnum {
		return Column{}, fmt.Errorf("column %s of %s: %w", c.Target, relation.Table(), keyspace.ErrChanged)
	}
	column := Column{ID: c.ID, Target: c.Target, External: c.External}
	if c.Foreign() {
		var err error
		column.kind, err = openForeign(c, pg.Column{}, target)
		return column, err
	}
	form, holds := formOf(target)
	if !holds {
		return Column{}, fmt.Errorf("type of %s: %w", c.Target, keyspace.ErrChanged)
	}
	scheme, _ := keyring.Scheme(c.ID, c.Scheme) // only to know what becomes of NULL
	column.kind = proving{sealing{sides: sides{target: c.Target}, form: form, scheme: scheme}}
	return column, nil
}
