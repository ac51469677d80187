package ddl

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// StrictName is the constraint that a refused write is told to break, with SQLSTATE 23514.
func StrictName(id uint32) string { return fmt.Sprintf("cipherfleet_%d_strict", id) }

// StrictTriggers are the names of the triggers that refuse.
func StrictTriggers(id uint32) []string {
	return []string{fmt.Sprintf("%s%d_strict_insert", TriggerPrefix, id), fmt.Sprintf("%s%d_strict_update", TriggerPrefix, id)}
}

func strictFunction(id uint32) string { return fmt.Sprintf("strict_%d", id) }

const strictFunctionSQL = `CREATE OR REPLACE FUNCTION cipherfleet.%[1]s() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $strict$
BEGIN
  RAISE EXCEPTION 'a write to "%%.%%" misses the cell of a column that is being encrypted', TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = '%[2]s',
      HINT = 'Write the cell in the same statement, in a transaction or by a role whose ` + WriterSetting + ` is ` + WriterClient + `.';
END
$strict$`

const strictTriggerSQL = `CREATE OR REPLACE TRIGGER %s AFTER %s ON %s FOR EACH ROW
WHEN (NOT (new.%s IS DISTINCT FROM NULL)%s AND (` + isFleet + `) IS NOT TRUE%s)
EXECUTE FUNCTION cipherfleet.%s()`

const isFleet = `pg_catalog.current_setting('` + WriterSetting + `', true) OPERATOR(pg_catalog.=) '` + WriterFleet + `'`

// Strict makes a write that misses the target fail, instead of leaving its row uncovered. It judges the row as capture
// left it, so capture must stand; whoever takes capture away takes it away too. A CHECK would also refuse what nobody
// missed: every write to another column of a row that the job has not reached. Replicated writes are let through, since
// a refusal would end the subscription, and so is the fleet, whose cell another trigger may have made stale.
func (c Column) Strict() Step {
	names, function, table := StrictTriggers(c.ID), strictFunction(c.ID), c.Table.SQL()
	target, source := pg.Ident(c.Target), c.hasSource()
	step := Step{Do: []string{fmt.Sprintf(strictFunctionSQL, function, StrictName(c.ID)), fmt.Sprintf("REVOKE ALL ON FUNCTION cipherfleet.%s() FROM PUBLIC", function)}}
	changed := fmt.Sprintf("\n  AND pg_catalog.record_image_ne(ROW(%s), ROW(%s))", c.image("new"), c.image("old"))
	for i, on := range []struct{ event, changed string }{{"INSERT", ""}, {"UPDATE", changed}} {
		step.Do = append(step.Do, fmt.Sprintf(strictTriggerSQL, pg.Ident(names[i]), on.event, table, target, source, on.changed, function))
		step.Undo = append(step.Undo, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", pg.Ident(names[i]), table))
	}
	step.Undo = append(step.Undo, fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s()", function))
	return step
}
