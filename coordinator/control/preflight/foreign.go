package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Foreign says that a user's own encrypter, or an encrypting proxy, makes the column's values.
func (c Column) Foreign() bool { return c.External.Foreign() }

// Foreign says that one of the columns is made by a user's own encrypter, who is asked over NATS.
func (p Plan) Foreign() bool { return slices.ContainsFunc(p.Columns, Column.Foreign) }

// Steps is the column as package ddl takes it.
func (c Column) Steps(p Plan, id uint32) ddl.Column {
	types := ddl.TypesOf(p.Relation.Columns...)
	if c.Add && !c.Made() { // as it will be, so that what is installed is what is looked for later
		switch {
		case c.payload == ddl.PayloadBytea, c.payload == ddl.PayloadCell && c.form == cell.FormBytes:
			types[c.Target.Name] = pgtype.ByteaOID
		case c.payload == ddl.PayloadText, c.payload == ddl.PayloadCell && c.form == cell.FormText:
			types[c.Target.Name] = pgtype.TextOID
		}
	}
	return ddl.Column{ID: id, Table: p.Relation.Table(), Source: c.Source.Name, Target: c.Target.Name, Key: p.Key.Names(), Beside: c.Origin.Names(), Expression: c.Expression, Where: c.Where, Nulls: c.nulls,
		Form: c.form, Payload: c.payload, TargetType: c.targetType, BytesInBytes: c.payload == ddl.PayloadBytea && c.Source.Base.OID == pgtype.ByteaOID,
		Long: c.long, Types: types}
}

// Encrypter is what a job's spec says of the column's encrypter.
func (c Column) Encrypter(p Plan) work.External {
	e := c.External
	if c.Foreign() && e.Target == "" {
		e.Table, e.Target = p.Relation.Table(), c.Target.Name
	}
	return e
}

const hasSchemeSQL = `SELECT EXISTS (SELECT FROM cipherfleet.schemes WHERE column_id = $1)`

// checkMaker settles who makes a column's values: who is asked for, else who did before. One target never holds both
// cells and what somebody else made.
func (p *look) checkMaker(ctx context.Context, i int, registered []lifecycle.Column) (e work.External, err error) {
	asked, field := p.request.Columns[i], columnsField(i)
	e.Subject, e.Key, e.Proxy = asked.External.Subject, asked.External.Key, asked.Transform == messages.TransformProxy
	source, found := p.plan.Relation.Column(asked.Source)
	at := slices.IndexFunc(registered, func(r lifecycle.Column) bool { return found && r.SourceNum == source.Attnum })
	if at < 0 {
		return e, nil
	}
	last, own, err := p.maker(ctx, registered[at].ID)
	if err != nil {
		return e, err
	}
	if last := last.External; last.Foreign() {
		switch asked.Transform {
		case messages.TransformEncrypt:
			return e, standing.Clash(field+".transform", "leave --transform out, or take the column back with cipherfleet rollback first",
				"the values of %q are made by %s", asked.Source, last.Name())
		case messages.TransformExternal, messages.TransformProxy:
			last.Subject, last.Key, last.Proxy = e.Subject, e.Key, e.Proxy
		}
		return last, nil
	}
	if last.ID == 0 && !own && !asked.Made() {
		if err := p.checkPrepared(field, registered[at], e); err != nil {
			return e, err
		}
	}
	if own && e.Foreign() {
		return e, standing.Clash(field+".transform", "leave --transform out, or take the column back with cipherfleet rollback and name another target",
			"the values of %q are cells of cipherfleet's", asked.Source)
	}
	return e, nil
}

// checkPrepared refuses to make cells where a column that no job went over yet was prepared for what an encrypter makes,
// and the reverse: the CHECK tells.
func (p *look) checkPrepared(field string, r lifecycle.Column, e work.External) error {
	target := p.plan.Relation.ColumnAt(r.TargetNum)
	at := slices.IndexFunc(p.plan.Relation.Checks, func(c pg.Check) bool { return c.Name == ddl.CheckName(r.ID) })
	if at < 0 || target.Attnum == 0 {
		return nil
	}
	cells := ddl.Column{ID: r.ID, Target: target.Name, Form: ddl.FormOf(target)}.IsCheck(p.plan.Relation.Checks[at].SQL)
	if cells != e.Foreign() {
		return nil
	}
	wanted, is := "cells", "what an encrypter of your own makes"
	if cells {
		wanted, is = is, wanted
	}
	return standing.Clash(field+".transform", fmt.Sprintf("name that with --transform, or in the manifest, or begin again: cipherfleet rollback takes the CHECK of %q away", target.Name),
		"column %q was prepared for %s, not for %s", r.Source, is, wanted)
}

