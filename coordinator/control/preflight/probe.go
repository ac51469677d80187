package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// probe has an expression read by Postgres itself, on an empty copy of the table that only this transaction sees, and
// that is gone with it. A CHECK lets in what may stand in an expression over one row, and nothing else; what Postgres
// made of it is printed back, so that nothing in it depends on where it stood.
type probe struct {
	tx    pg.Tx
	plan  Plan
	field string
}

// probeRow is the empty copy's name.
func probeRow() pg.Table { return pg.Table{Schema: "pg_temp", Name: "cipherfleet_row"} }

var errProbed = errors.New("the expressions were read")

// readExpressions reads those of the plan, and completes its columns.
func (p *look) readExpressions(ctx context.Context, db *pg.DB) error {
	for i := range p.plan.Columns {
		c := &p.plan.Columns[i]
		if !c.Made() && c.where == "" {
			continue
		}
		err := db.InTx(ctx, func(tx pg.Tx) error {
			b := &probe{tx: tx, plan: p.plan, field: columnsField(i)}
			if err := b.run(ctx, c); err != nil {
				return err
			}
			return errProbed
		})
		if !errors.Is(err, errProbed) {
			return err
		}
		seemed := c.Guarded
		c.Guarded = c.Registered.ID != 0 && !c.Add && guarded(p.plan.Relation, c.Steps(p.plan, c.Registered.ID))
		if c.Guarded && c.Where != nil {
			conditions, err := standing.ReadConditions(ctx, db)
			if err != nil {
				return err
			}
			c.Guarded = conditions.Within(p.plan.Relation, c.Registered.ID, c.Where) != nil
		}
		if seemed && !c.Guarded && !p.plan.Relation.Privileges.Owner {
			return standing.Deny("table", "run this once as the owner of the table: it makes the triggers of another expression or condition",
				"role %q may not alter %s", p.plan.Relation.Server.User, p.plan.Relation.Table())
		}
	}
	return nil
}

// guarded says that a column's check is validated, where it has one, and its capture is as this version installs it:
// enabled always.
func guarded(r pg.Relation, steps ddl.Column) bool {
	checked := slices.ContainsFunc(r.Checks, func(c pg.Check) bool { return c.Name == ddl.CheckName(steps.ID) && c.Validated })
	guards, capturing := steps.Guards(), 0
	for _, t := range r.Triggers {
		if standing.IsOurs(t) && t.Table.OID == r.OID && t.Enabled == "A" && steps.IsGuard(t) {
			capturing++
		}
	}
	return (checked || steps.InPlace()) && len(guards) > 0 && capturing == len(guards)
}

func (b *probe) run(ctx context.Context, c *Column) error {
	for _, sql := range []string{patienceSQL, pg.Pinned, `SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)`} {
		if _, err := b.tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("begin to read an expression: %w", err)
		}
	}
	if r := b.plan.Relation; !r.Privileges.Version { // which is the right to read all of it
		return standing.Deny("table", "GRANT SELECT ON TABLE "+r.Table().SQL()+" TO "+pg.Ident(r.Server.User), "role %q may not read %s, of which expressions are read on a copy", r.Server.User, r.Table())
	}
	if _, err := b.tx.Exec(ctx, "CREATE TEMPORARY TABLE cipherfleet_row (LIKE "+b.plan.Relation.Table().SQL()+") ON COMMIT DROP"); err != nil {
		if pg.ClassOf(err) == pg.ClassDenied {
			s := b.plan.Relation.Server
			return standing.Deny("", "GRANT TEMPORARY ON DATABASE "+pg.Ident(s.Database)+" TO "+pg.Ident(s.User), "role %q may not make a temporary table, on which expressions are read", s.User)
		}
		return fmt.Errorf("copy the shape of %s: %w", b.plan.Relation.Table(), err)
	}
	if c.where != "" {
		return b.readWhere(ctx, c)
	}
	return b.readExpression(ctx, c)
}

func (b *probe) readExpression(ctx context.Context, c *Column) error {
	row := probeRow().SQL()
	e := &ddl.Expression{Version: c.made.Done.Version, Number: c.made.Done.Number}
	var err error
	if e.SQL, e.Inputs, e.Volatile, err = b.read(ctx, "expression", c.made.Expression, "IS NULL"); err != nil {
		return err
	}
	if c.made.Done.When != "" {
		if e.When, e.Judges, _, err = b.read(ctx, "done.when", c.made.Done.When, "IS TRUE"); err != nil {
			return err
		}
	}
	if e.Volatile && e.Version == "" {
		return standing.Refuse(b.field+".expression", "say which rows are done by a version column (done: {version, number}), or make it of the row's columns alone",
			"the expression makes another value each time it is asked: nothing in the row would say that it is done")
	}
	if e.Type, err = b.targetType(ctx, row, e.SQL, c); err != nil {
		return err
	}
	c.Expression = e
	return b.rehearse(ctx, "expression", c)
}

