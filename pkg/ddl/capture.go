package ddl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// The setting by which a transaction says who writes, and its values.
const (
	WriterSetting = "cipherfleet.writer"
	WriterClient  = "client" // seals what it writes: its targets survive
	WriterFleet   = "fleet"  // a worker; cleared like anybody else when another trigger changed the source beneath it

	WriterRotation = "rotation" // a worker that seals cells anew: their values stay as they are, and with them what stands beside
)

// TriggerPrefix begins the names of all capture triggers. Triggers fire in the order of their names, byte by byte, and
// the tilde is the last printable ASCII character.
const TriggerPrefix = "~cipherfleet_"

// The names of what capture consists of.
func captureFunction(id uint32) string      { return fmt.Sprintf("capture_%d", id) }
func missesFunction(id uint32) string       { return fmt.Sprintf("misses_%d", id) }
func missesInsertFunction(id uint32) string { return fmt.Sprintf("misses_insert_%d", id) }
func missedSequence(id uint32) string       { return fmt.Sprintf("missed_%d", id) }

// guard is one trigger of a capture: on which writes it fires, and under which condition.
type guard struct {
	name, event, condition string
	clears                 bool // the target; else the write left it NULL already and is only counted
}

// guards are in the order in which they fire, that of their names: what one clears is not counted by another. One for
// each event, for each costs every write.
func (c Column) guards() []guard {
	if c.Expression != nil {
		return c.expressionGuards()
	}
	target := pg.Ident(c.Target)
	list := []guard{
		{"insert", "INSERT", fmt.Sprintf("cipherfleet.%s(new.%s, new.%s)", missesInsertFunction(c.ID), target, pg.Ident(c.Source)), true},
		{"update", "UPDATE", fmt.Sprintf("cipherfleet.%s(new.%s, old.%s, %s, %s)", missesFunction(c.ID), target, target, c.image("new"), c.image("old")), true},
	}
	if c.Where != nil {
		list = append(list, c.enters())
	}
	return list
}

