package ddl

import (
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// BoundName is the constraint that a write is told to break, with SQLSTATE 23514, which leaves a cell behind that does not
// open any more.
func BoundName(id uint32) string { return fmt.Sprintf("cipherfleet_%d_bound", id) }

// BoundTrigger is the trigger that looks after the columns that a column's cells are bound to. It fires behind every
// capture, and before what keeps tokens right; what looks for captures by their names does not find it.
func BoundTrigger(id uint32) string { return fmt.Sprintf("%sbound_%d", TriggerPrefix, id) }

func boundFunction(id uint32) string { return fmt.Sprintf("bound_%d", id) }

// RebindSetting is on in a transaction that seals a row's cells for what it makes of the bound columns.
const RebindSetting = "cipherfleet.rebinds"

// The function is called for few writes, so it may ask for much. Whose cell is bound to nothing that changed, is let go:
// schemes that are bound otherwise stand beside one another. Of a numeric its worth counts, of any other type what is
// stored: cells are bound to its text, and what is equal may be printed otherwise, or what is not alike. Where capture
// stands, plaintext is the truth, and the cell is cleared and counted as by any write that misses it; where it does not,
// the cell is all there is to read.
//
// The fleet seals for what it has read. Another trigger that changes a bound column beneath its write leaves it a cell
// that does not open, as a row does that comes by replication: such a row comes from where its cell was bound to it.
const boundBody = `  SELECT a.attname INTO target FROM pg_catalog.pg_constraint c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
   WHERE c.conrelid = TG_RELID AND c.contypid = 0 AND c.conname = '%[2]s';
  IF target IS NULL THEN
    RETURN NEW;
  END IF;
  EXECUTE format('SELECT to_jsonb(($1).%%1$I) #>> ''{}'', record_image_ne(ROW(($1).%%1$I), ROW(($2).%%1$I))', target) INTO sealed, anew USING NEW, OLD;
  SELECT string_agg(format(CASE b.tag WHEN 'n' THEN '($1).%%1$I IS DISTINCT FROM ($2).%%1$I' ELSE 'record_image_ne(ROW(($1).%%1$I), ROW(($2).%%1$I))' END, a.attname), ' OR ') INTO differs
    FROM cipherfleet.schemes s JOIN cipherfleet.columns c ON c.id = s.column_id
    CROSS JOIN LATERAL unnest(s.bound_attnums, string_to_array(s.bound_tags, NULL)) AS b (num, tag) JOIN pg_attribute a ON a.attrelid = c.relid AND a.attnum = b.num
   WHERE s.column_id = %[1]d AND substr(int4send(s.number), 3) = CASE WHEN starts_with(sealed, '\x') THEN decode(substr(sealed, 15, 4), 'hex')
     ELSE substr(decode(translate(substr(sealed, 13, 4), '-_', '+/'), 'base64'), 1, 2) END;
  IF differs IS NOT NULL THEN
    EXECUTE 'SELECT ' || differs INTO moved USING NEW, OLD;
  END IF;
  IF moved IS NOT TRUE THEN
    RETURN NEW;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = TG_RELID AND g.tgname = '%[3]s') THEN
    IF anew AND (writer NOT IN ('` + WriterFleet + `', '` + WriterRotation + `') OR current_setting('` + RebindSetting + `', true) = 'on')
      OR writer = '' AND current_setting('session_replication_role') = 'replica' THEN
      RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a write to "%%.%%" changes a column that a cell is bound to, and leaves the cell as it is', TG_TABLE_SCHEMA, TG_TABLE_NAME
      USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = '%[4]s',
        HINT = 'Nobody could open it any more. Write the cell in the same statement, or let the client rebind the row.';
  END IF;
  IF writer NOT IN ('` + WriterFleet + `', '` + WriterRotation + `') AND EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = TG_RELID AND g.tgname = '%[5]s' AND g.tgenabled IN ('O', 'A')) THEN
    RAISE EXCEPTION 'a write to "%%.%%" misses the cell of a column that is being encrypted', TG_TABLE_SCHEMA, TG_TABLE_NAME
      USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = '%[6]s',
        HINT = 'Write the cell in the same statement, in a transaction or by a role whose ` + WriterSetting + ` is ` + WriterClient + `.';
  END IF;
`

func boundBodyOf(id uint32) string {
	look := fmt.Sprintf(boundBody, id, CheckName(id), CaptureTriggers(id)[1], BoundName(id), StrictTriggers(id)[1], StrictName(id))
	body := strings.Replace(CaptureBody(id), "DECLARE\n", "DECLARE\n  sealed text;\n  anew bool;\n  differs text;\n  moved bool;\n  writer text := coalesce(current_setting('"+WriterSetting+"', true), '');\n", 1)
	return strings.Replace(body, "BEGIN\n", "BEGIN\n"+look, 1)
}

const boundFunctionSQL = `CREATE OR REPLACE FUNCTION cipherfleet.%[1]s() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET bytea_output = 'hex' AS %[2]s`

const boundTriggerSQL = `CREATE OR REPLACE TRIGGER %[1]s BEFORE UPDATE ON %[2]s FOR EACH ROW
WHEN (pg_catalog.record_image_ne(ROW(%[3]s), ROW(%[4]s)) AND new.%[5]s IS DISTINCT FROM NULL
  AND (` + isClient + ` AND pg_catalog.record_image_ne(ROW(new.%[5]s), ROW(old.%[5]s))) IS NOT TRUE)
EXECUTE FUNCTION cipherfleet.%[6]s()`

// Bind has Postgres look after the columns that cells are bound to, by their present names: an update of one of them that
// does not bring another cell clears it, as one of the key does, or is refused where cells are the truth; and as long as it
// stands, none of the columns can be dropped, or change its type, unnoticed. Without names it is gone. It is repeatable,
// follows renames, and takes a SHARE ROW EXCLUSIVE lock; the check must exist.
func (c Column) Bind(names []string) Step {
	trigger, table, function := pg.Ident(BoundTrigger(c.ID)), c.Table.SQL(), boundFunction(c.ID)
	undo := []string{
		fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", trigger, table),
		fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s()", function),
	}
	if len(names) == 0 {
		return Step{Do: undo, Undo: undo}
	}
	return Step{Do: []string{
		fmt.Sprintf(boundFunctionSQL, function, captured(boundBodyOf(c.ID))),
		fmt.Sprintf("REVOKE ALL ON FUNCTION cipherfleet.%s() FROM PUBLIC", function),
		fmt.Sprintf(boundTriggerSQL, trigger, table, keyOf("new", names), keyOf("old", names), pg.Ident(c.Target), function),
		fmt.Sprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table, trigger),
	}, Undo: undo}
}

// IsBound says whether a trigger is the one that [Column.Bind] makes now, over just these columns, and enabled for every
// writer. Of the column only ID and Target count.
func (c Column) IsBound(t pg.Trigger, names []string) bool {
	if t.Name != BoundTrigger(c.ID) || t.Enabled != "A" || t.Body != boundBodyOf(c.ID) {
		return false
	}
	wanted := map[string]bool{c.Target: true}
	for _, name := range names {
		wanted[name] = true
	}
	for _, name := range t.Reads {
		if !wanted[name] {
			return false
		}
		delete(wanted, name)
	}
	return len(wanted) == 0
}
