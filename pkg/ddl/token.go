package ddl

import (
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Token is the column of a blind index: one token for each cell of another column. Names are the present ones.
type Token struct {
	Index  uint32 // its number in the registry
	Table  pg.Table
	Cell   string // the column of cells
	Name   string // the column of tokens
	Bytes  int    // of a token
	Unique bool
	Key    []string // the columns of the key that jobs walk
	Parted bool     // the table is partitioned
	leaf   uint32   // the partition that an index is to be of; 0: none
}

// TokenCheckName is the constraint on a column of tokens. It carries the index's number, so it marks the column whatever
// its name, in every partition, and after a restore.
func TokenCheckName(index uint32) string { return fmt.Sprintf("cipherfleet_token_%d", index) }

// TokenIndexName is the index that lookups use; it stands in the schema of its table.
func TokenIndexName(index uint32) string { return fmt.Sprintf("cipherfleet_token_%d_index", index) }

func tokenFunction(index uint32) string { return fmt.Sprintf("token_%d", index) }
func staleFunction(index uint32) string { return fmt.Sprintf("token_%d_stale", index) }
func tokenSequence(index uint32) string { return fmt.Sprintf("token_%d_missed", index) }

// TokenTriggers are the names of the triggers that keep tokens right. They fire behind every capture.
func TokenTriggers(index uint32) []string {
	var names []string
	for _, g := range (Token{Index: index}).guards() {
		names = append(names, g.name)
	}
	return names
}

// Marked is a token, an expression in SQL, as a writer sends it who has made it of the very value whose cell it writes:
// behind one byte more, which is taken off before it is stored; [cell.MarkToken] is the same in memory.
func Marked(token string) string {
	return `pg_catalog.byteacat(E'\\x01'::pg_catalog.bytea, ` + token + ")"
}

// Add adds the column of tokens: nullable, and nothing fits into it but what is as long as a token. It reads no row.
func (t Token) Add() Step {
	name := pg.Ident(t.Name)
	return Step{
		Do: []string{
			fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s pg_catalog.bytea", t.Table.SQL(), name),
			fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s IS NULL OR pg_catalog.octet_length(%s) OPERATOR(pg_catalog.=) %d) NOT VALID",
				t.Table.SQL(), pg.Ident(TokenCheckName(t.Index)), name, name, t.Bytes),
		},
		Undo: []string{fmt.Sprintf("ALTER TABLE %s DROP COLUMN IF EXISTS %s", t.Table.SQL(), name)},
	}
}

// guards are in the order of their names, in which they fire: what is cleared is not kept, and counted once.
func (t Token) guards() []guard {
	cell, token := pg.Ident(t.Cell), pg.Ident(t.Name)
	marked := fmt.Sprintf("pg_catalog.octet_length(new.%s) OPERATOR(pg_catalog.=) %d", token, t.Bytes+1)
	list := []guard{
		{name: "clear_insert", event: "INSERT", clears: true,
			condition: fmt.Sprintf("new.%[1]s IS NOT NULL AND (NOT (new.%[2]s IS DISTINCT FROM NULL) OR (%[3]s) IS NOT TRUE)", token, cell, t.arrives(marked))},
		{name: "clear_update", event: "UPDATE", clears: true,
			condition: fmt.Sprintf("cipherfleet.%[1]s(new.%[2]s, old.%[2]s, new.%[3]s, old.%[3]s)", staleFunction(t.Index), cell, token)},
		{name: "keep_insert", event: "INSERT", condition: marked},
		{name: "keep_update", event: "UPDATE", condition: marked},
		{name: "miss_insert", event: "INSERT", condition: fmt.Sprintf("new.%s IS NULL AND new.%s IS DISTINCT FROM NULL", token, cell)},
		{name: "miss_update", event: "UPDATE",
			condition: fmt.Sprintf("new.%[1]s IS NULL AND new.%[2]s IS DISTINCT FROM NULL AND (old.%[1]s IS NOT NULL OR NOT (old.%[2]s IS DISTINCT FROM NULL))", token, cell)},
	}
	for i := range list {
		list[i].name = fmt.Sprintf("%sz%d_%s", TriggerPrefix, t.Index, list[i].name)
	}
	return list
}