// olderGuards are those that older versions had besides, or a condition that was.
func (c Column) olderGuards() (s Step) {
	for _, name := range []string{"absent_insert", entering} {
		s.Undo = append(s.Undo, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", pg.Ident(fmt.Sprintf("%s%d_%s", TriggerPrefix, c.ID, name)), c.Table.SQL()))
	}
	return s
}

const isClient = `pg_catalog.current_setting('` + WriterSetting + `', true) OPERATOR(pg_catalog.=) '` + WriterClient + `'`

// AnyCaptureTriggers are the names of all triggers that a column's capture may consist of, whatever makes its target.
func AnyCaptureTriggers(id uint32) []string {
	names := guardNames()
	for i, name := range names {
		names[i] = fmt.Sprintf("%s%d_%s", TriggerPrefix, id, name)
	}
	return names
}

// CaptureTriggers are the names of a column's capture triggers, where its target holds cells, or what somebody else made.
func CaptureTriggers(id uint32) []string {
	var names []string
	for _, g := range (Column{}).guards() {
		names = append(names, fmt.Sprintf("%s%d_%s", TriggerPrefix, id, g.name))
	}
	return names
}

// The function names neither table nor column: it finds the target, in the very relation that fired, by its check.
// It runs as its owner, so that whoever may write the table needs no right in schema cipherfleet. populate_record
// keeps every other field as it is, byte for byte.
//
// Whatever happens to the count and the record of missed writes, the application's own write goes on: what cannot be
// recorded at once is not. That takes a subtransaction; the server remembers sixty-four that wrote cheaply, so of one
// transaction the first missed writes are recorded one by one, and then only each time that they have doubled.
const captureBody = ` -- version 2
DECLARE
  target text;
  missed bigint;
BEGIN
  IF TG_NARGS = 0 THEN
    SELECT a.attname INTO target FROM pg_catalog.pg_constraint c
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
     WHERE c.conrelid = TG_RELID AND c.contypid = 0 AND c.conname = '%[1]s';
    IF NOT FOUND THEN
      RETURN NEW;
    END IF;
    NEW := jsonb_populate_record(NEW, jsonb_build_object(target, NULL));
  END IF;
`

// recordMiss is the end of such a body.
const recordMiss = `  BEGIN
    PERFORM nextval(s.id) FROM to_regclass('cipherfleet.%[1]s') AS s(id) WHERE s.id IS NOT NULL;
    missed := 1 + coalesce(substring(current_setting('cipherfleet.%[1]s', true), '^[0-9]{1,15}$')::bigint, 0);
    PERFORM set_config('cipherfleet.%[1]s', missed::text, true);
    IF missed <= 16 OR missed & (missed - 1) = 0 THEN
      LOCK TABLE cipherfleet.missed_writes IN ROW EXCLUSIVE MODE NOWAIT;
      INSERT INTO cipherfleet.missed_writes (column_id, application, role, writes)
      VALUES (%[2]d, left(current_setting('application_name'), 64), session_user, CASE WHEN missed <= 16 THEN 1 ELSE missed / 2 END);
    END IF;
  EXCEPTION WHEN OTHERS THEN
    NULL;
  END;
  RETURN NEW;
END
`

const functionSQL = `CREATE OR REPLACE FUNCTION cipherfleet.%[1]s() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS %[2]s`

// captured quotes the body of a capture function, by a tag that the body does not hold: the names of columns may.
func captured(body string) string {
	tag := "$capture$"
	for n := 1; strings.Contains(body, tag); n++ {
		tag = fmt.Sprintf("$capture%d$", n)
	}
	return tag + body + tag
}

// CaptureBody is the body of a column's capture function. One that stands with another body was installed by an older
// version, or altered.
func CaptureBody(id uint32) string {
	return captureBodyOf(id, "")
}

// captureBodyOf is such a body with something between clearing and counting.
func captureBodyOf(id uint32, between string) string {
	return fmt.Sprintf(captureBody, CheckName(id)) + between + fmt.Sprintf(recordMiss, missedSequence(id), id)
}

// A condition in WHEN follows renames, and costs a write that changes neither source nor key no call.
const guardSQL = `CREATE OR REPLACE TRIGGER %s BEFORE %s ON %s FOR EACH ROW
WHEN (%s)
EXECUTE FUNCTION cipherfleet.%s(%s)`

// Capture makes missed writes visible. When source or key change, or a row comes in with a target already filled, the
// target survives only if the writer said that it seals, and wrote the target too; a source that comes in without a
// target is left so. Each such write is counted, and recorded with who made it. Capture is repeatable, replaces one that
// is older or was altered, and takes a SHARE ROW EXCLUSIVE lock; the check must exist. ENABLE ALWAYS: replicated writes
// count too. Undone, [Column.Strict] is undone with it. That of an expression makes the target right instead, where it
// can, and follows no renames: the names are in its texts.
func (c Column) Capture() Step {
	if c.Expression != nil {
		return c.expressionCapture()
	}
	function, table := captureFunction(c.ID), c.Table.SQL()
	step := Step{Do: []string{
		fmt.Sprintf("CREATE SEQUENCE IF NOT EXISTS cipherfleet.%s", missedSequence(c.ID)),
		fmt.Sprintf(functionSQL, function, captured(c.captureBody())),
		fmt.Sprintf("REVOKE ALL ON FUNCTION cipherfleet.%s() FROM PUBLIC", function),
		c.misses(),
		fmt.Sprintf("GRANT EXECUTE ON FUNCTION cipherfleet.%s TO PUBLIC", missesFunction(c.ID)),
		c.missesInsert(),
		fmt.Sprintf("GRANT EXECUTE ON FUNCTION cipherfleet.%s TO PUBLIC", missesInsertFunction(c.ID)),
	}}
	step.Do = append(step.Do, c.olderGuards().Undo...)
	step.Undo = c.Strict().Undo
	var enable []string
	for _, g := range c.guards() {
		name, argument := pg.Ident(fmt.Sprintf("%s%d_%s", TriggerPrefix, c.ID, g.name)), ""
		if !g.clears {
			argument = "'counts'"
		}
		step.Do = append(step.Do, fmt.Sprintf(guardSQL, name, g.event, table, g.condition, function, argument))
		step.Undo = append(step.Undo, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", name, table))
		enable = append(enable, "ENABLE ALWAYS TRIGGER "+name)
	}
	step.Do = append(step.Do, fmt.Sprintf("ALTER TABLE %s %s", table, strings.Join(enable, ", ")))
	step.Undo = append(append(step.Undo, c.olderGuards().Undo...),
		fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s()", function),
		fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s", missesFunction(c.ID)),
		fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s", missesInsertFunction(c.ID)),
		fmt.Sprintf("DROP SEQUENCE IF EXISTS cipherfleet.%s", missedSequence(c.ID)))
	if c.Where != nil {
		home, back := c.home()
		within := c.WithinFunction()
		step.Do = slices.Concat([]string{home}, within.Do, []string{back}, step.Do)
		step.Undo = append(step.Undo, within.Undo...)
	} else {
		step.Do = append(step.Do, dropWithin(c.ID)) // of a condition that was
	}
	return step
}

// bound are the columns that a cell depends on: those of the key, those beside the source, and the source.
func (c Column) bound() []string { return slices.Concat(c.Key, c.Beside, []string{c.Source}) }

// image is the list of those columns of one row version.
func (c Column) image(version string) string {
	fields := make([]string, 0, len(c.Key)+1)
	for _, name := range c.bound() {
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
