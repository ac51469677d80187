package ddl_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// What is asked first about the values of a type must let the same writes go, and no other, as what is asked about all.
func TestCaptureSeesTheSameOfEveryType(t *testing.T) {
	t.Parallel()
	for sourceType, values := range map[string][2]string{
		"bool": {"false", "true"}, "bytea": {`\x00`, `\x0000`}, "int2": {"1", "-1"}, "int4": {"0", "2147483647"}, "int8": {"4294967296", "0"},
		"oid": {"1", "4294967295"}, "date": {"2026-11-22", "infinity"}, "timestamp": {"2026-11-22", "2026-11-22 00:00:00.000001"},
		"timestamptz": {"2026-11-22 00:00+00", "2026-11-22 00:00+01"}, "uuid": {"0197a1b2-c3d4-7e5f-8a6b-9c0d1e2f3a4b", "0197a1b2-c3d4-7e5f-8a6b-9c0d1e2f3a4c"},
		"text": {"a", "a "}, "varchar(9)": {"", "a"}, "bpchar": {"a", "a "}, "numeric": {"1.10", "1.1"}, "jsonb": {"1.10", "1.1"}, "inet": {"::1", "::2"},
	} {
		t.Run(sourceType, func(t *testing.T) {
			t.Parallel()
			f := users(t, sourceType)
			for _, known := range []map[string]uint32{f.Types, nil} {
				f.Types = known
				f.do(t, f.Capture().Do)
				f.wantSeen(t, values)
			}
		})
	}
}

func (f fixture) wantSeen(t *testing.T, values [2]string) {
	t.Helper()
	one, other := "'"+values[0]+"'", "'"+values[1]+"'"
	mine, next := "'"+asHex(cellOf(7))+"'", "'"+asHex(otherCell())+"'"
	for _, w := range []struct {
		before, writer, update string
		covered                bool
		missed                 int64
	}{
		{one + ", 'n', " + mine, "", "note = 'm'", true, 0},
		{one + ", 'n', " + mine, "", "email = " + one, true, 0},
		{one + ", 'n', " + mine, "", "email = " + other, false, 1},
		{one + ", 'n', " + mine, "", "email = NULL", false, 1},
		{one + ", 'n', " + mine, "", "email = " + other + ", cell = " + next, false, 1},
		{one + ", 'n', " + mine, ddl.WriterClient, "email = " + other + ", cell = " + next, true, 0},
		{one + ", 'n', " + mine, ddl.WriterClient, "email = " + other + ", cell = " + mine, false, 1},
		{one + ", 'n', " + mine, ddl.WriterClient, "email = " + other + ", cell = NULL", false, 1},
		{one + ", 'n', " + mine, ddl.WriterClient, "email = NULL, cell = NULL", false, 0},
		{one + ", 'n', " + mine, ddl.WriterFleet, "cell = " + next, true, 0},
		{one + ", 'n', " + mine, "", "id = 2", false, 1},
		{one + ", 'n', " + mine, ddl.WriterClient, "id = 2", false, 1},
		{one + ", 'n', " + mine, ddl.WriterClient, "id = 2, cell = " + next, true, 0},
		{"NULL, 'n', NULL", "", "note = 'm'", false, 0},
		{"NULL, 'n', NULL", "", "id = 2", false, 0},
		{"NULL, 'n', NULL", "", "email = " + one, false, 1},
		{"NULL, 'n', NULL", ddl.WriterClient, "email = " + one + ", cell = " + mine, true, 0},
		{"NULL, 'n', NULL", ddl.WriterClient, "email = " + one, false, 1},
		{"NULL, 'n', " + mine, "", "note = 'm'", true, 0},
		{one + ", 'n', NULL", "", "note = 'm'", false, 0},
		{one + ", 'n', NULL", ddl.WriterClient, "email = " + other + ", cell = " + mine, true, 0},
		{one + ", 'n', NULL", ddl.WriterFleet, "cell = " + mine, true, 0},
	} {
		f.Run(t, "TRUNCATE users")
		f.write(t, ddl.WriterClient, "INSERT INTO users VALUES (1, "+w.before+")")
		before := f.missed(t)
		f.write(t, w.writer, "UPDATE users SET "+w.update)
		if missed := f.missed(t) - before; f.covered(t) != w.covered || missed != w.missed {
			t.Errorf("(%s), then by %q %s: covered = %t, %d missed, want %t and %d", w.before, w.writer, w.update, f.covered(t), missed, w.covered, w.missed)
		}
	}
}

