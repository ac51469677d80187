package ddl

import (
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// What makes the target of an expression right again after a write.
//
// Where a target stands beside its source, capture makes the value itself, in the very write: Postgres can, for it has
// the expression, where it has no key to seal with. So no row becomes undone by being written, a row that is done stays
// done until its cutover, and nothing needs to be cleared: clearing would say nothing anyway, since an expression may
// make NULL of a value. It runs as whoever writes, under the settings of the fleet, and never fails a write: an
// expression that raises leaves the target as it was sent, and the write is counted and recorded as one that missed.
//
// Where rows are done by a version, the expression may be volatile, or stand in its source's own place; then a write
// that changes what the expression reads takes the version back by one, unless the writer said that it writes values of
// the new form (client). The fleet says so too, where its own write is what changes the source.
//
// In place and done by a condition, the condition is all there is to say of a row, and nothing needs to be captured.
func (c Column) expressionGuards() []guard {
	reads := fmt.Sprintf("pg_catalog.record_image_ne(ROW(%s), ROW(%s))", fields("new", c.Expression.Inputs), fields("old", c.Expression.Inputs))
	switch {
	case c.Expression.Version != "":
		done := fmt.Sprintf("(new.%s OPERATOR(pg_catalog.>=) %d) IS TRUE", pg.Ident(c.Expression.Version), c.Expression.Number)
		known := "(" + isClient + ") IS NOT TRUE"
		insert := done + " AND " + known
		if c.InPlace() {
			known += " AND (" + isFleet + ") IS NOT TRUE"
		}
		return []guard{{"insert", "INSERT", insert, true}, {"update", "UPDATE", done + " AND " + known + " AND " + reads, true}}
	case c.InPlace():
		return nil
	}
	target := pg.Ident(c.Target)
	changed := fmt.Sprintf("%s OR (%s) IS NOT TRUE AND pg_catalog.record_image_ne(ROW(new.%s), ROW(old.%s))", reads, isFleet, target, target)
	failed := fmt.Sprintf("pg_catalog.current_setting('%s', true) OPERATOR(pg_catalog.=) 'yes'", failedSetting(c.ID))
	return []guard{
		{"follow_insert", "INSERT", "true", true}, {"follow_update", "UPDATE", changed, true},
		{"missed_insert", "INSERT", failed, false}, {"missed_update", "UPDATE", "(" + changed + ") AND " + failed, false},
	}
}

// guardNames are all that a capture may consist of.
func guardNames() []string {
	return []string{"absent_insert", "insert", "update", "follow_insert", "follow_update", "missed_insert", "missed_update"}
}

func followFunction(id uint32) string { return fmt.Sprintf("follow_%d", id) }
func failedSetting(id uint32) string  { return fmt.Sprintf("cipherfleet.failed_%d", id) }

// The expression stands in the body and not in a call: who may write the table need not be allowed into our schema.
const followBody = `
#variable_conflict use_column
BEGIN -- %[1]s
  IF current_setting('%[2]s', true) = 'yes' THEN
    PERFORM set_config('%[2]s', '', true);
  END IF;
  NEW.%[3]s := (SELECT %[4]s%[5]s);
  RETURN NEW;
EXCEPTION WHEN OTHERS THEN
  PERFORM set_config('%[2]s', 'yes', true);
  RETURN NEW;
END
`

// The settings are those of [pg.Pinned] that an expression could tell.
const followSQL = `CREATE OR REPLACE FUNCTION cipherfleet.%s() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 3
SET timezone = 'UTC' SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmlbinary = 'base64' SET xmloption = 'content' SET array_nulls = on AS %s`

func (c Column) followBody() string {
	e := c.Expression
	return fmt.Sprintf(followBody, e.digest(), failedSetting(c.ID), pg.Ident(c.Target), e.SQL, collated("NEW.", e.Inputs))
}

// resetBody takes the version back; the rest is that of every capture.
func (c Column) resetBody() string {
	e := c.Expression
	clear := fmt.Sprintf("NEW.%s := %d; -- %s\n", pg.Ident(e.Version), e.Number-1, e.digest())
	return "\nDECLARE\n  missed bigint;\nBEGIN\n  " + clear + fmt.Sprintf(recordMiss, missedSequence(c.ID), c.ID)
}

// expressionCapture is [Column.Capture] of an expression.
func (c Column) expressionCapture() Step {
	home, back := c.home()
	step := c.Functions()
	step.Do = append([]string{home}, step.Do...)
	guards := c.guards()
	if len(guards) == 0 {
		step.Do = append(step.Do, back)
		return step
	}
	function, body := captureFunction(c.ID), CaptureBody(c.ID)
	if !c.Follows() {
		body = c.resetBody()
	}
	step.Do = append(step.Do, fmt.Sprintf("CREATE SEQUENCE IF NOT EXISTS cipherfleet.%s", missedSequence(c.ID)),
		fmt.Sprintf(functionSQL, function, captured(body)), fmt.Sprintf("REVOKE ALL ON FUNCTION cipherfleet.%s() FROM PUBLIC", function))
	if c.Follows() {
		step.Do = append(step.Do, fmt.Sprintf(followSQL, followFunction(c.ID), Quote(c.followBody())),
			fmt.Sprintf("REVOKE ALL ON FUNCTION cipherfleet.%s() FROM PUBLIC", followFunction(c.ID)))
	}
	var drop, enable []string
	for _, g := range guards {
		name, calls, argument := pg.Ident(fmt.Sprintf("%s%d_%s", TriggerPrefix, c.ID, g.name)), function, ""
		switch {
		case !g.clears:
			argument = "'counts'"
		case c.Follows():
			calls = followFunction(c.ID)
		}
		step.Do = append(step.Do, fmt.Sprintf(guardSQL, name, g.event, c.Table.SQL(), g.condition, calls, argument))
		drop = append(drop, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", name, c.Table.SQL()))
		enable = append(enable, "ENABLE ALWAYS TRIGGER "+name)
	}
	step.Do = append(step.Do, fmt.Sprintf("ALTER TABLE %s %s", c.Table.SQL(), strings.Join(enable, ", ")), back)
	step.Undo = append(drop, append(step.Undo, fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s()", function),
		fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s()", followFunction(c.ID)),
		fmt.Sprintf("DROP SEQUENCE IF EXISTS cipherfleet.%s", missedSequence(c.ID)))...)
	return step
}

// AnyCapture takes away whatever capture stands, whoever was to make the target. What [Column.Within] calls stays as long
// as the target does: it says which of the rows without a cell lack one.
func (c Column) AnyCapture() Step {
	c.Where = nil
	undo := c.Capture().Undo
	for _, name := range AnyCaptureTriggers(c.ID) {
		undo = append(undo, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", pg.Ident(name), c.Table.SQL()))
	}
	for _, function := range []string{"cipherfleet." + captureFunction(c.ID), "cipherfleet." + followFunction(c.ID), valueFunction(c.ID), madeFunction(c.ID), doneFunction(c.ID)} {
		undo = append(undo, "DROP FUNCTION IF EXISTS "+function)
	}
	return Step{Undo: undo}
}

// home takes a transaction where names without a schema are Postgres's own, and back.
func (c Column) home() (home, back string) {
	return "SELECT pg_catalog.set_config('cipherfleet.before_expression', pg_catalog.current_setting('search_path'), true), pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)",
		"SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('cipherfleet.before_expression'), true)"
}

// Guards are the triggers of the column's capture, by their names, with the body of the function that each calls. One
// that stands with another body was installed by an older version, for another expression, or altered.
func (c Column) Guards() map[string]string {
	bodies := map[string]string{}
	for _, g := range c.guards() {
		body := c.captureBody()
		switch {
		case c.Follows() && g.clears:
			body = "\n" + c.followBody() + "\n" // as Quote sets it
		case c.Expression != nil && !c.Follows():
			body = c.resetBody()
		}
		bodies[fmt.Sprintf("%s%d_%s", TriggerPrefix, c.ID, g.name)] = body
	}
	return bodies
}

// markSQL lets everything in: it only tells, whatever its name becomes, in each partition and after a restore, which
// column is the target.
const markSQL = `ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s IS NULL OR true) NOT VALID`
