package ddl_test

import (
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// guards says of each trigger of the column's capture whether it is as it was installed. The column is as a reader of the
// catalog has it, who does not know its key.
func (f fixture) guards(t *testing.T) map[string]bool {
	t.Helper()
	r, err := pg.Inspect(t.Context(), f, f.Table.Schema, f.Table.Name)
	if err != nil {
		t.Fatal(err)
	}
	c := f.Column
	c.Key, c.Types = nil, ddl.TypesOf(r.Columns...)
	are := map[string]bool{}
	for _, trigger := range r.Triggers {
		are[trigger.Name] = c.IsGuard(trigger)
	}
	return are
}

func (f fixture) wantGuards(t *testing.T, insert, update bool, after string) {
	t.Helper()
	if are := f.guards(t); len(are) != 2 || are["~cipherfleet_7_insert"] != insert || are["~cipherfleet_7_update"] != update {
		t.Errorf("after %s: %v, want %v and %v", after, are, insert, update)
	}
}

// Whatever the names are, what was installed is known again, also after a rename; what was altered is not.
func TestCaptureIsKnownAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]ddl.Column{
		"plain":  {Source: "email", Target: "cell", Key: []string{"id"}},
		"quoted": {Source: `E-Mail, "new.x"`, Target: "Das Ziel (neu)", Key: []string{"B.no", "a"}, Beside: []string{"select", "old"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.ID, c.Table = 7, usersColumn().Table
			columns := ""
			for _, key := range c.Key {
				columns = pg.Ident(key) + " bigint, " + columns // in another order
			}
			for _, beside := range c.Beside {
				columns += pg.Ident(beside) + " bytea, "
			}
			f := prepare(t, c, fmt.Sprintf("CREATE TABLE users (%s%s varchar(20), PRIMARY KEY (%s))", columns, pg.Ident(c.Source), pg.Idents(c.Key)))
			f.wantGuards(t, true, true, "it was installed")
			f.Run(t, "ALTER TABLE users RENAME "+pg.Ident(c.Source)+` TO "another, one"`)
			f.Source = "another, one"
			f.wantGuards(t, true, true, "a rename")
			f.Types = nil
			f.do(t, f.Capture().Do)
			f.wantGuards(t, true, true, "it was installed without types")
			f.Types = f.typesOf(t)
			f.do(t, f.Capture().Do)

			f.Run(t, "ALTER FUNCTION cipherfleet.misses_7 STRICT")
			f.wantGuards(t, true, false, "a condition became strict")
			f.do(t, f.Capture().Do)
			f.Run(t, `DO $$ BEGIN EXECUTE (SELECT replace(pg_get_functiondef(oid), prosrc, E'\nBEGIN RETURN false; END\n') FROM pg_proc WHERE proname = 'misses_insert_7'); END $$`)
			f.wantGuards(t, false, true, "the function of a condition was replaced")
			f.do(t, f.Capture().Do)
			f.wantGuards(t, true, true, "it was installed again")
			f.Run(t, `DO $$ BEGIN EXECUTE (SELECT replace(replace(pg_get_triggerdef(oid), 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER'), ')) EXECUTE', ') AND current_user <> ''ada'') EXECUTE')
			  FROM pg_trigger WHERE tgname = '~cipherfleet_7_update'); END $$`)
			f.wantGuards(t, true, false, "a condition was extended")
		})
	}
}
