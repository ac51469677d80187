package ddl

import (
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// The setting by which a transaction says who writes, and its values.
const (
	WriterSetting = "cipherfleet.writer"
	WriterClient  = "client" // seals what it writes: its targets survive
	WriterFleet   = "fleet"  // a worker; cleared like anybody else when another trigger changed the source beneath it
)

// TriggerPrefix begins the names of all capture triggers. Triggers fire in the order of their names, byte by byte, and
// the tilde is the last printable ASCII character.
const TriggerPrefix = "~cipherfleet_"

// The names of what capture consists of.
func insertTrigger(id uint32) string   { return fmt.Sprintf("%s%d_insert", TriggerPrefix, id) }
func updateTrigger(id uint32) string   { return fmt.Sprintf("%s%d_update", TriggerPrefix, id) }
func captureFunction(id uint32) string { return fmt.Sprintf("capture_%d", id) }
func missedSequence(id uint32) string  { return fmt.Sprintf("missed_%d", id) }

// CaptureTriggers are the names of a column's two capture triggers.
func CaptureTriggers(id uint32) []string { return []string{insertTrigger(id), updateTrigger(id)} }

// The function names neither table nor column: it finds the target, in the very relation that fired, by its check.
// It runs as its owner, so that whoever may write the table needs no right in schema cipherfleet. populate_record
// keeps every other field as it is, byte for byte.
const functionSQL = `CREATE OR REPLACE FUNCTION cipherfleet.%[1]s() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $capture$
DECLARE
  target pg_catalog.text;
BEGIN
  SELECT a.attname INTO target FROM pg_catalog.pg_constraint c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
   WHERE c.conrelid = TG_RELID AND c.contypid = 0 AND c.conname = '%[2]s';
  IF FOUND THEN
    NEW := pg_catalog.jsonb_populate_record(NEW, pg_catalog.jsonb_build_object(target, NULL));
    PERFORM pg_catalog.nextval(s.id) FROM pg_catalog.to_regclass('cipherfleet.%[3]s') AS s(id) WHERE s.id IS NOT NULL;
  END IF;
  RETURN NEW;
END
$capture$`

// A condition in WHEN follows renames, and costs a write that changes neither source nor key no call.
const (
	triggerSQL = `CREATE OR REPLACE TRIGGER %[1]s BEFORE %[2]s ON %[3]s FOR EACH ROW
WHEN (new.%[4]s IS NOT NULL
  AND (pg_catalog.current_setting('` + WriterSetting + `', true) OPERATOR(pg_catalog.=) '` + WriterClient + `') IS NOT TRUE%[5]s)
EXECUTE FUNCTION cipherfleet.%[6]s()`
	changedSQL = `
  AND pg_catalog.record_image_ne(ROW(%s), ROW(%s))`
)

// Capture makes missed writes visible: when source or key change, or a row comes in with a target already filled, the
// target survives only if the writer said that it seals. It is repeatable, replaces a capture that was altered, and
// takes a SHARE ROW EXCLUSIVE lock; the check must exist. ENABLE ALWAYS: replicated writes count too.
func (c Column) Capture() Step {
	function, table := captureFunction(c.ID), c.Table.SQL()
	insert, update := pg.Ident(insertTrigger(c.ID)), pg.Ident(updateTrigger(c.ID))
	changed := fmt.Sprintf(changedSQL, c.image("new"), c.image("old"))
	return Step{
		Do: []string{
			fmt.Sprintf("CREATE SEQUENCE IF NOT EXISTS cipherfleet.%s", missedSequence(c.ID)),
			fmt.Sprintf(functionSQL, function, CheckName(c.ID), missedSequence(c.ID)),
			fmt.Sprintf("REVOKE ALL ON FUNCTION cipherfleet.%s() FROM PUBLIC", function),
			fmt.Sprintf(triggerSQL, insert, "INSERT", table, pg.Ident(c.Target), "", function),
			fmt.Sprintf(triggerSQL, update, "UPDATE", table, pg.Ident(c.Target), changed, function),
			fmt.Sprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s, ENABLE ALWAYS TRIGGER %s", table, insert, update),
		},
		Undo: []string{
			fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", insert, table),
			fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", update, table),
			fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s()", function),
			fmt.Sprintf("DROP SEQUENCE IF EXISTS cipherfleet.%s", missedSequence(c.ID)),
		},
	}
}

// image is the list of key and source columns of one row version.
func (c Column) image(version string) string {
	fields := make([]string, 0, len(c.Key)+1)
	for _, name := range append(c.Key[:len(c.Key):len(c.Key)], c.Source) {
		fields = append(fields, version+"."+pg.Ident(name))
	}
	return strings.Join(fields, ", ")
}

// MissedSequence is the qualified name of the sequence that counts what a column's capture clears.
func MissedSequence(id uint32) string { return "cipherfleet." + missedSequence(id) }

// Missed is the query for how many cells a column's capture has cleared since it was first installed: one bigint.
// Like every sequence it counts rolled-back writes too.
func Missed(id uint32) string {
	return "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM " + MissedSequence(id)
}
