package index

import (
	"cmp"
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
	now, err := standing.Inspect(ctx, q, c.Relation.Schema, c.Relation.Name)
	if err == nil && now.OID != c.Relation.OID {
		err = standing.Clash("table", "ask for the same again, under the table's present name", "%s is another table now", c.Relation.Table())
	}
	if err != nil {
		return nil, err
	}
	return parts(now, steps), nil
}

const listsSQL = `SELECT p.name FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.text[])) AS p (relid, name)
 JOIN pg_catalog.pg_index i ON i.indrelid OPERATOR(pg_catalog.=) p.relid JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) i.indexrelid AND r.relname OPERATOR(pg_catalog.=) p.name::pg_catalog.name
 WHERE i.indisvalid AND i.indisready AND i.indislive`

// unlisted are the parts whose index of the rows that lack their token is not there, or not valid.
func unlisted(ctx context.Context, q pg.Querier, all []part) ([]part, error) {
	relations, names := make([]uint32, len(all)), make([]string, len(all))
	for i, one := range all {
		relations[i], names[i] = one.relation, one.ListName()
	}
	valid, err := pg.Values[string](ctx, q, listsSQL, relations, names)
	if err != nil {
		return nil, fmt.Errorf("look for the indexes of partitions: %w", err)
	}
	return slices.DeleteFunc(all, func(one part) bool { return slices.Contains(valid, one.ListName()) }), nil
}

// statements are what makes the index that lookups use, as far as it is not there.
func (p *BuildPlan) statements(ctx context.Context, q pg.Querier) (list []string, err error) {
	switch p.Index.Built {
	case BuiltValid:
		return nil, nil
	case BuiltMissing:
		if err := mustBeFree(ctx, q, p.steps); err != nil {
			return nil, err
		}
	}
	if !p.column.Relation.IsPartitioned {
		if p.Index.Built == BuiltInvalid {
			list = append(list, p.steps.Build().Undo...)
		}
		return append(list, p.steps.Build().Do...), nil
	}
	if p.Index.Built == BuiltInvalid {
		list = append(list, p.steps.Join().Undo...) // and every partition's with it
	}
	missing, states, err := p.unbuilt(ctx, q, parts(p.column.Relation, p.steps))
	if err != nil {
		return nil, err
	}
	for i, one := range missing {
		if states[i] == BuiltInvalid {
			list = append(list, one.Build().Undo...)
		}
		list = append(list, one.Build().Do...)
	}
	return append(list, p.steps.Join().Do...), nil
}

// indexedSQL are the indexes that Postgres would make parts of the one over all partitions, whatever their names: those of
// the tokens alone, that no index over all partitions has already. Alone: part of none.
const indexedSQL = `SELECT i.indrelid, n.nspname::text, r.relname::text, i.indisvalid AND i.indisready AND i.indislive, NOT r.relispartition FROM pg_partition_tree($1) t
 JOIN pg_constraint k ON k.conrelid = t.relid AND k.contype = 'c' AND k.conname = $2 JOIN pg_index i ON i.indrelid = t.relid AND NOT i.indisunique
 JOIN pg_class r ON r.oid = i.indexrelid AND ` + plainIndex + ` JOIN pg_namespace n ON n.oid = r.relnamespace
 JOIN pg_index top ON top.indexrelid = coalesce(pg_partition_root(i.indexrelid), i.indexrelid) WHERE top.indrelid <> $1`

// unbuilt are the parts that have no index yet which can be one of the index over all partitions, and what stands of each.
// A [*standing.Refusal] if somebody else's would be taken that is not valid: that over all would not be valid either.
func (p *BuildPlan) unbuilt(ctx context.Context, q pg.Querier, all []part) (list []part, states []string, err error) {
	rows, err := q.Query(ctx, indexedSQL, p.column.Relation.OID, ddl.TokenCheckName(p.row.ID))
	if err != nil {
		return nil, nil, fmt.Errorf("look for the indexes of partitions: %w", pg.Safe(err))
	}
	var of uint32
	var index pg.Table
	var valid, alone bool
	state, wrong := map[uint32]string{}, ""
	_, err = pgx.ForEachRow(rows, []any{&of, &index.Schema, &index.Name, &valid, &alone}, func() error {
		ours := slices.ContainsFunc(all, func(one part) bool { return one.relation == of && one.IndexName() == index.Name })
		switch {
		case ours && !valid: // beside another, too: Postgres takes the oldest
			state[of] = BuiltInvalid
		case valid && state[of] == "":
			state[of] = BuiltValid
		case !valid && alone:
			wrong = index.SQL()
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for the indexes of partitions: %w", pg.Safe(err))
	}
	if wrong != "" {
		return nil, nil, standing.Refuse("index", "DROP INDEX "+wrong+" takes it away; if somebody builds it just now, wait for its end. Then ask for the same again",
			"index %s of the same tokens is not valid: the one over all partitions would take it, and not be valid either", wrong)
	}
	var missing []ddl.Token
	for _, one := range all {
		is := cmp.Or(state[one.relation], BuiltMissing)
		if is == BuiltMissing {
			missing = append(missing, one.Token)
		}
		if is != BuiltValid {
			list, states = append(list, one), append(states, is)
		}
	}
	return list, states, mustBeFree(ctx, q, missing...)
}

// makeParts has every partition get its index, one after the other, beside readers and writers, and then the table the
// one that they are parts of. What was built stays if a later one fails, or the process is killed: the next build goes on
// behind it. A partition that comes meanwhile is one more, one that goes keeps what it has.
func (r *Registry) makeParts(ctx context.Context, conn *pg.Conn, p BuildPlan) error {
	if err := r.unjoin(ctx, p); err != nil {
		return standing.Settled(p.column.Standing, err)
	}
	for {
		all, err := p.column.partsAt(ctx, r.DB, p.steps)
		if err != nil {
			return err
		}
		missing, _, err := p.unbuilt(ctx, r.DB, all)
		if err != nil {
			return err
		}
		for _, one := range missing {
			if err := r.create(ctx, conn, one.Build()); err != nil && !r.left(ctx, p, one) {
				return err
			}
		}
		if err = r.join(ctx, p); errors.Is(err, errUnbuilt) {
			continue
		}
		if _, gone := p.column.partsAt(ctx, r.DB, p.steps); err != nil && gone != nil {
			return gone
		}
		return standing.Settled(p.column.Standing, err)
	}
}

// left says that a partition is none of the table's any more, or has another name.
func (r *Registry) left(ctx context.Context, p BuildPlan, one part) bool {
	all, err := p.column.partsAt(ctx, r.DB, p.steps)
	return err == nil && !slices.ContainsFunc(all, func(now part) bool { return now.relation == one.relation && now.Table == one.Table })
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
		all, err := p.column.partsAt(ctx, tx, p.steps) // the lock is of whatever has the table's name now
		if err != nil {
			return err
		}
		missing, _, err := p.unbuilt(ctx, tx, all)
		if err == nil && len(missing) > 0 {
			err = errUnbuilt
		}
		if err != nil {
			return err
		}
		return standing.Each(ctx, tx, p.steps.Join().Do)
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
		missing, err := unlisted(ctx, tx, parts(c.Relation, c.steps(x, tokens, key.Names())))
		column, steps = x.Column, map[string]ddl.Step{}
		for _, one := range missing {
			steps[one.ListName()] = one.List()
		}
		return err
	})
	return column, steps, err
}
