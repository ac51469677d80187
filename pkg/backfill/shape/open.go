package shape

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/bound"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Open looks at the job's table and takes the shape of one leaf, or returns [keyspace.ErrChanged] if the table is no
// longer the one that the job began with. Keys holds the schemes that the job writes.
func Open(ctx context.Context, db *pg.DB, job work.Job, leaf uint32, keyring *cell.Keyring) (*Shape, error) {
	s, err := openLeaf(ctx, db, job, leaf, keyring, openColumn)
	if err != nil {
		return nil, err
	}
	s.SkipUser = job.Spec.UserTriggers == "skip"
	return s, s.takeFingerprint(ctx, db)
}

// openLeaf takes a leaf's shape but for its fingerprint; open finds each column of the job.
func openLeaf(ctx context.Context, db *pg.DB, job work.Job, leaf uint32, keyring *cell.Keyring,
	open func(pg.Relation, work.Column, *cell.Keyring) (Column, error)) (*Shape, error) {
	relation, err := pg.Inspect(ctx, db, job.Spec.Schema, job.Spec.Table)
	var gone *pg.NotFound
	if errors.As(err, &gone) || err == nil && relation.OID != job.Relation {
		return nil, fmt.Errorf("table %s.%s: %w", job.Spec.Schema, job.Spec.Table, keyspace.ErrChanged)
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s.%s: %w", job.Spec.Schema, job.Spec.Table, err)
	}
	at := slices.IndexFunc(relation.Leaves, func(l pg.Leaf) bool { return l.OID == leaf })
	if at < 0 {
		return nil, fmt.Errorf("a partition of %s is gone: %w", relation.Table(), keyspace.ErrChanged)
	}
	s := &Shape{Space: keyspace.Space{Leaf: leaf, Table: relation.Leaves[at].Table()}}
	if s.Key, s.Keys, err = keyspace.Columns(relation, job.Spec.Key); err != nil {
		return nil, err
	}
	for _, c := range job.Spec.Columns {
		column, err := open(relation, job.ComparingStill(c), keyring)
		if err != nil {
			return nil, err
		}
		if _, found := relation.Column(c.Tenant); c.Tenant != "" && !found {
			return nil, fmt.Errorf("column %s of %s, which chooses keys: %w", c.Tenant, relation.Table(), keyspace.ErrChanged)
		}
		column.Tenant = c.Tenant
		s.Columns = append(s.Columns, column)
	}
	return s, s.bind(relation, job, keyring)
}

// openColumn finds a column by its name and refuses it if it is not the attribute that the job meant.
func openColumn(relation pg.Relation, c work.Column, keyring *cell.Keyring) (Column, error) {
	switch {
	case c.Rotate:
		return openRotation(relation, c, keyring)
	case c.Index != nil:
		return openIndexing(relation, c, keyring)
	}
	source, found := relation.Column(c.Source)
	target, both := relation.Column(c.Target)
	if !found || !both || source.Attnum != c.SourceAttnum || target.Attnum != c.TargetAttnum {
		return Column{}, fmt.Errorf("column %s or %s of %s: %w", c.Source, c.Target, relation.Table(), keyspace.ErrChanged)
	}
	column := Column{ID: c.ID, Source: c.Source, Target: c.Target, Reverse: c.Reverse, External: c.External, Beside: c.Origin.Names()}
	var err error
	switch {
	case c.Foreign():
		column.kind, err = openForeign(c, source, target)
		return column, err
	case c.Made():
		column.Expression = c.Expression
		column.kind, err = openMaking(relation, c)
		return column, err
	case c.Origin.Own():
		column.kind, err = openMoving(c, source, target, keyring)
		return column, err
	case c.Origin != nil:
		column.kind, err = openResealing(relation, c, source, target, keyring)
		if k, is := column.kind.(resealing); is && c.Compare && !c.Reverse {
			column.kind = comparing{k, k.sealing}
		}
		return column, err
	}
	sealed, err := openSealing(c, source, target, keyring)
	if column.kind = openOpening(sealed, source.Base, taking(keyring, c.ID, c.Target)); c.Reverse || err != nil {
		return column, err
	}
	column.Where = c.Where
	if column.kind, err = openLimited(relation, c, sealed); c.Compare {
		column.kind = comparing{column.kind, sealed}
	}
	return column, err
}

// takeFingerprint asks once; every chunk asks again under its lock.
func (s *Shape) takeFingerprint(ctx context.Context, q pg.Querier) (err error) {
	watch := ddl.Watch{}
	for _, k := range s.Key {
		watch.Key = append(watch.Key, k.Name)
	}
	for _, c := range s.Columns {
		watch.Columns = append(watch.Columns, ddl.Column{ID: c.ID, Source: c.Source, Target: c.Target, Expression: c.Expression, Where: c.Where, Beside: c.Beside})
	}
	if names := bound.Distinct(s.Bindings); len(names) > 0 {
		watch.Columns[0].Beside = slices.Concat(watch.Columns[0].Beside, names)
	}
	s.CheckSQL, s.watch = watch.Fingerprint(), watch
	if err := q.QueryRow(ctx, s.CheckSQL, s.Leaf).Scan(&s.Fingerprint); err != nil {
		return fmt.Errorf("take the fingerprint of %s: %w", s.Table, err)
	}
	s.parts, err = readParts(ctx, q, s.Leaf, watch)
	return err
}

// Changed says in words what of the table is no longer what it was when the shape was taken; "" if nothing is known.
func (s *Shape) Changed(ctx context.Context, q pg.Querier) (string, error) {
	now, err := readParts(ctx, q, s.Leaf, s.watch)
	if err != nil {
		return "", err
	}
	return strings.Join(ddl.Changes(s.parts, now), "; "), nil
}

func readParts(ctx context.Context, q pg.Querier, leaf uint32, watch ddl.Watch) ([]ddl.Part, error) {
	rows, err := q.Query(ctx, watch.Parts(), leaf)
	if err != nil {
		return nil, fmt.Errorf("read what the table looks like: %w", err)
	}
	parts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ddl.Part])
	if err != nil {
		return nil, fmt.Errorf("read what the table looks like: %w", pg.Safe(err))
	}
	return parts, nil
}