// ownSQL is whether a function of this session refers to the copy, or to what is made for a column: the one is gone with
// the transaction, and the other when it is made anew.
const ownSQL = `SELECT EXISTS (SELECT FROM pg_depend d JOIN pg_proc f ON f.oid = d.objid
  LEFT JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid LEFT JOIN pg_type t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid
  LEFT JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
 WHERE d.classid = 'pg_proc'::regclass AND f.pronamespace = pg_my_temp_schema()
  AND coalesce(c.relnamespace, t.typnamespace, p.pronamespace) IN (pg_my_temp_schema(), to_regnamespace('cipherfleet')::oid))`

// rehearse makes the functions that hold what was read, for this transaction.
func (b *probe) rehearse(ctx context.Context, part string, c *Column) error {
	steps := c.Steps(b.plan, c.Registered.ID)
	steps.Table = probeRow()
	for _, sql := range steps.Rehearse() {
		if _, err := b.tx.Exec(ctx, sql); err != nil {
			return b.refusal(part, err)
		}
	}
	own := false
	if err := b.tx.QueryRow(ctx, ownSQL).Scan(&own); err != nil {
		return fmt.Errorf("look at what an expression refers to: %w", err)
	}
	if own {
		return standing.Refuse(b.field+"."+part, "name columns of the table, and functions and types of your own", "it names what is cipherfleet's own")
	}
	return nil
}

const (
	readBackSQL = `SELECT pg_catalog.pg_get_expr(k.conbin, k.conrelid), coalesce(k.conkey, '{}'),
 k.conbin::text ~ '[{](SQLVALUEFUNCTION|NEXTVALUEEXPR) ' OR EXISTS (SELECT FROM regexp_matches(k.conbin::text, ':(?:funcid|opfuncid) ([0-9]+)', 'g') m
  JOIN pg_proc f ON f.oid = m[1]::oid WHERE f.provolatile = 'v' OR f.pronamespace = 'pg_catalog'::regnamespace
   AND (f.proname IN ('now', 'transaction_timestamp', 'statement_timestamp', 'current_setting', 'txid_current', 'pg_current_xact_id') OR f.proname = 'age' AND f.pronargs = 1))
 FROM pg_constraint k WHERE k.conrelid = 'pg_temp.cipherfleet_row'::regclass AND k.conname = 'cipherfleet_probe'`
	inputsSQL = `SELECT a.attname::text, CASE WHEN a.attcollation <> t.typcollation THEN format('%I.%I', n.nspname, c.collname) ELSE '' END
 FROM unnest($1::int2[]) WITH ORDINALITY AS k (attnum, n) JOIN pg_attribute a ON a.attrelid = 'pg_temp.cipherfleet_row'::regclass AND a.attnum = k.attnum
 JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation c ON c.oid = a.attcollation LEFT JOIN pg_namespace n ON n.oid = c.collnamespace ORDER BY a.attnum`
)

// read has one text read, with a test behind it that makes a condition of it. It is what Postgres prints, the columns it
// reads, and whether it may be another value the next time.
func (b *probe) read(ctx context.Context, part, text, test string) (sql string, inputs []ddl.Input, volatile bool, err error) {
	field := b.field + "." + part
	if _, err := b.tx.Exec(ctx, "ALTER TABLE "+probeRow().SQL()+" ADD CONSTRAINT cipherfleet_probe CHECK ((\n"+text+"\n) "+test+")"); err != nil {
		return "", nil, false, b.refusal(part, err)
	}
	var attnums []int16
	if err := b.tx.QueryRow(ctx, readBackSQL).Scan(&sql, &attnums, &volatile); err != nil {
		return "", nil, false, fmt.Errorf("read an expression back: %w", err)
	}
	sql, opened := strings.CutPrefix(sql, "(")
	sql, closed := strings.CutSuffix(sql, " "+test+")")
	switch {
	case !opened || !closed:
		return "", nil, false, standing.Reject(field, "write it as one value", "it is not one expression")
	case slices.ContainsFunc(attnums, func(n int16) bool { return n <= 0 }):
		return "", nil, false, standing.Reject(field, "name the columns that it reads", "it reads the row as a whole, or a system column")
	}
	if inputs, err = b.inputs(ctx, field, attnums); err != nil {
		return "", nil, false, err
	}
	_, err = b.tx.Exec(ctx, "ALTER TABLE "+probeRow().SQL()+" DROP CONSTRAINT cipherfleet_probe")
	return sql, inputs, volatile, err
}

// inputs are the columns of these numbers in the copy, by their numbers in the table.
func (b *probe) inputs(ctx context.Context, field string, attnums []int16) (inputs []ddl.Input, err error) {
	rows, err := b.tx.Query(ctx, inputsSQL, attnums)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var in ddl.Input
		if err := rows.Scan(&in.Name, &in.Collation); err != nil {
			return nil, pg.Safe(err)
		}
		column, found := b.plan.Relation.Column(in.Name)
		switch {
		case !found:
			return nil, standing.Refuse(field, "ask for the same again", "%s was altered meanwhile", b.plan.Relation.Table())
		case column.Generated != "":
			return nil, standing.Refuse(field, "name the columns that it is computed from", "column %q is generated: it is computed after triggers have seen the row", in.Name)
		case !column.MaySelect:
			return nil, standing.Deny(field, "GRANT SELECT ON TABLE "+b.plan.Relation.Table().SQL()+" TO "+pg.Ident(b.plan.Relation.Server.User),
				"role %q may not read column %q of %s", b.plan.Relation.Server.User, in.Name, b.plan.Relation.Table())
		}
		in.Attnum = column.Attnum
		inputs = append(inputs, in)
	}
	return inputs, pg.Safe(rows.Err())
}

