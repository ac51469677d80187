package ddl_test

import (
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// bound is a prepared column of ten users, whose cells are of scheme 2, which is bound to tenant and slug; scheme 1 is
// bound to the key.
func bound(t *testing.T, form cell.Form) fixture {
	t.Helper()
	f := formed(t, form)
	f.Run(t, `ALTER TABLE users ADD tenant numeric NOT NULL DEFAULT 1, ADD slug text NOT NULL DEFAULT 's', ADD price int`)
	f.do(t, f.Capture().Do)
	f.Run(t, `INSERT INTO cipherfleet.columns (id, relid, source_attnum, target_attnum, schema_name, table_name, source, target, type) OVERRIDING SYSTEM VALUE
 SELECT 7, c.oid, 2, 4, 'public', 'users', 'email', 'cell', 'text' FROM pg_class c WHERE c.oid = 'users'::regclass;
INSERT INTO cipherfleet.schemes (column_id, number, suite, codec, binding, padding, nulls, state, bound_attnums, bound_tags)
 SELECT 7, 2, 1, 1, 'columns', 0, 'keep', 'active', array_agg(attnum ORDER BY attname DESC)::int2[], 'ns' FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname IN ('tenant', 'slug');
INSERT INTO cipherfleet.schemes (column_id, number, suite, codec, binding, padding, nulls, state) VALUES (7, 1, 1, 1, 'pk', 0, 'keep', 'readable')`)
	f.do(t, f.Bind([]string{"tenant", "slug"}).Do)
	for id := range 10 {
		f.write(t, ddl.WriterClient, "INSERT INTO users (id, email, cell) VALUES ($1, 'x', $2)", id, boundCell(form, 2, byte(id)))
	}
	return f
}

// boundCell is what looks like a cell of the users' column under a scheme, as the column holds it.
func boundCell(form cell.Form, scheme uint16, fill byte) any {
	c := cellUnder(scheme)
	c[len(c)-1] = fill
	stored := form.Append(nil, c)
	if form == cell.FormBytes {
		return stored
	}
	return string(stored)
}

// has says whether a row has its cell.
func (f fixture) has(t *testing.T, id int) bool {
	t.Helper()
	return testenv.One[bool](t, f, "SELECT cell IS NOT NULL FROM users WHERE id = $1", id)
}

// under runs one statement in a transaction with these settings.
func (f fixture) under(t *testing.T, settings map[string]string, sql string, args ...any) error {
	t.Helper()
	return f.InTx(t.Context(), func(tx pg.Tx) error {
		for name, value := range settings {
			if _, err := tx.Exec(t.Context(), "SELECT set_config($1, $2, true)", name, value); err != nil {
				return err
			}
		}
		_, err := tx.Exec(t.Context(), sql, args...)
		return err
	})
}

// Before a cutover a write of a bound column that brings no other cell clears it, and is counted; one that brings it, and
// one that changes nothing that the cell is bound to, leave it. So it is in every form of cells.
func TestAWriteOfABoundColumnMissesItsCell(t *testing.T) {
	t.Parallel()
	for _, form := range []cell.Form{cell.FormBytes, cell.FormText, cell.FormJSON} {
		t.Run(form.String(), func(t *testing.T) {
			t.Parallel()
			f := bound(t, form)
			f.Run(t, `UPDATE users SET price = 3, note = 'n', tenant = tenant, slug = slug; UPDATE users SET tenant = 1.00 WHERE id = 9`)
			if n := testenv.One[int](t, f, "SELECT count(cell) FROM users"); n != 10 {
				t.Fatalf("of ten cells %d stayed that nothing was changed of", n)
			}
			f.Run(t, `UPDATE users SET tenant = 2 WHERE id = 1; UPDATE users SET slug = 'S' WHERE id = 2`)
			f.write(t, ddl.WriterClient, `UPDATE users SET tenant = 2, cell = $2 WHERE id = $1`, 3, boundCell(form, 2, 77))
			f.write(t, ddl.WriterClient, `UPDATE users SET tenant = 2 WHERE id = $1`, 4)
			f.write(t, ddl.WriterFleet, `UPDATE users SET tenant = 2, cell = $2 WHERE id = $1`, 5, boundCell(form, 2, 77))
			f.write(t, "", `UPDATE users SET cell = $2 WHERE id = $1`, 6, boundCell(form, 1, 77))
			f.Run(t, `UPDATE users SET slug = 'S' WHERE id = 6; UPDATE users SET email = 'y', slug = 'S' WHERE id = 7`)
			for id, want := range []bool{true, false, false, true, false, false, true, false, true, true} {
				if f.has(t, id) != want {
					t.Errorf("row %d has its cell: %t", id, !want)
				}
			}
			if missed := testenv.One[int](t, f, ddl.Missed(7)); missed != 5 {
				t.Errorf("%d writes were counted that missed the cell, want 5", missed)
			}
			f.do(t, f.Strict().Do)
			if _, err := f.Exec(t.Context(), `UPDATE users SET tenant = 3 WHERE id = 0`); pg.Code(err) != checkViolation || !f.has(t, 0) {
				t.Errorf("a write that misses the cell, where such fail: %v", err)
			}
		})
	}
}

// Where cells are what is read such a write is refused, and nothing is lost. Who brings a cell may; the fleet may not,
// which has sealed for what it read; rows that are replicated are let through.
func TestAWriteOfABoundColumnIsRefusedWhereCellsAreTheTruth(t *testing.T) {
	t.Parallel()
	for _, form := range []cell.Form{cell.FormBytes, cell.FormText, cell.FormJSON} {
		t.Run(form.String(), func(t *testing.T) {
			t.Parallel()
			f := bound(t, form)
			f.do(t, f.Capture().Undo)
			const plain, brings = `UPDATE users SET tenant = 2 WHERE id = $1 AND coalesce($2, cell) IS NOT NULL`, `UPDATE users SET tenant = 2, cell = $2 WHERE id = $1`
			for name, c := range map[string]struct {
				sql      string
				settings map[string]string
				refused  bool
			}{
				"a plain write":             {plain, nil, true},
				"a client without its cell": {plain, map[string]string{ddl.WriterSetting: ddl.WriterClient}, true},
				"somebody with a cell":      {brings, nil, false},
				"a client with its cell":    {brings, map[string]string{ddl.WriterSetting: ddl.WriterClient}, false},
				"the fleet":                 {brings, map[string]string{ddl.WriterSetting: ddl.WriterFleet}, true},
				"a rotation":                {brings, map[string]string{ddl.WriterSetting: ddl.WriterRotation}, true},
				"a client that rebinds":     {brings, map[string]string{ddl.WriterSetting: ddl.WriterRotation, ddl.RebindSetting: "on"}, false},
				"a replicated row":          {plain, map[string]string{"session_replication_role": "replica"}, false},
				"the fleet, skipping users": {brings, map[string]string{"session_replication_role": "replica", ddl.WriterSetting: ddl.WriterRotation}, true},
			} {
				err := f.under(t, c.settings, c.sql, 1, boundCell(form, 2, 99))
				var of *pg.Error
				if errors.As(err, &of); (err != nil) != c.refused || c.refused && (of == nil || of.Code != checkViolation || of.Constraint != ddl.BoundName(7)) {
					t.Errorf("%s, refused %t: %v", name, c.refused, err)
				}
				if !f.has(t, 1) {
					t.Fatalf("%s: the cell is gone", name)
				}
				if err := f.under(t, map[string]string{"session_replication_role": "replica"}, `UPDATE users SET tenant = 1, cell = $1 WHERE id = 1`, boundCell(form, 2, 1)); err != nil {
					t.Fatal(err)
				}
			}
			f.Run(t, `UPDATE users SET slug = 's', note = 'n' WHERE id = 2`)
			f.write(t, "", `UPDATE users SET cell = $2 WHERE id = $1`, 2, boundCell(form, 1, 3))
			f.Run(t, `UPDATE users SET slug = 'other' WHERE id = 2`)
		})
	}
}

// As long as bound columns are looked after, Postgres lets nobody drop them or change their type, and a rename is followed.
func TestBoundColumnsAreKept(t *testing.T) {
	t.Parallel()
	f := bound(t, cell.FormBytes)
	for _, sql := range []string{`ALTER TABLE users DROP tenant`, `ALTER TABLE users ALTER slug TYPE bytea USING slug::bytea`} {
		if _, err := f.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s went through", sql)
		}
	}
	f.Run(t, `ALTER TABLE users RENAME tenant TO "Firm $1"; ALTER TABLE users RENAME cell TO "a ""cell"""; UPDATE users SET "Firm $1" = 5 WHERE id = 1`)
	if n := testenv.One[int](t, f, `SELECT count(*) FROM users WHERE "a ""cell""" IS NULL`); n != 1 {
		t.Errorf("%d cells were cleared", n)
	}
	r, err := pg.Inspect(t.Context(), f, "public", "users")
	if err != nil {
		t.Fatal(err)
	}
	c, at := ddl.Column{ID: 7, Target: `a "cell"`}, -1
	for i, trigger := range r.Triggers {
		if c.IsBound(trigger, []string{"slug", "Firm $1"}) {
			at = i
		}
		for _, names := range [][]string{{"slug"}, {"slug", "Firm $1", "note"}, {"slug", "note"}} {
			if c.IsBound(trigger, names) {
				t.Errorf("it looks after %v", names)
			}
		}
	}
	if at < 0 {
		t.Fatalf("nothing looks after the bound columns: %+v", r.Triggers)
	}
	for _, change := range []func(*pg.Trigger){func(g *pg.Trigger) { g.Enabled = "O" }, func(g *pg.Trigger) { g.Body += " " }, func(g *pg.Trigger) { g.Name += "0" }} {
		altered := r.Triggers[at]
		if change(&altered); c.IsBound(altered, []string{"slug", "Firm $1"}) {
			t.Errorf("%+v is taken for ours", altered)
		}
	}
	f.Run(t, `ALTER TABLE users DROP CONSTRAINT cipherfleet_7_cell; UPDATE users SET "Firm $1" = 6 WHERE id = 2`) // no write fails for what cannot be told
	f.do(t, f.Bind(nil).Do)
	f.Run(t, `ALTER TABLE users DROP "Firm $1"`)
}

// What looks after bound columns asks nothing of a search path, or of how bytes are printed.
func TestBoundColumnsUnderAHostileSession(t *testing.T) {
	t.Parallel()
	f := bound(t, cell.FormBytes)
	f.Run(t, `CREATE SCHEMA evil; CREATE FUNCTION evil.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb'`)
	if err := f.under(t, map[string]string{"search_path": "evil, pg_catalog, public", "bytea_output": "escape"}, `UPDATE public.users SET tenant = 2 WHERE id = 1`); err != nil {
		t.Fatal(err)
	}
	if f.has(t, 1) {
		t.Error("the cell of a row that became another tenant's stayed")
	}
}
