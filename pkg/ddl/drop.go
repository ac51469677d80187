package ddl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// CoverageName is the constraint that no row has a plaintext without its cell. It stands from the moment a drop is
// planned until the plaintext is gone.
func CoverageName(id uint32) string { return fmt.Sprintf("cipherfleet_%d_coverage", id) }

// Coverage refuses a plaintext without its cell, from now on. Source is the plaintext and Target the cell, by their
// names at that moment. A row of nothing but NULL is a value too, though it IS NULL. It takes an ACCESS EXCLUSIVE lock
// for a moment and reads no row. Capture must not stand beside it: what capture clears, this refuses.
func (c Column) Coverage() Step {
	name, table := pg.Ident(CoverageName(c.ID)), c.Table.SQL()
	return Step{
		Do: []string{fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s IS NOT DISTINCT FROM NULL OR %s IS NOT NULL) NOT VALID",
			table, name, pg.Ident(c.Source), pg.Ident(c.Target))},
		Undo: []string{fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s", table, name)},
	}
}

// ValidateCoverage proves it for every row that was there before. It reads the whole table beside readers and writers,
// in a transaction of its own. There is nothing to undo.
func (c Column) ValidateCoverage() Step {
	return Step{Do: []string{fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", c.Table.SQL(), pg.Ident(CoverageName(c.ID)))}}
}

// CoverageMeaning is a condition on row k of pg_constraint: that it says what [Column.Coverage] makes, of the columns
// that are named by these two expressions of SQL. Postgres prints the condition in two ways, by the column's type.
func CoverageMeaning(plain, sealed string) string {
	const meaning = `pg_catalog.pg_get_expr(k.conbin, k.conrelid) IN (pg_catalog.format('((%%I IS NULL) OR (%%I IS NOT NULL))', %[1]s, %[2]s),` +
		` pg_catalog.format('((%%I IS NOT DISTINCT FROM NULL) OR (%%I IS NOT NULL))', %[1]s, %[2]s))`
	return fmt.Sprintf(meaning, plain, sealed)
}

// Uncelled is the query for how many rows of the table have a plaintext and no cell: one bigint. It reads every row.
func (c Column) Uncelled() string {
	return fmt.Sprintf("SELECT count(*) FROM %s WHERE %s IS DISTINCT FROM NULL AND %s IS NULL", c.Table.SQL(), pg.Ident(c.Source), pg.Ident(c.Target))
}

// Removal is the end of a column's plaintext. Source is the plaintext and Target the cell, by their present names.
type Removal struct {
	Column
	LogTable, LogColumn string // the names in the event log
	Type, Collation     string // of the plaintext, in SQL; Collation may be ""
	Along               []Alongside
	Cells               []uint32 // ids of columns whose cells stand in its place: what guards those goes too
}

// Alongside is a column that has no use without the plaintext and goes with it: a vector's or a salt's.
type Alongside struct{ Name, Type, Collation string }

// dropGuardSQL looks again, under the lock, at everything that the removal rests on. It reads no row of the table: the
// validated constraint is the count.
const dropGuardSQL = `DECLARE
  relation oid := %[1]s::pg_catalog.regclass;
  missing text;
BEGIN
  IF NOT EXISTS (SELECT FROM cipherfleet.columns c
      JOIN pg_catalog.pg_attribute p ON p.attrelid = c.relid AND p.attnum = c.source_attnum AND p.attname = %[2]s AND NOT p.attisdropped
      JOIN pg_catalog.pg_attribute s ON s.attrelid = c.relid AND s.attnum = c.target_attnum AND s.attname = %[3]s AND NOT s.attisdropped
     WHERE c.id = %[4]d AND c.relid = relation AND c.retired_at IS NULL) THEN
    missing := 'in this database column number %[4]d of Cipherfleet is not the one that this was written for';
  ELSIF (SELECT e.phase FROM cipherfleet.events e WHERE e.table_name = %[5]s AND e.column_name = %[6]s ORDER BY e.id DESC LIMIT 1) IS DISTINCT FROM 'cut-over' THEN
    missing := 'the column is not cut over';
  ELSIF EXISTS (SELECT FROM cipherfleet.jobs j WHERE j.relid = relation AND j.state NOT IN ('done', 'failed', 'cancelled')) THEN
    missing := 'a job over the table has not ended';
  ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = relation AND k.contype = 'c' AND k.conname = '%[7]s' AND k.convalidated
      AND %[9]s) THEN
    missing := 'constraint %[7]s is gone, altered or not validated: nothing proves that every plaintext has its cell';
  ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = relation AND k.contype = 'c' AND k.conname = '%[8]s' AND k.convalidated) THEN
    missing := 'constraint %[8]s is gone or not validated: nothing proves that the cells are cells';
  END IF;
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = missing,
      MESSAGE = 'the plaintext is not dropped: ' OPERATOR(pg_catalog.||) missing,
      HINT = 'nothing was changed; cipherfleet status shows where the column stands, and cipherfleet drop writes this anew';
  END IF;
END`

// Drop takes the plaintext away for good: under a lock on the table it checks again that the column is cut over, that
// no job is at work and that the constraint of [Column.Coverage] stands and is validated, or raises SQLSTATE 55000;
// then it removes reverse capture, the constraint and the plaintext. What depends on the plaintext makes it fail. The
// check of the cells stays. Undone, the column is there again, without its values. All of it is for one transaction,
// which [Pin] begins and ends: its names are those of Postgres.
func (r Removal) Drop() Step {
	table, plain := r.Table.SQL(), pg.Ident(r.Source)
	guard := fmt.Sprintf(dropGuardSQL, pg.Literal(table), pg.Literal(r.Source), pg.Literal(r.Target), r.ID, pg.Literal(r.LogTable),
		pg.Literal(r.LogColumn), CoverageName(r.ID), CheckName(r.ID), CoverageMeaning(pg.Literal(r.Source), pg.Literal(r.Target)))
	do := slices.Concat([]string{"LOCK TABLE cipherfleet.jobs IN SHARE MODE"}, Alone(r.Table), []string{"DO " + Quote(guard)})
	do = append(do, r.ReverseCapture().Undo...)
	for _, id := range r.Cells {
		do = append(do, Column{ID: id, Table: r.Table}.Shredded(nil).Do...)
		do = append(do, Column{ID: id, Table: r.Table}.Bind(nil).Do...)
	}
	drop := ""
	for _, c := range r.Along {
		drop += ", DROP COLUMN " + pg.Ident(c.Name)
	}
	do = append(do, fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s, DROP COLUMN %s%s", table, pg.Ident(CoverageName(r.ID)), plain, drop))
	return Step{Do: do, Undo: append(Alone(r.Table), r.Add(),
		fmt.Sprintf("COMMENT ON COLUMN %s.%s IS 'Empty: what was here before it was dropped does not come back by itself; it can be decrypted from the cells.'", table, plain))}
}

// Add is the statement that adds the plaintext's column again, and those that went along, without their values.
func (r Removal) Add() string {
	add := fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s%s", r.Table.SQL(), pg.Ident(r.Source), r.Type, collate(r.Collation))
	for _, c := range r.Along {
		add += fmt.Sprintf(", ADD COLUMN %s %s%s", pg.Ident(c.Name), c.Type, collate(c.Collation))
	}
	return add
}

func collate(collation string) string {
	if collation == "" || collation == `pg_catalog."default"` {
		return ""
	}
	return " COLLATE " + collation
}

// kept are the settings that a migration of ours changes while it runs.
var kept = [...]string{"search_path", "lock_timeout", "statement_timeout", "standard_conforming_strings"}

// Pin is a statement that gives the rest of a transaction this lock_timeout and a search_path of which nothing can be
// mistaken, and one that gives back the settings of before, for a transaction that others go on with.
func Pin(lockTimeout string) (pin, unpin string) {
	const set = "pg_catalog.set_config(%s, %s, true)"
	var keep, back []string
	for _, name := range kept {
		before := pg.Literal("cipherfleet.before_" + name)
		keep = append(keep, fmt.Sprintf(set, before, "pg_catalog.current_setting("+pg.Literal(name)+")"))
		back = append(back, fmt.Sprintf(set, pg.Literal(name), "pg_catalog.current_setting("+before+")"))
	}
	keep = append(keep, fmt.Sprintf(set, "'search_path'", "'pg_catalog, pg_temp'"), fmt.Sprintf(set, "'lock_timeout'", pg.Literal(lockTimeout)))
	return "SELECT " + strings.Join(keep, ",\n "), "SELECT " + strings.Join(back, ",\n ")
}

// Quote quotes a body with dollars, by a tag that the body does not hold.
func Quote(body string) string {
	tag := "$cipherfleet$"
	for n := 1; strings.Contains(body, tag); n++ {
		tag = fmt.Sprintf("$cipherfleet%d$", n)
	}
	return tag + "\n" + body + "\n" + tag
}