const typeOfSQL = `SELECT pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute WHERE attrelid = $1::pg_catalog.regclass AND attname = $2 AND NOT attisdropped`

const moreSQL = `SELECT pg_catalog.format_type(atttypid, atttypmod), atthasdef OR attnotnull OR attidentity <> '' OR attgenerated <> ''
 OR attcollation <> (SELECT typcollation FROM pg_catalog.pg_type WHERE oid = atttypid)
 FROM pg_catalog.pg_attribute WHERE attrelid = 'pg_temp.cipherfleet_value'::pg_catalog.regclass AND attname = 'asked'`

// targetType is the type of the target: its own, or the one that it is to be added with. A type that is asked for must be
// that one; without any it is the expression's.
func (b *probe) targetType(ctx context.Context, row, sql string, c *Column) (is string, err error) {
	if _, err := b.tx.Exec(ctx, "CREATE TEMPORARY TABLE cipherfleet_value ON COMMIT DROP AS SELECT ("+sql+") AS value FROM "+row+" WITH NO DATA"); err != nil {
		return "", b.refusal("expression", err)
	}
	if err := b.tx.QueryRow(ctx, typeOfSQL, "pg_temp.cipherfleet_value", "value").Scan(&is); err != nil {
		return "", fmt.Errorf("read the type of an expression: %w", err)
	}
	if asked := c.made.Type; asked != "" {
		if _, err := b.tx.Exec(ctx, "ALTER TABLE pg_temp.cipherfleet_value ADD COLUMN asked "+asked); err != nil {
			return "", b.refusal("type", err)
		}
		isMore := false
		if err := b.tx.QueryRow(ctx, moreSQL).Scan(&is, &isMore); err != nil {
			return "", fmt.Errorf("read a type: %w", err)
		}
		if isMore {
			return "", standing.Reject(b.field+".type", "leave out what is behind the type", "it is more than a type")
		}
	}
	if c.Add {
		c.targetType = is
		_, err := b.tx.Exec(ctx, "ALTER TABLE "+row+" ADD COLUMN "+pg.Ident(c.Target.Name)+" "+is)
		return is, err
	}
	has := ""
	if err := b.tx.QueryRow(ctx, typeOfSQL, row, c.Target.Name).Scan(&has); err != nil {
		return "", fmt.Errorf("read the type of %s: %w", c.Target.Name, err)
	}
	if c.made.Type != "" && is != has {
		return "", standing.Refuse(b.field+".type", "leave the type out: the target is there", "target %q has type %s, not %s", c.Target.Name, has, is)
	}
	return has, nil
}

// refusal says why Postgres does not take a text. Its own words may quote what stands in it.
func (b *probe) refusal(part string, err error) error {
	field := b.field + "." + part
	code := pg.Code(err)
	why, hint := "", "try it in psql, under SET search_path = pg_catalog: SELECT (...) FROM "+b.plan.Relation.Table().SQL()
	switch code {
	case "":
		return err
	case "55P03", "57014":
		return fmt.Errorf("read an expression: %w", err)
	case "42703":
		why, hint = "it names a column that the table does not have", "names are taken literally by nobody but Postgres: quote those with upper case"
	case "42883", "42725":
		why, hint = "it calls a function or an operator that is not there for these types", "write the schema before functions of your own, and cast what needs it"
	case "42P02":
		why, hint = "it holds a parameter: nothing is put in its place", "write the value itself"
	case "42P10":
		why, hint = "it reads a system column", "name columns of the table"
	case "42P01":
		why, hint = "it names a table", "it reads one row of the table: name its columns alone"
	case "42803", "42P20", "0A000":
		why, hint = "it holds an aggregate, a window function, a subquery, or a function that returns several rows", "it is asked for one row at a time; put what needs other rows into a function of your own"
		if part == "where" {
			hint = "name columns of the row alone: a row comes in or goes out by being written, and in no other way"
		}
	case "42704":
		why, hint = "it names a type that is not there", "write the schema before types that are not Postgres's own"
	case "42804", "42846", "42P13":
		if part == "where" {
			why, hint = "it is no condition", "write what is true or false of a row"
			break
		}
		why, hint = "its type does not go into the target's", "cast it to the target's type"
	case "42601":
		why = "it is not one expression of SQL"
	case "42501":
		why, hint = "it needs a right that this role does not have", "GRANT EXECUTE on its functions, to the workers too"
	}
	if why == "" {
		why = "Postgres does not take it"
	}
	return standing.Refuse(field, hint, "%s (SQLSTATE %s)", why, code)
}