// checkUnwatched refuses to go on with what an encrypter made before a time in which a source could change unnoticed:
// nobody here can compare it.
func (p *look) checkUnwatched(ctx context.Context, i int, c Column) error {
	if !c.Foreign() || c.Registered.ID == 0 || c.Add {
		return nil
	}
	state, err := p.latest(ctx, c.Registered)
	if err != nil && !errors.Is(err, lifecycle.ErrImpossible) {
		return fmt.Errorf("preflight: %w", err)
	}
	if !state.Unnoticed && (c.Guarded || state.Watched.IsZero()) {
		return nil
	}
	column := standing.Name{Schema: p.plan.Relation.Schema, Table: p.plan.Relation.Name, Column: c.Source.Name}
	return standing.Refuse(columnsField(i)+".source", fmt.Sprintf("%s --drop-target has all of it made anew by the backfill after it; or, if you know that no value changed, %s records that it stays",
		column.Command("rollback"), strings.Join(append([]string{"cipherfleet", "verify"}, column.Flags()...), " ")),
		"values of %q could change unnoticed beside what %s made of them, and cipherfleet cannot compare those", c.Source.Name, c.External.Name())
}

// checkProxied refuses what cannot be written through a proxy: it knows tables and columns by their names, and one
// statement goes either through it or past it.
func (p *look) checkProxied(context.Context) error {
	at := slices.IndexFunc(p.plan.Columns, func(c Column) bool { return c.External.Proxy })
	switch {
	case at < 0:
		return nil
	case p.plan.Relation.IsPartitioned || p.plan.Relation.IsPartition:
		return standing.Refuse("table", "take transform external, with an encrypter of your own",
			"%s is partitioned: its rows are written partition by partition, by names that no encrypting proxy knows", p.plan.Relation.Table())
	}
	if other := slices.IndexFunc(p.plan.Columns, func(c Column) bool { return !c.External.Proxy }); other >= 0 {
		return standing.Refuse(columnsField(other), "do them one after the other, in a job for each", "column %q is not written through the encrypting proxy, and %q is",
			p.plan.Columns[other].Source.Name, p.plan.Columns[at].Source.Name)
	}
	return nil
}

// maker is who made a column's values in its last job, if there was one, and whether the column has a scheme of its own.
func (p *look) maker(ctx context.Context, id uint32) (last work.Column, own bool, err error) {
	if p.makers != nil {
		last, own = p.makers(id)
		return last, own, nil
	}
	if last, err = standing.SpecOf(ctx, p.q, id); err != nil || last.Foreign() {
		return last, false, err
	}
	if err := p.q.QueryRow(ctx, hasSchemeSQL, id).Scan(&own); err != nil {
		return last, false, fmt.Errorf("preflight: %w", err)
	}
	return last, own, nil
}

// checkForeignTarget refuses a target that cannot hold what an encrypter makes, or is to be added with no such type.
func (p *look) checkForeignTarget(ctx context.Context, i int, c *Column) error {
	asked, field := p.request.Columns[i], columnsField(i)
	if !c.Add {
		payload, fits := shape.PayloadOf(c.Target)
		if !fits {
			return standing.Refuse(field+".target", "name another target, or leave it out and let --prepare add one", "target %q has type %s, accepted is %s",
				c.Target.Name, c.Target.Type, strings.Join(messages.TargetTypes(), ", "))
		}
		if asked.Type != "" && asked.Type != string(payload) {
			return standing.Refuse(field+".type", "leave --type out: the target is there", "target %q has type %s, not %s", c.Target.Name, c.Target.Type, asked.Type)
		}
		if c.payload = payload; payload == ddl.PayloadEQL {
			return p.checkEQL(ctx, field+".target", c.Target.TypeOID, c.Target.Type)
		}
		return nil
	}
	switch asked.Type {
	case "", "bytea":
		c.payload, c.targetType = ddl.PayloadBytea, "pg_catalog.bytea"
	case shape.EQLType:
		return p.findEQL(ctx, field+".type", c)
	default:
		c.payload, c.targetType = ddl.Payload(asked.Type), "pg_catalog."+asked.Type
	}
	return nil
}

