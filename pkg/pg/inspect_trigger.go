package pg

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Check is a CHECK constraint.
type Check struct {
	Name      string
	Columns   []string // those its expression names
	Validated bool     // false: rows that were there before it may break it
	SQL       string   // the expression as Postgres prints it
}

// Rule is a rewrite rule of the relation or of a leaf, other than a view's own.
type Rule struct {
	Table   Named
	Name    string
	Event   string // SELECT, UPDATE, INSERT, DELETE
	Enabled string // O by origin, A always, R in replica mode only, D never
	Instead bool
}

// Trigger is a trigger that a person made, on the relation or on a leaf. The copies that partitions inherit are not
// repeated, unless one is enabled differently from its original.
type Trigger struct {
	Table    Named
	Name     string
	Function string   // qualified and quoted
	Body     string   // of the function, as it was written
	Enabled  string   // O by origin, A always, R in replica mode only, D never
	Timing   string   // BEFORE, AFTER, INSTEAD OF
	Row      bool     // FOR EACH ROW, else for each statement
	Events   []string // INSERT, UPDATE, DELETE, TRUNCATE
	Columns  []string // of UPDATE OF; empty means every column
	When     bool     // it has a condition
	Reads    []string // columns that the condition names, and those of UPDATE OF; in the table's order
	Parent   bool     // on a partitioned table: its row triggers fire in the leaves, its statement triggers only through it

	Condition string     // what WHEN asks, as Postgres prints it; "" without a condition
	Asks      []Function // that the condition calls, but for Postgres's own
}

// Function is one of SQL.
type Function struct {
	Name   string // qualified and quoted
	Body   string // as it was written
	Strict bool   // of NULL it makes NULL, without being asked
}

// conditionOf is what stands in WHEN of a trigger's printed definition.
func conditionOf(definition string) string {
	_, condition, found := strings.Cut(definition, " WHEN (")
	end := strings.LastIndex(condition, ") EXECUTE FUNCTION ")
	if !found || end < 0 {
		return ""
	}
	return condition[:end]
}

// FiresOnUpdate says whether an UPDATE of the leaves that sets just these columns fires the trigger, in a session of
// the default replication role. A condition is taken to hold.
func (t Trigger) FiresOnUpdate(columns ...string) bool {
	if t.Enabled != "O" && t.Enabled != "A" || !slices.Contains(t.Events, "UPDATE") || t.Parent && !t.Row {
		return false
	}
	return len(t.Columns) == 0 || slices.ContainsFunc(columns, func(c string) bool { return slices.Contains(t.Columns, c) })
}

const checksSQL = `
SELECT k.conname::text,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) ORDER BY a.attnum),
       k.convalidated, coalesce(pg_catalog.pg_get_expr(k.conbin, k.conrelid), '')
FROM pg_catalog.pg_constraint k WHERE k.conrelid = $1::pg_catalog.oid AND k.contype = 'c' ORDER BY k.conname`

func inspectChecks(ctx context.Context, q Querier, all []*Relation) error {
	found, err := readEach(ctx, q, checksSQL, func(row pgx.CollectableRow) (c Check, err error) {
		return c, row.Scan(&c.Name, &c.Columns, &c.Validated, &c.SQL)
	}, all)
	if err != nil {
		return fmt.Errorf("read constraints: %w", err)
	}
	for _, r := range all {
		r.Checks = found[r.OID]
	}
	return nil
}

const rulesSQL = `
SELECT c.oid, n.nspname::text, c.relname::text, w.rulename::text,
       CASE w.ev_type WHEN '1' THEN 'SELECT' WHEN '2' THEN 'UPDATE' WHEN '3' THEN 'INSERT' ELSE 'DELETE' END, w.ev_enabled::text, w.is_instead
FROM ` + treeSQL + ` tree
     JOIN pg_catalog.pg_rewrite w ON w.ev_class = tree.oid
     JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE w.rulename <> '_RETURN' ORDER BY c.oid, w.rulename`

