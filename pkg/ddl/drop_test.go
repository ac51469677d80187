package ddl_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// removal is the column of awkward names after a cutover by name, as its drop is written.
func removal(c ddl.Column) ddl.Removal {
	return ddl.Removal{Column: c, LogTable: c.Table.String(), LogColumn: c.Source, Type: "character varying(20)", Collation: `pg_catalog."C"`}
}

func TestDropGolden(t *testing.T) {
	t.Parallel()
	c := awkward()
	pin, unpin := ddl.Pin("2s")
	collated := removal(usersColumn())
	collated.Collation = `pg_catalog."default"`
	along := removal(c)
	along.Along = []ddl.Alongside{{`iv "1"`, "bytea", ""}, {"salt", "text", `pg_catalog."C"`}}
	for name, step := range map[string]ddl.Step{"drop_along": along.Drop(), "coverage": c.Coverage(), "validate_coverage": c.ValidateCoverage(),
		"drop": removal(c).Drop(), "drop_default_collation": collated.Drop(), "pin": {Do: []string{pin}, Undo: []string{unpin}}, "uncelled": {Do: []string{c.Uncelled()}}} {
		text := strings.Join(step.Do, ";\n") + ";\n"
		if len(step.Undo) > 0 {
			text += "-- undo\n" + strings.Join(step.Undo, ";\n") + ";\n"
		}
		compareGolden(t, name, text)
	}
}

// ready is a column that is cut over by name, registered, and whose coverage is proven.
func ready(t *testing.T, c ddl.Column, statements ...string) fixture {
	t.Helper()
	f := prepare(t, c, statements...)
	f.do(t, f.Capture().Undo)
	f.do(t, f.ReverseCapture().Do)
	f.Run(t, `INSERT INTO cipherfleet.columns (id, relid, source_attnum, target_attnum, schema_name, table_name, source, target, type)
 OVERRIDING SYSTEM VALUE SELECT $1::int8, s.attrelid, s.attnum, g.attnum, $2::text, $3::text, s.attname, g.attname, 'text'
 FROM pg_attribute s JOIN pg_attribute g USING (attrelid) WHERE attrelid = $4::text::regclass AND s.attname = $5::text AND g.attname = $6::text`,
		int64(c.ID), c.Table.Schema, c.Table.Name, c.Table.SQL(), c.Source, c.Target)
	f.Run(t, `INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ($1, $2, 'cut_over', 'cut-over')`, c.Table.String(), c.Source)
	f.do(t, f.Coverage().Do)
	f.do(t, f.ValidateCoverage().Do)
	return f
}

// pinned is what a migration file runs.
func pinned(statements []string) []string {
	pin, unpin := ddl.Pin("2s")
	return slices.Concat([]string{pin}, statements, []string{unpin})
}

