package index

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// mayBeUnique refuses what Postgres has no index for: one over all partitions tells rows of equal partition keys apart.
func (p *NewPlan) mayBeUnique() error {
	r := p.column.Relation
	if !p.Definition.Unique || !r.IsPartitioned {
		return nil
	}
	return standing.Refuse("unique", "leave --unique out, and unique: true out of the manifest; equal values are kept apart by the application then",
		"%s is partitioned: Postgres keeps values unique in each of its partitions, and not in all of them together", r.Table())
}

// parts are the tokens of each relation that holds rows: the table, or its partitions.
func parts(r pg.Relation, steps ddl.Token) (list []part) {
	if !r.IsPartitioned {
		return []part{{steps, r.OID}}
	}
	for _, leaf := range r.Leaves {
		list = append(list, part{steps.On(leaf.Named), leaf.OID})
	}
	return list
}

type part struct {
	ddl.Token
	relation uint32
}

// partsAt are the parts as they are now: partitions come and go while indexes are built.
func (c column) partsAt(ctx context.Context, q pg.Querier, steps ddl.Token) ([]part, error) {
	now, err := pg.Inspect(ctx, q, c.Relation.Schema, c.Relation.Name)
	if err == nil && now.OID != c.Relation.OID {
		err = fmt.Errorf("%s is another table now", c.Relation.Table())
	}
	if err != nil {
		return nil, err
	}
	return parts(now, steps), nil
}

const statesSQL = `SELECT p.name, i.indisvalid AND i.indisready AND i.indislive FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.text[])) AS p (relid, name)
 JOIN pg_catalog.pg_index i ON i.indrelid OPERATOR(pg_catalog.=) p.relid JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) i.indexrelid AND r.relname OPERATOR(pg_catalog.=) p.name::pg_catalog.name`

// lacking are the parts whose index of that name is not there, or not valid, and what stands of each.
func lacking(ctx context.Context, q pg.Querier, all []part, name func(ddl.Token) string) (list []part, states []string, err error) {
	relations, names := make([]uint32, len(all)), make([]string, len(all))
	for i, one := range all {
		relations[i], names[i] = one.relation, name(one.Token)
	}
	rows, err := q.Query(ctx, statesSQL, relations, names)
	if err != nil {
		return nil, nil, fmt.Errorf("look for the indexes of partitions: %w", pg.Safe(err))
	}
	there, valid, is := map[string]bool{}, false, ""
	if _, err = pgx.ForEachRow(rows, []any{&is, &valid}, func() error { there[is] = valid; return nil }); err != nil {
		return nil, nil, fmt.Errorf("look for the indexes of partitions: %w", pg.Safe(err))
	}
	for i, one := range all {
		switch valid, is := there[names[i]]; {
		case !is:
			list, states = append(list, one), append(states, BuiltMissing)
		case !valid:
			list, states = append(list, one), append(states, BuiltInvalid)
		}
	}
	return list, states, nil
}

// statements are what makes the index that lookups use, as far as it is not there.
func (p *BuildPlan) statements(ctx context.Context, q pg.Querier) (list []string, err error) {
	if p.Index.Built == BuiltValid {
		return nil, nil
	}
	if !p.column.Relation.IsPartitioned {
		if p.Index.Built == BuiltInvalid {
			list = append(list, p.steps.Build().Undo...)
		}
		return append(list, p.steps.Build().Do...), nil
	}
	missing, states := parts(p.column.Relation, p.steps), []string(nil)
	if p.Index.Built == BuiltInvalid {
		list = append(list, p.steps.Join().Undo...) // and every partition's with it
	} else if missing, states, err = lacking(ctx, q, missing, ddl.Token.IndexName); err != nil {
		return nil, err
	}
	for i, one := range missing {
		if states != nil && states[i] == BuiltInvalid {
			list = append(list, one.Build().Undo...)
		}
		list = append(list, one.Build().Do...)
	}
	return append(list, p.steps.Join().Do...), nil
}