// staleBody says that a row's token is not of its cell any more. A token without a mark stays where the cell stays, or is
// sealed anew by who says that its value is the same; a worker that fills the column leaves the cell alone.
const staleBody = `
BEGIN
  IF new_token IS NULL THEN
    RETURN false;
  ELSIF NOT (new_cell IS DISTINCT FROM NULL) THEN
    RETURN true;
  ELSIF pg_catalog.octet_length(new_token) OPERATOR(pg_catalog.=) %[1]d THEN
    RETURN false;
  ELSIF pg_catalog.record_image_ne(ROW(new_token), ROW(old_token)) THEN
    RETURN pg_catalog.record_image_ne(ROW(new_cell), ROW(old_cell)) OR (pg_catalog.current_setting('` + WriterSetting + `', true) OPERATOR(pg_catalog.=) '` + WriterFleet + `') IS NOT TRUE;
  END IF;
  RETURN pg_catalog.record_image_ne(ROW(new_cell), ROW(old_cell)) AND (pg_catalog.current_setting('` + WriterSetting + `', true) OPERATOR(pg_catalog.=) '` + WriterRotation + `') IS NOT TRUE;
END
`

// tokenBody knows the column by the name that it had, which costs nothing; renamed, it is found by its check. Whatever
// happens to the count, the application's own write goes on.
const tokenBody = `
DECLARE
  renamed text;
  value bytea;
BEGIN
  IF TG_ARGV[0] = 'miss' THEN
    BEGIN
      PERFORM nextval(s.id) FROM to_regclass('cipherfleet.%[2]s') AS s(id) WHERE s.id IS NOT NULL;
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
    RETURN NEW;
  END IF;
  BEGIN
    IF TG_ARGV[0] = 'keep' THEN
      NEW.%[1]s := substr(NEW.%[1]s, 2);
    ELSE
      NEW.%[1]s := NULL;
    END IF;
  EXCEPTION WHEN undefined_column THEN
    SELECT a.attname INTO renamed FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
     WHERE c.conrelid = TG_RELID AND c.contypid = 0 AND c.conname = '%[3]s';
    IF FOUND AND TG_ARGV[0] = 'keep' THEN
      EXECUTE format('SELECT substr(($1).%%I, 2)', renamed) INTO value USING NEW;
    END IF;
    IF renamed IS NOT NULL THEN
      NEW := jsonb_populate_record(NEW, jsonb_build_object(renamed, value));
    END IF;
  END;
  RETURN NEW;
END
`