// eqlTypesSQL finds the composite types of that name, and says whether each is a jsonb called data and nothing else.
const eqlTypesSQL = `SELECT t.oid, format('%I.%I', n.nspname, t.typname),
 (SELECT array_agg(concat(a.attname, ' ', a.atttypid::regtype) ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) = ARRAY['data jsonb']
 FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typname = $1 AND t.typtype = 'c'`

type eqlFound struct {
	oid  uint32
	name string
	fits bool
}

func (p *look) eqlTypes(ctx context.Context) ([]eqlFound, error) {
	rows, err := p.q.Query(ctx, eqlTypesSQL, shape.EQLType)
	if err != nil {
		return nil, fmt.Errorf("preflight: %w", err)
	}
	defer rows.Close()
	var found []eqlFound
	for rows.Next() {
		var f eqlFound
		if err := rows.Scan(&f.oid, &f.name, &f.fits); err != nil {
			return nil, pg.Safe(err)
		}
		found = append(found, f)
	}
	return found, pg.Safe(rows.Err())
}

func (p *look) checkEQL(ctx context.Context, field string, oid uint32, name string) error {
	types, err := p.eqlTypes(ctx)
	if err != nil || slices.ContainsFunc(types, func(f eqlFound) bool { return f.oid == oid && f.fits }) {
		return err
	}
	return standing.Refuse(field, "install EQL 2, or name another target", "type %s is not a jsonb called data, as EQL 2 makes it", name)
}

// findEQL settles which type a target is added with.
func (p *look) findEQL(ctx context.Context, field string, c *Column) error {
	types, err := p.eqlTypes(ctx)
	switch {
	case err != nil:
		return err
	case len(types) == 0:
		return standing.Refuse(field, "install EQL in this database first, or take --type jsonb", "there is no type %s", shape.EQLType)
	case len(types) > 1:
		return standing.Refuse(field, "add the target yourself, with the one that is meant", "there are types %s and %s", types[0].name, types[1].name)
	case !types[0].fits:
		return standing.Refuse(field, "install EQL 2, or take --type jsonb", "type %s is not a jsonb called data, as EQL 2 makes it", types[0].name)
	}
	c.payload, c.targetType = ddl.PayloadEQL, types[0].name
	return nil
}

// Unproxied is the refusal of a plan that wants an encrypting proxy where none is configured; nil if it wants none.
func Unproxied(plan Plan) error {
	at := slices.IndexFunc(plan.Columns, func(c Column) bool { return c.External.Proxy })
	if at < 0 {
		return nil
	}
	return standing.Refuse(columnsField(at)+".transform", "set CIPHERFLEET_PROXY_URL to the proxy's address and this database's name, for coordinator and workers",
		"column %q is written through an encrypting proxy, and CIPHERFLEET_PROXY_URL is not set", plan.Columns[at].Source.Name)
}

// Unreachable is the refusal of a plan whose encrypter is to be asked where there is no NATS that it could listen on;
// nil if it needs none.
func Unreachable(plan Plan) error {
	at := slices.IndexFunc(plan.Columns, func(c Column) bool { return c.External.Subject != "" })
	if at < 0 {
		return nil
	}
	return standing.Refuse(columnsField(at)+".external.subject", "set NATS_URL to the NATS that the encrypter listens on, and have a coordinator and workers there",
		"column %q is made by the encrypter on %s, and there is no NATS to ask it over", plan.Columns[at].Source.Name, plan.Columns[at].External.Subject)
}

func columnsField(i int) string { return fmt.Sprintf("columns[%d]", i) }

// Payload is what the column's target holds, if it is no cell.
func (c Column) Payload() ddl.Payload { return c.payload }
