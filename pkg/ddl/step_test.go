package ddl_test

import (
	"bytes"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// everything is what the catalog knows of the user's table and of what steps make in our schema.
const everything = `SELECT md5(string_agg(x, E'\n' ORDER BY x)) FROM (
 SELECT concat_ws(' ', attrelid, attnum, attname, atttypid, attstorage, attnotnull) x FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid WHERE relnamespace <> 11 AND NOT attisdropped AND relkind <> 't'
 UNION ALL SELECT concat_ws(' ', conrelid, conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace <> 11
 UNION ALL SELECT concat_ws(' ', tgrelid, tgname, tgenabled, pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
 UNION ALL SELECT concat_ws(' ', proname, prosrc) FROM pg_proc WHERE pronamespace = 'cipherfleet'::regnamespace) x`

func TestEveryStepUndoes(t *testing.T) {
	t.Parallel()
	c := awkward()
	f := fixture{testenv.Database(t), c}
	f.Run(t, awkwardSchema)
	f.Run(t, awkwardTable)
	steps := []ddl.Step{c.AddTarget(), c.Store(), c.Check(), c.Validate(), c.Capture(), c.ReverseCapture()}
	var before []string
	for i, step := range steps {
		before = append(before, testenv.One[string](t, f, everything))
		f.do(t, step.Do)
		if i != 1 && testenv.One[string](t, f, everything) == before[i] { // a new target is stored so already
			t.Errorf("%s changed nothing", step.Do[0])
		}
	}
	for i := len(steps) - 1; i >= 0; i-- {
		f.do(t, steps[i].Undo)
		if i != 1 && i != 3 && testenv.One[string](t, f, everything) != before[i] {
			t.Errorf("%v left something", steps[i].Undo)
		}
	}
}

func TestStepsWorkUnderAHostileSearchPath(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE SCHEMA evil; CREATE FUNCTION evil.yes(bytea, bytea) RETURNS bool LANGUAGE sql AS 'SELECT true';
		CREATE OPERATOR evil.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = evil.yes);
		CREATE FUNCTION evil.yes(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
		CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes);
		CREATE FUNCTION evil.yes(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT false';
		CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.yes);
		CREATE TABLE users (id bigint PRIMARY KEY, email text)`)
	c := usersColumn()
	f := fixture{db, c}
	for _, step := range []ddl.Step{c.AddTarget(), c.Check(), c.Capture()} {
		f.do(t, append([]string{"SET LOCAL search_path = evil, pg_catalog, public", "SET LOCAL standard_conforming_strings = off"}, step.Do...))
	}
	f.hostile(t, func(tx pg.Tx) error {
		_, err := tx.Exec(t.Context(), "INSERT INTO users VALUES (1, 'a', $1)", cellOf(7))
		return err
	})
	f.wantCovered(t, false, "an insert with a cloned cell")
	if _, err := f.Exec(t.Context(), "UPDATE users SET cell = $1", cellOf(8)); pg.Code(err) != "23514" {
		t.Errorf("a foreign cell got in: %v", err)
	}
	relation := testenv.One[uint32](t, f, "SELECT 'users'::regclass::oid")
	watch := ddl.Watch{Key: c.Key, Columns: []ddl.Column{c}}
	f.hostile(t, func(tx pg.Tx) error {
		if parts := testenv.Column[string](t, tx, "SELECT p.part FROM ("+watch.Parts()+") p", relation); len(parts) != 10 {
			t.Errorf("%d parts seen, want 10: %v", len(parts), parts)
		}
		return nil
	})
}

// hostile runs do in a transaction where evil's operators come before Postgres's own.
func (f fixture) hostile(t *testing.T, do func(pg.Tx) error) {
	t.Helper()
	err := f.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), "SET LOCAL search_path = evil, pg_catalog, public"); err != nil {
			return err
		}
		return do(tx)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheckLetsOnlyCellsOfTheColumnIn(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.Run(t, "INSERT INTO users VALUES (1, 'alice@example.com')")
	least := cellOf(7)[:cell.HeaderSize+cell.TagSize]
	for name, tc := range map[string]struct {
		target []byte
		code   string
	}{
		"null": {nil, ""}, "a cell": {cellOf(7), ""}, "the shortest cell": {least, ""},
		"plaintext": {[]byte("alice@example.com, as long as any cell would be"), "23514"}, "empty": {[]byte{}, "23514"},
		"too short": {least[:len(least)-1], "23514"}, "another column's": {cellOf(8), "23514"}, "zeros": {bytes.Repeat([]byte{0}, 64), "23514"},
	} {
		if _, err := f.Exec(t.Context(), "UPDATE users SET cell = $1", tc.target); pg.Code(err) != tc.code {
			t.Errorf("%s: code %q, want %q", name, pg.Code(err), tc.code)
		}
	}
}

func TestValidateFindsWhatWasThereBefore(t *testing.T) {
	t.Parallel()
	c := usersColumn()
	f := fixture{testenv.Database(t), c}
	f.Run(t, "CREATE TABLE users (id bigint PRIMARY KEY, email text, cell bytea)")
	f.Run(t, "INSERT INTO users VALUES (1, 'a', 'plaintext in the target')")
	f.do(t, c.Check().Do)
	if _, err := f.Exec(t.Context(), c.Validate().Do[0]); pg.Code(err) != "23514" {
		t.Errorf("validation passed over plaintext: %v", err)
	}
}