// olderCapture is what versions before this one installed besides, or otherwise.
const olderCapture = `CREATE OR REPLACE TRIGGER "~cipherfleet_7_absent_insert" BEFORE INSERT ON users FOR EACH ROW
 WHEN (NOT (new.cell IS DISTINCT FROM NULL) AND new.email IS DISTINCT FROM NULL) EXECUTE FUNCTION cipherfleet.capture_7('counts');
CREATE OR REPLACE TRIGGER "~cipherfleet_7_insert" BEFORE INSERT ON users FOR EACH ROW
 WHEN (new.cell IS DISTINCT FROM NULL AND (current_setting('cipherfleet.writer', true) = 'client') IS NOT TRUE) EXECUTE FUNCTION cipherfleet.capture_7();
ALTER TABLE users ENABLE ALWAYS TRIGGER "~cipherfleet_7_absent_insert", ENABLE ALWAYS TRIGGER "~cipherfleet_7_insert"`

func TestCaptureTakesThePlaceOfAnOlderOne(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	before := testenv.One[string](t, f, everything)
	f.Run(t, olderCapture)
	f.do(t, f.Capture().Do)
	if testenv.One[string](t, f, everything) != before {
		t.Error("something of the older one is left")
	}
	f.write(t, "", "INSERT INTO users VALUES (1, 'a')")
	if n := f.missed(t); n != 1 {
		t.Errorf("%d missed, want 1", n)
	}
	f.Run(t, olderCapture)
	f.do(t, f.Capture().Undo)
	if n := testenv.One[int](t, f, "SELECT count(*) FROM pg_trigger WHERE tgname ^@ '~cipherfleet'"); n != 0 {
		t.Errorf("%d triggers are left", n)
	}
}

// The check as it stands on long cells, and as older versions wrote it, lets the same in.
func TestEveryCheckLetsTheSameIn(t *testing.T) {
	t.Parallel()
	for _, id := range []uint32{7, 0x255C5F00, 0x5F5F2525, 0x5C5C5C5C} { // bytes that mean something in a pattern
		for _, long := range []bool{false, true} {
			t.Run(fmt.Sprintf("%x %t", id, long), func(t *testing.T) {
				t.Parallel()
				c := usersColumn()
				c.ID, c.Long = id, long
				f := fixture{testenv.Database(t), c}
				f.Run(t, "CREATE TABLE users (id bigint PRIMARY KEY, email text)")
				f.do(t, c.AddTarget().Do)
				f.do(t, c.Check().Do)
				prefix := cell.Prefix(id)
				older := fmt.Sprintf(`CHECK (cell IS NULL OR (octet_length(cell) >= 32 AND substr(cell, 1, 6) = '\x%x'::bytea))`, prefix)
				f.Run(t, "CREATE TABLE older (cell bytea "+older+")")
				f.Run(t, "INSERT INTO users VALUES (1)")
				good := cellOf(id)
				long := append(cellOf(id), []byte(strings.Repeat("long", 4000))...)
				values := [][]byte{nil, good, long, good[:31], {}, prefix[:], append([]byte{0}, good...), []byte(strings.Repeat("%", 40)), long[1:]}
				for i := range prefix {
					other := append([]byte{}, good...)
					other[i]++
					values = append(values, other)
				}
				for _, value := range values {
					_, older := f.Exec(t.Context(), "INSERT INTO older VALUES ($1)", value)
					if _, err := f.Exec(t.Context(), "UPDATE users SET cell = $1", value); (err == nil) != (older == nil) {
						t.Errorf("a value of %d bytes: %v, before %v", len(value), err, older)
					}
				}
				f.Run(t, "UPDATE users SET email = 'beside a cell that stays'")
				f.Run(t, "ALTER TABLE users DROP CONSTRAINT "+ddl.CheckName(id)+", ADD CONSTRAINT "+ddl.CheckName(id)+" "+older)
				if text := printed(t, f.DB, ddl.CheckName(id)); !c.IsCheck(text) {
					t.Errorf("not recognised: %s", text)
				}
			})
		}
	}
}