func inspectRules(ctx context.Context, q Querier, all []*Relation) error {
	found, err := readEach(ctx, q, rulesSQL, func(row pgx.CollectableRow) (u Rule, err error) {
		return u, row.Scan(&u.Table.OID, &u.Table.Schema, &u.Table.Name, &u.Name, &u.Event, &u.Enabled, &u.Instead)
	}, all)
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	for _, r := range all {
		r.Rules = found[r.OID]
	}
	return nil
}

// tgtype's bits: 1 row, 2 before, 4 insert, 8 delete, 16 update, 32 truncate, 64 instead. Postgres 14 calls a
// partition's copy of a trigger internal, so that flag alone cannot tell a person's trigger from a constraint's.
const triggersSQL = `
SELECT c.oid, n.nspname::text, c.relname::text, t.tgname::text, pg_catalog.format('%I.%I', fn.nspname, f.proname), f.prosrc, t.tgenabled::text,
       CASE WHEN t.tgtype & 64 <> 0 THEN 'INSTEAD OF' WHEN t.tgtype & 2 <> 0 THEN 'BEFORE' ELSE 'AFTER' END, t.tgtype & 1 <> 0,
       pg_catalog.array_remove(ARRAY[CASE WHEN t.tgtype & 4 <> 0 THEN 'INSERT' END, CASE WHEN t.tgtype & 16 <> 0 THEN 'UPDATE' END,
         CASE WHEN t.tgtype & 8 <> 0 THEN 'DELETE' END, CASE WHEN t.tgtype & 32 <> 0 THEN 'TRUNCATE' END], NULL),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr) ORDER BY a.attnum),
       t.tgqual IS NOT NULL,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.tgrelid AND a.attnum IN (
         SELECT d.refobjsubid FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND d.objid = t.oid
           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = t.tgrelid AND d.refobjsubid > 0) ORDER BY a.attnum),
       c.relkind = 'p', pg_catalog.pg_get_triggerdef(t.oid),
       (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('Name', pg_catalog.format('%I.%I', an.nspname, a.proname), 'Body', a.prosrc, 'Strict', a.proisstrict) ORDER BY a.oid)
        FROM pg_catalog.pg_proc a JOIN pg_catalog.pg_namespace an ON an.oid = a.pronamespace
        WHERE a.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace
          AND a.oid IN (SELECT m[1]::pg_catalog.oid FROM pg_catalog.regexp_matches(t.tgqual::pg_catalog.text, ':funcid ([0-9]+)', 'g') AS m))
FROM ` + treeSQL + ` tree
     JOIN pg_catalog.pg_trigger t ON t.tgrelid = tree.oid
     JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
     LEFT JOIN pg_catalog.pg_trigger parent ON parent.oid = t.tgparentid
     LEFT JOIN pg_catalog.pg_constraint k ON k.oid = t.tgconstraint
WHERE CASE WHEN t.tgparentid = 0 THEN NOT t.tgisinternal
           ELSE coalesce(k.contype = 't', true) AND t.tgenabled IS DISTINCT FROM parent.tgenabled END
ORDER BY c.oid, t.tgname`

func inspectTriggers(ctx context.Context, q Querier, all []*Relation) error {
	found, err := readEach(ctx, q, triggersSQL, func(row pgx.CollectableRow) (t Trigger, err error) {
		var definition string
		err = row.Scan(&t.Table.OID, &t.Table.Schema, &t.Table.Name, &t.Name, &t.Function, &t.Body, &t.Enabled, &t.Timing, &t.Row, &t.Events,
			&t.Columns, &t.When, &t.Reads, &t.Parent, &definition, &t.Asks)
		if t.When {
			t.Condition = conditionOf(definition)
		}
		return t, err
	}, all)
	if err != nil {
		return fmt.Errorf("read triggers: %w", err)
	}
	for _, r := range all {
		r.Triggers = found[r.OID]
	}
	return nil
}