// makeParts has every partition get its index, one after the other, beside readers and writers, and then the table the
// one that they are parts of. What was built stays if a later one fails, or the process is killed: the next build goes on
// behind it. A partition that comes meanwhile is one more, one that goes keeps what it has.
func (r *Registry) makeParts(ctx context.Context, conn *pg.Conn, p BuildPlan) error {
	if err := r.unjoin(ctx, p); err != nil {
		return standing.Settled(p.column.Standing, err)
	}
	for {
		all, err := p.column.partsAt(ctx, conn, p.steps)
		if err != nil {
			return err
		}
		missing, _, err := lacking(ctx, conn, all, ddl.Token.IndexName)
		if err != nil {
			return err
		}
		for _, one := range missing {
			if err := r.create(ctx, conn, one.Build()); err != nil && !r.left(ctx, p, one) {
				return err
			}
		}
		err = r.join(ctx, p)
		if !errors.Is(err, errUnbuilt) {
			return standing.Settled(p.column.Standing, err)
		}
	}
}

// left says that a partition is none of the table's any more.
func (r *Registry) left(ctx context.Context, p BuildPlan, one part) bool {
	all, err := p.column.partsAt(ctx, r.DB, p.steps)
	return err == nil && !slices.ContainsFunc(all, func(now part) bool { return now.relation == one.relation })
}

// unjoin takes away an index over all partitions that is not valid: nothing makes it so again.
func (r *Registry) unjoin(ctx context.Context, p BuildPlan) error {
	return standing.Patiently(ctx, r.DB, func(tx pg.Tx) error {
		if state, err := built(ctx, tx, p.column, p.row); err != nil || state != BuiltInvalid {
			return err
		}
		return standing.Briefly(ctx, tx, p.steps.Join().Undo...)
	})
}

// errUnbuilt says that a partition has no index yet: it is new.
var errUnbuilt = errors.New("a partition has no index of its tokens yet")

// join makes the index over all partitions, once each has its own.
func (r *Registry) join(ctx context.Context, p BuildPlan) error {
	return standing.Patiently(ctx, r.DB, func(tx pg.Tx) error {
		if err := standing.Briefly(ctx, tx, p.steps.HoldParts()); err != nil {
			return err
		}
		leaves, err := standing.Leaves(ctx, tx, p.column.Relation.OID)
		if err != nil {
			return err
		}
		var all []part
		for _, oid := range leaves {
			all = append(all, part{p.steps.On(pg.Named{OID: oid}), oid})
		}
		missing, _, err := lacking(ctx, tx, all, ddl.Token.IndexName)
		if err == nil && len(missing) > 0 {
			err = errUnbuilt
		}
		if err != nil {
			return err
		}
		return each(ctx, tx, p.steps.Join().Do)
	})
}

// Unlisted is how the indexes of the rows that lack a token are made, of a blind index that is ready and has not all of
// them, or some that are not valid, by their names; none: there is nothing to make.
func Unlisted(ctx context.Context, db *pg.DB, id uint32) (column uint32, steps map[string]ddl.Step, err error) {
	err = standing.Reading(ctx, db, "5s", func(tx pg.Tx) error {
		x, found, err := lifecycle.IndexByID(ctx, tx, id)
		if err != nil || !found || x.State != lifecycle.IndexReady {
			return err // another build has its turn before it is ready
		}
		of, err := lifecycle.ColumnByID(ctx, tx, x.Column)
		if err != nil {
			return err
		}
		c, err := find(ctx, tx, standing.Name{Schema: of.Table.Schema, Table: of.Table.Name, Column: of.Source})
		if err != nil {
			return err
		}
		_, tokens, err := place(ctx, tx, c, x)
		if err != nil || tokens == "" {
			return err
		}
		key, err := c.key(ctx, tx)
		if err != nil {
			return err
		}
		missing, _, err := lacking(ctx, tx, parts(c.Relation, c.steps(x, tokens, key.Names())), ddl.Token.ListName)
		column, steps = x.Column, map[string]ddl.Step{}
		for _, one := range missing {
			steps[one.ListName()] = one.List()
		}
		return err
	})
	return column, steps, err
}
