package ddl

import (
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// The names of what reverse capture consists of.
func reverseInsertTrigger(id uint32) string {
	return fmt.Sprintf("%s%d_reverse_insert", TriggerPrefix, id)
}
func reverseUpdateTrigger(id uint32) string {
	return fmt.Sprintf("%s%d_reverse_update", TriggerPrefix, id)
}
func plainInsertTrigger(id uint32) string {
	return fmt.Sprintf("%s%d_reverse_plain_insert", TriggerPrefix, id)
}
func plainUpdateTrigger(id uint32) string {
	return fmt.Sprintf("%s%d_reverse_plain_update", TriggerPrefix, id)
}
func movedTrigger(id uint32) string    { return fmt.Sprintf("%s%d_reverse_moved", TriggerPrefix, id) }
func plaintextMarker(id uint32) string { return fmt.Sprintf("%s%d_reverse_source", TriggerPrefix, id) }
func reverseFunction(id uint32) string { return fmt.Sprintf("reverse_%d", id) }
func plainFunction(id uint32) string   { return fmt.Sprintf("reverse_plain_%d", id) }
func reverseSequence(id uint32) string { return fmt.Sprintf("reverse_missed_%d", id) }

// The function names neither table nor column: it finds the plaintext, in the very relation that fired, by the column
// list of the marker, a trigger that never fires. It runs as its owner, like that of [Column.Capture].
//
// An update that moves a row to another partition inserts it there. Told by its argument that this may come, it leaves
// word of the cell for the rest of the transaction, and an insert of that very cell keeps its plaintext.
const reverseFunctionSQL = `CREATE OR REPLACE FUNCTION cipherfleet.%[1]s() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $capture$
DECLARE
  moved pg_catalog.text := nullif(pg_catalog.current_setting('cipherfleet.moved_%[4]d', true), '');
  plaintext pg_catalog.text;
BEGIN
  IF TG_NARGS > 0 OR TG_OP = 'INSERT' AND moved IS NOT NULL THEN
    SELECT pg_catalog.md5(pg_catalog.to_jsonb(NEW) ->> a.attname) INTO plaintext FROM pg_catalog.pg_constraint c
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
     WHERE c.conrelid = TG_RELID AND c.contypid = 0 AND c.conname = '%[5]s';
    IF TG_NARGS > 0 THEN
      PERFORM pg_catalog.set_config('cipherfleet.moved_%[4]d', coalesce(plaintext, ''), true);
      RETURN NEW;
    ELSIF plaintext = moved THEN
      RETURN NEW;
    END IF;
  END IF;
  SELECT a.attname INTO plaintext FROM pg_catalog.pg_trigger g
    JOIN pg_catalog.pg_attribute a ON a.attrelid = g.tgrelid AND a.attnum = g.tgattr[0]
   WHERE g.tgrelid = TG_RELID AND g.tgname = '%[2]s';
  IF FOUND THEN
    NEW := pg_catalog.jsonb_populate_record(NEW, pg_catalog.jsonb_build_object(plaintext, NULL));
    PERFORM pg_catalog.nextval(s.id) FROM pg_catalog.to_regclass('cipherfleet.%[3]s') AS s(id) WHERE s.id IS NOT NULL;
  END IF;
  RETURN NEW;
END
$capture$`

// Whoever writes a plaintext and leaves its cell as it is leaves a cell of another value, or none. Nothing can be taken
// away then: the cell is what is read, the plaintext is what was meant. It is recorded who did, as by [Column.Capture]. A
// plaintext that is taken away is none: the cell is what is left of it.
const plainBody = `
DECLARE
  missed bigint;
BEGIN
` + recordMiss

// The marker's column list holds the plaintext by its number, so it follows renames, into partitions, and a dump.
const markerSQL = `CREATE OR REPLACE TRIGGER %[1]s BEFORE UPDATE OF %[2]s ON %[3]s FOR EACH ROW
WHEN (false) EXECUTE FUNCTION cipherfleet.%[4]s()`

// IS DISTINCT FROM NULL and not IS NOT NULL: the latter is false of a composite value that has a field without value.
// Whoever changes a cell and leaves the plaintext as it is did not write both, whatever he says of himself; but for a
// worker that sealed the same value anew.
const (
	reverseTriggerSQL = `CREATE OR REPLACE TRIGGER %[1]s BEFORE %[2]s ON %[3]s FOR EACH ROW
WHEN (new.%[4]s IS DISTINCT FROM NULL
  AND %[5]s)
EXECUTE FUNCTION cipherfleet.%[6]s(%[7]s)`
	reverseInsertedSQL = `new.%[2]s IS NOT NULL
  AND (` + saysClientSQL + `) IS NOT TRUE`
	reverseChangedSQL = `pg_catalog.record_image_ne(ROW(new.%[2]s), ROW(old.%[2]s))
  AND (` + saysRotationSQL + ` AND new.%[2]s IS NOT NULL) IS NOT TRUE
  AND ((` + saysClientSQL + `) IS NOT TRUE
    OR pg_catalog.record_image_eq(ROW(new.%[1]s), ROW(old.%[1]s)))`
	reverseMovedSQL = `new.%[2]s IS NOT NULL
  AND pg_catalog.record_image_eq(ROW(new.%[2]s), ROW(old.%[2]s))
  AND pg_catalog.record_image_ne(ROW(%[3]s), ROW(%[4]s))`
	saysRotationSQL = `pg_catalog.current_setting('` + WriterSetting + `', true) OPERATOR(pg_catalog.=) '` + WriterRotation + `'`
	saysClientSQL   = `pg_catalog.current_setting('` + WriterSetting + `', true) OPERATOR(pg_catalog.=) '` + WriterClient + `'`
)

// The fleet opens cells into plaintexts that fell behind.
const (
	plainInsertSQL = `CREATE OR REPLACE TRIGGER %[1]s BEFORE INSERT ON %[2]s FOR EACH ROW
WHEN (new.%[3]s IS DISTINCT FROM NULL AND new.%[4]s IS NULL)
EXECUTE FUNCTION cipherfleet.%[5]s()`
	plainUpdateSQL = `CREATE OR REPLACE TRIGGER %[1]s BEFORE UPDATE ON %[2]s FOR EACH ROW
WHEN (new.%[3]s IS DISTINCT FROM NULL
  AND pg_catalog.record_image_ne(ROW(new.%[3]s), ROW(old.%[3]s))
  AND pg_catalog.record_image_eq(ROW(new.%[4]s), ROW(old.%[4]s))
  AND (pg_catalog.current_setting('` + WriterSetting + `', true) OPERATOR(pg_catalog.=) '` + WriterFleet + `') IS NOT TRUE)
EXECUTE FUNCTION cipherfleet.%[5]s()`
)

// ReverseCapture keeps a rollback honest once applications read and write the cell: when a cell changes, or a row comes
// in with a cell and a plaintext, the plaintext becomes NULL, that is uncovered in reverse, unless the writer wrote both
// and said so. A plaintext is nowhere else in the clear, so one whose cell did not change stays, even if the key does
// and the row moves to another partition, or if it comes without a cell. Who writes a plaintext and not its cell is
// recorded, as a writer that misses the cells that are read now. Source is the plaintext and Target the cell, by
// their names at that moment; the plaintext must allow NULL. The rest is as in [Column.Capture], whose place it takes.
func (c Column) ReverseCapture() Step {
	function, sequence, table := reverseFunction(c.ID), reverseSequence(c.ID), c.Table.SQL()
	insert, update, marker := pg.Ident(reverseInsertTrigger(c.ID)), pg.Ident(reverseUpdateTrigger(c.ID)), pg.Ident(plaintextMarker(c.ID))
	plain, sealed, moved := pg.Ident(c.Source), pg.Ident(c.Target), pg.Ident(movedTrigger(c.ID))
	plainInsert, plainUpdate := pg.Ident(plainInsertTrigger(c.ID)), pg.Ident(plainUpdateTrigger(c.ID))
	return Step{
		Do: []string{
			fmt.Sprintf("CREATE SEQUENCE IF NOT EXISTS cipherfleet.%s", sequence),
			fmt.Sprintf(reverseFunctionSQL, function, plaintextMarker(c.ID), sequence, c.ID, CheckName(c.ID)),
			fmt.Sprintf("REVOKE ALL ON FUNCTION cipherfleet.%s() FROM PUBLIC", function),
			fmt.Sprintf(functionSQL, plainFunction(c.ID), captured(fmt.Sprintf(plainBody, plainFunction(c.ID), c.ID))),
			fmt.Sprintf("REVOKE ALL ON FUNCTION cipherfleet.%s() FROM PUBLIC", plainFunction(c.ID)),
			fmt.Sprintf(markerSQL, marker, plain, table, function),
			fmt.Sprintf(reverseTriggerSQL, insert, "INSERT", table, plain, fmt.Sprintf(reverseInsertedSQL, plain, sealed), function, ""),
			fmt.Sprintf(reverseTriggerSQL, moved, "UPDATE", table, plain, fmt.Sprintf(reverseMovedSQL, plain, sealed, keyOf("new", c.Key), keyOf("old", c.Key)), function, "'moved'"),
			fmt.Sprintf(reverseTriggerSQL, update, "UPDATE", table, plain, fmt.Sprintf(reverseChangedSQL, plain, sealed), function, ""),
			fmt.Sprintf(plainInsertSQL, plainInsert, table, plain, sealed, plainFunction(c.ID)),
			fmt.Sprintf(plainUpdateSQL, plainUpdate, table, plain, sealed, plainFunction(c.ID)),
			fmt.Sprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table, strings.Join([]string{marker, insert, moved, plainInsert, plainUpdate, update}, ", ENABLE ALWAYS TRIGGER ")),
		},
		Undo: []string{
			fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", insert, table),
			fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", moved, table),
			fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", plainInsert, table),
			fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", plainUpdate, table),
			fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", update, table),
			fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", marker, table),
			fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s()", function),
			fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s()", plainFunction(c.ID)),
			fmt.Sprintf("DROP SEQUENCE IF EXISTS cipherfleet.%s", sequence),
		},
	}
}