// Capture keeps tokens right from now on: a token stays beside a cell only if its writer has said that it is of the
// value whose cell it writes, or if the cell stays as it is, or is sealed anew of the same value. Any other becomes NULL,
// its row uncovered, and is counted. Repeatable; it takes a SHARE ROW EXCLUSIVE lock.
func (t Token) Capture() Step {
	id, table := t.Index, t.Table.SQL()
	of := Column{Table: t.Table}
	step := Step{Do: []string{
		fmt.Sprintf("CREATE SEQUENCE IF NOT EXISTS cipherfleet.%s", tokenSequence(id)),
		fmt.Sprintf("CREATE OR REPLACE FUNCTION cipherfleet.%[1]s(new_cell %[2]s, old_cell %[2]s, new_token pg_catalog.bytea, old_token pg_catalog.bytea) RETURNS boolean\nLANGUAGE plpgsql STABLE AS $stale$%[3]s$stale$",
			staleFunction(id), of.typeOf(t.Cell), fmt.Sprintf(staleBody, t.Bytes+1)),
		fmt.Sprintf("GRANT EXECUTE ON FUNCTION cipherfleet.%s TO PUBLIC", staleFunction(id)),
		fmt.Sprintf("CREATE OR REPLACE FUNCTION cipherfleet.%s() RETURNS trigger\nLANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $token$%s$token$",
			tokenFunction(id), fmt.Sprintf(tokenBody, pg.Ident(t.Name), tokenSequence(id), TokenCheckName(id))),
		fmt.Sprintf("REVOKE ALL ON FUNCTION cipherfleet.%s() FROM PUBLIC", tokenFunction(id)),
	}}
	var enable []string
	for _, g := range t.guards() {
		argument := "miss"
		switch {
		case g.clears:
			argument = "clear"
		case strings.Contains(g.name, "_keep_"):
			argument = "keep"
		}
		name := pg.Ident(g.name)
		step.Do = append(step.Do, fmt.Sprintf(guardSQL, name, g.event, table, g.condition, tokenFunction(id), "'"+argument+"'"))
		step.Undo = append(step.Undo, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", name, table))
		enable = append(enable, "ENABLE ALWAYS TRIGGER "+name)
	}
	step.Do = append(step.Do, fmt.Sprintf("ALTER TABLE %s %s", table, strings.Join(enable, ", ")))
	step.Undo = append(step.Undo, fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s()", tokenFunction(id)),
		fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s", staleFunction(id)), fmt.Sprintf("DROP SEQUENCE IF EXISTS cipherfleet.%s", tokenSequence(id)))
	return step
}

// Build makes the index that lookups use, beside readers and writers: it cannot run in a transaction, and leaves an
// invalid index behind when it fails, which undo takes away.
func (t Token) Build() Step {
	unique := ""
	if t.Unique {
		unique = "UNIQUE "
	}
	name := t.IndexName()
	return Step{
		Do:   []string{fmt.Sprintf("CREATE %sINDEX CONCURRENTLY %s ON %s (%s)", unique, pg.Ident(name), t.Table.SQL(), pg.Ident(t.Name))},
		Undo: []string{fmt.Sprintf("DROP INDEX CONCURRENTLY IF EXISTS %s", pg.Ident(t.Table.Schema, name))},
	}
}

// Drop takes column, index and triggers away.
func (t Token) Drop() []string { return append(t.Capture().Undo, t.Add().Undo...) }

// TokenMissed is the query for how many rows were left without a token since the index's capture was made: one bigint.
// Like every sequence it counts rolled-back writes too.
func TokenMissed(index uint32) string {
	return "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM cipherfleet." + tokenSequence(index)
}

// Uncovered is the condition that a row of alias t lacks its token, or has one that is left over.
func (t Token) Uncovered() string { return t.uncovered("t.") }

func (t Token) uncovered(alias string) string {
	return fmt.Sprintf("(%[1]s%[2]s IS NULL) OPERATOR(pg_catalog.=) (%[1]s%[3]s IS DISTINCT FROM NULL)", alias, pg.Ident(t.Name), pg.Ident(t.Cell))
}

// TokenListName is the index on the rows that lack their token; it stands in the schema of its table, and goes with the
// column of tokens.
func TokenListName(index uint32) string { return fmt.Sprintf("cipherfleet_token_%d_uncovered", index) }

// List builds that index, as [Column.UncoveredIndex] does for cells: it holds the keys of such rows alone.
func (t Token) List() Step {
	name := t.ListName()
	return Step{
		Do: []string{fmt.Sprintf("CREATE INDEX CONCURRENTLY IF NOT EXISTS %s ON %s (%s) WHERE %s",
			pg.Ident(name), t.Table.SQL(), pg.Idents(t.Key), t.uncovered(""))},
		Undo: []string{fmt.Sprintf("DROP INDEX CONCURRENTLY IF EXISTS %s", pg.Ident(t.Table.Schema, name))},
	}
}

// Listed is the query for how many rows lack their token, as far as $1 of them: with that index it reads no others.
func (t Token) Listed() string {
	return fmt.Sprintf("SELECT pg_catalog.count(*) FROM (SELECT FROM ONLY %s t WHERE %s LIMIT $1) l", t.Table.SQL(), t.Uncovered())
}

// Doubled is the query for how many tokens stand in more than one row, and in how many rows: what keeps a unique index
// from being. It reads the whole table.
func (t Token) Doubled() string {
	return fmt.Sprintf("SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(d.n), 0)::pg_catalog.int8 FROM (SELECT pg_catalog.count(*) AS n FROM %s t WHERE t.%[2]s IS NOT NULL GROUP BY t.%[2]s HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1) d",
		t.Table.SQL(), pg.Ident(t.Name))
}

// DoubledKeys is the query for the keys of such rows as text, each with a number that its equals share; at most $1 rows.
func (t Token) DoubledKeys() string {
	parts := make([]string, len(t.Key))
	for i, name := range t.Key {
		parts[i] = "t." + pg.Ident(name) + "::pg_catalog.text"
	}
	name := pg.Ident(t.Name)
	return fmt.Sprintf("SELECT d.g, ARRAY[%s] FROM %s t JOIN (SELECT t.%[3]s AS token, pg_catalog.row_number() OVER () AS g FROM %[2]s t WHERE t.%[3]s IS NOT NULL GROUP BY t.%[3]s HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1) d ON d.token OPERATOR(pg_catalog.=) t.%[3]s ORDER BY d.g, %[4]s LIMIT $1",
		strings.Join(parts, ", "), t.Table.SQL(), name, strings.Join(parts, ", "))
}

// TokenSequence is the qualified name of the sequence that counts rows left without a token.
func TokenSequence(index uint32) string { return "cipherfleet." + tokenSequence(index) }
