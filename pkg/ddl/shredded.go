package ddl

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// ShreddedName is the constraint that a cell under a key that was shredded is told to break, with SQLSTATE 23514.
func ShreddedName(id uint32) string { return fmt.Sprintf("cipherfleet_%d_shredded", id) }

func shreddedFunction(id uint32) string { return fmt.Sprintf("shredded_%d", id) }

// shreddedTrigger is named beside the captures' triggers: what looks for those by their names does not find it.
func shreddedTrigger(id uint32, event string) string {
	return fmt.Sprintf("%sshredded_%d_%s", TriggerPrefix, id, event)
}

// What was there before may be moved: a row that goes to another partition is deleted and comes in again.
const shreddedBody = `
DECLARE
  target text;
  moved text;
BEGIN
  SELECT a.attname INTO target FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
   WHERE c.conrelid = TG_RELID AND c.contypid = 0 AND c.conname = '%[1]s';
  IF TG_OP = 'DELETE' THEN
    PERFORM set_config('cipherfleet.%[3]s', md5(to_jsonb(OLD) ->> target), true);
    RETURN NULL;
  END IF;
  moved := current_setting('cipherfleet.%[3]s', true);
  IF TG_OP = 'INSERT' AND md5(to_jsonb(NEW) ->> target) = moved THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION 'a write to "%%.%%" has a cell under a key that was shredded', TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = '%[2]s',
      HINT = 'Nobody could open it. The key is gone for good; the tenant has no other one under this scheme.';
END
`

const shreddedTriggerSQL = `CREATE OR REPLACE TRIGGER %s AFTER %s ON %s FOR EACH ROW
WHEN (%s)
EXECUTE FUNCTION cipherfleet.%s()`

// Shredded refuses cells under keys, by their ids, from now on; those that are there stay, and their rows may be written.
// Without keys it refuses nothing, and is gone. It waits for whoever writes the table, so what was sealed with such a key
// is committed before it, or not at all: it takes a SHARE ROW EXCLUSIVE lock for a moment, and reads no row. A write of
// other columns costs nothing, one of a cell a comparison. The check must exist.
func (c Column) Shredded(keys []uint32) Step {
	table, function := c.Table.SQL(), shreddedFunction(c.ID)
	var undo []string
	for _, event := range []string{"insert", "update", "delete"} {
		undo = append(undo, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", pg.Ident(shreddedTrigger(c.ID, event)), table))
	}
	undo = append(undo, fmt.Sprintf("DROP FUNCTION IF EXISTS cipherfleet.%s()", function))
	if len(keys) == 0 {
		return Step{Do: undo, Undo: undo}
	}
	do := []string{fmt.Sprintf("CREATE OR REPLACE FUNCTION cipherfleet.%s() RETURNS trigger\nLANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $shredded$%s$shredded$",
		function, fmt.Sprintf(shreddedBody, CheckName(c.ID), ShreddedName(c.ID), function)),
		fmt.Sprintf("REVOKE ALL ON FUNCTION cipherfleet.%s() FROM PUBLIC", function)}
	var enable []string
	for _, g := range []struct{ event, on, version string }{
		{"insert", "INSERT", "new"}, {"update", "UPDATE OF " + pg.Ident(c.Target), "new"}, {"delete", "DELETE", "old"}} {
		name, condition := pg.Ident(shreddedTrigger(c.ID, g.event)), Under(g.version+"."+pg.Ident(c.Target), c.Form, keys)
		if g.event == "update" {
			condition += fmt.Sprintf("\n  AND pg_catalog.record_image_ne(ROW(new.%[1]s), ROW(old.%[1]s))", pg.Ident(c.Target))
		}
		do = append(do, fmt.Sprintf(shreddedTriggerSQL, name, g.on, table, condition, function))
		enable = append(enable, "ENABLE ALWAYS TRIGGER "+name)
	}
	return Step{Do: append(do, fmt.Sprintf("ALTER TABLE %s %s", table, strings.Join(enable, ", "))), Undo: undo}
}

// keyAt is where a cell names its key, and keySize how long that is: the last part of its header.
const (
	keySize = 4
	keyAt   = cell.HeaderSize - keySize
)

// Under is the condition that an expression yields a cell under one of these keys, by their ids. It needs no key.
func Under(expression string, form cell.Form, keys []uint32) string {
	var among []string
	for _, id := range slices.Compact(slices.Sorted(slices.Values(keys))) {
		key := binary.BigEndian.AppendUint32(nil, id)
		if form == cell.FormBytes {
			among = append(among, fmt.Sprintf(`E'\\x%x'`, key))
			continue
		}
		among = append(among, keyTexts(key)...)
	}
	if form == cell.FormBytes {
		return fmt.Sprintf("pg_catalog.substr(%s, %d, %d) OPERATOR(pg_catalog.=) ANY (ARRAY[%s]::pg_catalog.bytea[])", expression, keyAt+1, keySize, strings.Join(among, ", "))
	}
	return fmt.Sprintf("pg_catalog.substr(%s, %d, %d) OPERATOR(pg_catalog.=) ANY (ARRAY[%s]::pg_catalog.text[])",
		textOf(expression, form), len(cell.TextPrefix)+keyAt/3*4+1, keyTextSize, strings.Join(among, ", "))
}

// keyTextSize is how many characters of the text form tell a key: of the last one only the upper bits.
const keyTextSize = (8*keySize + 5) / 6

// keyTexts are the characters in which a key may stand: four bits of the last one are of what follows it.
func keyTexts(key []byte) []string {
	var texts []string
	for follows := range byte(16) {
		text := cell.FormText.Append(nil, append(slices.Clone(key), follows<<4))
		texts = append(texts, "'"+string(text[len(cell.TextPrefix):][:keyTextSize])+"'")
	}
	return texts
}