// keyOf is the list of key columns of one row version.
func keyOf(version string, key []string) string {
	fields := make([]string, len(key))
	for i, name := range key {
		fields[i] = version + "." + pg.Ident(name)
	}
	return strings.Join(fields, ", ")
}

// ReverseMissed is the query for how many plaintexts a column's reverse capture has cleared: one bigint, as [Missed].
func ReverseMissed(id uint32) string {
	return "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM cipherfleet." + reverseSequence(id)
}

// ReverseIndexName is the name of the partial index on the rows of one leaf that have a cell and no plaintext.
func (c Column) ReverseIndexName(leaf pg.Named) string {
	return fmt.Sprintf("cipherfleet_%d_reverse_%d", c.ID, leaf.OID)
}

// ReverseUncoveredIndex is like [Column.UncoveredIndex], of the rows that have a cell and no plaintext.
func (c Column) ReverseUncoveredIndex(leaf pg.Named) Step {
	name := c.ReverseIndexName(leaf)
	return Step{
		Do: []string{fmt.Sprintf("CREATE INDEX CONCURRENTLY IF NOT EXISTS %s ON %s (%s) WHERE %s",
			pg.Ident(name), leaf.Table().SQL(), pg.Idents(c.Key), c.reverseUncovered())},
		Undo: []string{fmt.Sprintf("DROP INDEX CONCURRENTLY IF EXISTS %s", pg.Ident(leaf.Schema, name))},
	}
}

// ReverseUncovered is the query for whether a leaf has a row with a cell and no plaintext: one bool. With the index it
// reads no other row.
func (c Column) ReverseUncovered(leaf pg.Named) string {
	return fmt.Sprintf("SELECT EXISTS (SELECT FROM ONLY %s t WHERE %s)", leaf.Table().SQL(), c.reverseUncovered())
}

// reverseUncovered is the condition as the engine writes it.
func (c Column) reverseUncovered() string {
	return fmt.Sprintf("%s IS NOT NULL AND %s IS NOT DISTINCT FROM NULL", pg.Ident(c.Target), pg.Ident(c.Source))
}