func TestDropTakesThePlaintextAlone(t *testing.T) {
	t.Parallel()
	f := ready(t, awkward(), awkwardSchema, awkwardTable)
	f.Run(t, `SET search_path = information_schema`) // of one connection of the pool; whichever it is, nothing depends on it
	before := testenv.Column[string](t, f, `SELECT conname::text FROM pg_constraint WHERE conrelid = $1::text::regclass ORDER BY 1`, f.Table.SQL())
	f.do(t, pinned(removal(f.Column).Drop().Do))
	columns := testenv.Column[string](t, f, `SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, f.Table.SQL())
	if want := []string{"Tenant", "id;--", f.Target}; !slices.Equal(columns, want) {
		t.Errorf("the table has %q, want %q", columns, want)
	}
	after := testenv.Column[string](t, f, `SELECT conname::text FROM pg_constraint WHERE conrelid = $1::text::regclass ORDER BY 1`, f.Table.SQL())
	if len(after) != len(before)-1 || !slices.Contains(after, ddl.CheckName(f.ID)) {
		t.Errorf("constraints were %q and are %q", before, after)
	}
	if n := testenv.One[int](t, f, `SELECT count(*) FROM pg_trigger WHERE tgrelid = $1::text::regclass AND NOT tgisinternal`, f.Table.SQL()); n != 0 {
		t.Errorf("%d triggers are left", n)
	}
	if n := testenv.One[int](t, f, `SELECT count(*) FROM pg_proc WHERE pronamespace = 'cipherfleet'::regnamespace AND proname ~ '[0-9]$'`); n != 0 {
		t.Errorf("%d functions are left", n)
	}
	f.do(t, pinned(removal(f.Column).Drop().Undo))
	if got := testenv.One[string](t, f, `SELECT concat_ws(' ', format_type(atttypid, atttypmod), attcollation::regcollation, attnotnull) FROM pg_attribute
 WHERE attrelid = $1::text::regclass AND attname = $2 AND NOT attisdropped`, f.Table.SQL(), f.Source); got != `character varying(20) "C" f` {
		t.Errorf("the way back adds %s", got)
	}
}

// The lock of a partitioned table is that of its leaves, and so is the proof.
func TestDropReachesPartitions(t *testing.T) {
	t.Parallel()
	c := ddl.Column{ID: 7, Table: pg.Table{Schema: "public", Name: "users"}, Source: "email", Target: "cell", Key: []string{"region", "id"}}
	f := ready(t, c, `CREATE TABLE users (region int, id int, email text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
		CREATE TABLE users_1 PARTITION OF users FOR VALUES IN (1); CREATE TABLE users_2 PARTITION OF users FOR VALUES IN (2)`)
	f.do(t, pinned(removal(f.Column).Drop().Do))
	if n := testenv.One[int](t, f, `SELECT count(*) FROM pg_attribute WHERE attrelid IN ('users'::regclass, 'users_1'::regclass, 'users_2'::regclass) AND attname = 'email'`); n != 0 {
		t.Errorf("%d relations still have it", n)
	}
}

func TestDropRefusesWhatItDoesNotRestOn(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ change, code, says string }{
		"another phase":             {`INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'email', 'rolled_back', 'backfilled')`, "55000", "not cut over"},
		"no event at all":           {`ALTER TABLE cipherfleet.events DISABLE TRIGGER append_only; DELETE FROM cipherfleet.events`, "55000", "not cut over"},
		"a live job":                {`INSERT INTO cipherfleet.jobs (relid, spec, state) VALUES ('users'::regclass, '{}', 'paused')`, "55000", "has not ended"},
		"no constraint":             {`ALTER TABLE users DROP CONSTRAINT cipherfleet_7_coverage`, "55000", "cipherfleet_7_coverage is gone"},
		"another constraint":        {`ALTER TABLE users DROP CONSTRAINT cipherfleet_7_coverage; ALTER TABLE users ADD CONSTRAINT cipherfleet_7_coverage CHECK (email IS NULL OR note IS NULL)`, "55000", "cipherfleet_7_coverage is gone"},
		"not validated":             {`ALTER TABLE users DROP CONSTRAINT cipherfleet_7_coverage; ALTER TABLE users ADD CONSTRAINT cipherfleet_7_coverage CHECK (email IS NULL OR cell IS NOT NULL) NOT VALID`, "55000", "not validated"},
		"no check of the cells":     {`ALTER TABLE users DROP CONSTRAINT cipherfleet_7_cell`, "55000", "cipherfleet_7_cell is gone"},
		"another column":            {`ALTER TABLE users RENAME email TO mail; ALTER TABLE users ADD email text`, "55000", "not the one that this was written for"},
		"another database's number": {`UPDATE cipherfleet.columns SET retired_at = now()`, "55000", "not the one that this was written for"},
		"a view":                    {`CREATE VIEW v AS SELECT email FROM users`, "2BP01", ""},
		"a generated column":        {`ALTER TABLE users ADD low text GENERATED ALWAYS AS (lower(email)) STORED`, "2BP01", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := ready(t, usersColumn(), "CREATE TABLE users (id bigint PRIMARY KEY, email text, note text)")
			f.Run(t, tc.change)
			before := testenv.One[string](t, f, everything)
			err := f.InTx(t.Context(), func(tx pg.Tx) error {
				for _, sql := range pinned(removal(f.Column).Drop().Do) {
					if _, err := tx.Exec(t.Context(), sql); err != nil {
						return err
					}
				}
				return nil
			})
			if pg.Code(err) != tc.code || !strings.Contains(fmt.Sprint(err), tc.says) {
				t.Errorf("error %v, want %s with %q", err, tc.code, tc.says)
			}
			if testenv.One[string](t, f, everything) != before {
				t.Error("the refusal changed something")
			}
		})
	}
}

// ROW(NULL, NULL) is a value that IS NULL: it needs its cell like any other.
func TestCoverageOfACompositePlaintext(t *testing.T) {
	t.Parallel()
	f := ready(t, usersColumn(), "CREATE TYPE pair AS (a int, b int); CREATE TABLE users (id bigint PRIMARY KEY, email pair)")
	f.Run(t, "INSERT INTO users VALUES (1, NULL, NULL)")
	for _, value := range []string{"ROW(1, 2)", "ROW(1, NULL)", "ROW(NULL, NULL)"} {
		if _, err := f.Exec(t.Context(), "UPDATE users SET email = "+value); pg.Code(err) != "23514" {
			t.Errorf("%s without a cell: %v", value, err)
		}
	}
	f.do(t, f.Coverage().Undo)
	f.Run(t, "UPDATE users SET email = ROW(NULL, NULL)")
	if n := testenv.One[int64](t, f, f.Uncelled()); n != 1 {
		t.Errorf("%d rows have no cell, want 1", n)
	}
	f.do(t, f.Coverage().Do)
	if _, err := f.Exec(t.Context(), f.ValidateCoverage().Do[0]); pg.Code(err) != "23514" {
		t.Errorf("validated: %v", err)
	}
	f.Run(t, "UPDATE users SET email = NULL")
	f.do(t, f.ValidateCoverage().Do)
	f.do(t, pinned(removal(f.Column).Drop().Do))
}

// A dollar quote ends at its tag wherever that stands.
func TestQuoteEvadesItsOwnTag(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"x":                             "$cipherfleet$\nx\n$cipherfleet$",
		"$cipherfleet$":                 "$cipherfleet1$\n$cipherfleet$\n$cipherfleet1$",
		"$cipherfleet$, $cipherfleet1$": "$cipherfleet2$\n$cipherfleet$, $cipherfleet1$\n$cipherfleet2$",
	} {
		if got := ddl.Quote(body); got != want {
			t.Errorf("%q is quoted as %q", body, got)
		}
	}
}

// What runs after us in the same transaction finds the settings as they were.
func TestPinGivesBackWhatWasBefore(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	pin, unpin := ddl.Pin("2s")
	err := db.InTx(t.Context(), func(tx pg.Tx) error {
		const settings = `SELECT current_setting('search_path') || ' ' || current_setting('lock_timeout')`
		for _, step := range []struct{ do, then string }{
			{"SELECT set_config('search_path', 'theirs, public', true), set_config('lock_timeout', '7s', true)", "theirs, public 7s"},
			{pin, "pg_catalog, pg_temp 2s"}, {unpin, "theirs, public 7s"},
		} {
			if _, err := tx.Exec(t.Context(), step.do); err != nil {
				return err
			}
			if got := testenv.One[string](t, tx, settings); got != step.then {
				t.Errorf("the settings are %s, want %s", got, step.then)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
