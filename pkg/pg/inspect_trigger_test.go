package pg_test

import (
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const nothing = `CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'`

func TestInspectTriggers(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, nothing, `CREATE TABLE other (id int PRIMARY KEY)`,
		`CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, "a.B" text, c text, o int REFERENCES other)`,
		`CREATE TRIGGER "Every One" BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()`,
		`CREATE TRIGGER of_some AFTER UPDATE OF "a.B", c ON t FOR EACH ROW WHEN (old.c IS DISTINCT FROM new.c AND new.id > 1) EXECUTE FUNCTION nothing()`,
		`CREATE TRIGGER once AFTER UPDATE OR DELETE OR TRUNCATE ON t FOR EACH STATEMENT EXECUTE FUNCTION nothing()`,
		`CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON t DEFERRABLE FOR EACH ROW EXECUTE FUNCTION nothing()`,
		`CREATE TRIGGER off BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()`, `ALTER TABLE t DISABLE TRIGGER off`,
		`CREATE TRIGGER replica BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()`, `ALTER TABLE t ENABLE REPLICA TRIGGER replica`,
		`CREATE TRIGGER always BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()`, `ALTER TABLE t ENABLE ALWAYS TRIGGER always`,
		`CREATE TRIGGER added BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing()`)
	var have []string
	fires := map[string][2]bool{}
	for _, g := range inspect(t, db, "public", "t").Triggers {
		have = append(have, fmt.Sprintf("%s.%s %s %s %s row=%v %v of %q when=%v reads=%q", g.Table.Name, g.Name, g.Function, g.Enabled, g.Timing, g.Row, g.Events, g.Columns, g.When, g.Reads))
		fires[g.Name] = [2]bool{g.FiresOnUpdate("o"), g.FiresOnUpdate("o", "a.B")}
	}
	same(t, "triggers", have, []string{
		`t.Every One public.nothing O BEFORE row=true [INSERT UPDATE] of [] when=false reads=[]`,
		`t.added public.nothing O BEFORE row=true [INSERT] of [] when=false reads=[]`,
		`t.always public.nothing A BEFORE row=true [UPDATE] of [] when=false reads=[]`,
		`t.late public.nothing O AFTER row=true [UPDATE] of [] when=false reads=[]`,
		`t.of_some public.nothing O AFTER row=true [UPDATE] of ["a.B" "c"] when=true reads=["id" "a.B" "c"]`,
		`t.off public.nothing D BEFORE row=true [UPDATE] of [] when=false reads=[]`,
		`t.once public.nothing O AFTER row=false [UPDATE DELETE TRUNCATE] of [] when=false reads=[]`,
		`t.replica public.nothing R BEFORE row=true [UPDATE] of [] when=false reads=[]`,
	})
	same(t, "fires on an update of o, of o and a.B", fires, map[string][2]bool{"Every One": {true, true}, "added": {}, "always": {true, true}, "late": {true, true},
		"of_some": {false, true}, "off": {}, "once": {true, true}, "replica": {}})
}

func TestInspectTriggersOfPartitions(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, nothing, `CREATE TABLE other (id int PRIMARY KEY)`, `CREATE TABLE p (id int PRIMARY KEY, o int REFERENCES other) PARTITION BY LIST (id)`,
		`CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)`, `CREATE TABLE p2 PARTITION OF p DEFAULT`,
		`CREATE TRIGGER rows BEFORE UPDATE ON p FOR EACH ROW EXECUTE FUNCTION nothing()`,
		`CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON p FOR EACH ROW EXECUTE FUNCTION nothing()`,
		`CREATE TRIGGER once AFTER UPDATE ON p FOR EACH STATEMENT EXECUTE FUNCTION nothing()`,
		`CREATE TRIGGER once_here AFTER UPDATE ON p2 FOR EACH STATEMENT EXECUTE FUNCTION nothing()`,
		`CREATE TRIGGER once_there AFTER UPDATE ON p1 FOR EACH STATEMENT EXECUTE FUNCTION nothing()`,
		`ALTER TABLE p2 DISABLE TRIGGER ALL`)
	var have []string
	for _, g := range inspect(t, db, "public", "p").Triggers {
		have = append(have, fmt.Sprintf("%s.%s %s fires=%v", g.Table.Name, g.Name, g.Enabled, g.FiresOnUpdate("o")))
	}
	same(t, "triggers", have, []string{"p.late O fires=true", "p.once O fires=false", "p.rows O fires=true", "p1.once_there O fires=true", "p2.late D fires=false", "p2.once_here D fires=false", "p2.rows D fires=false"})
}

func TestInspectRulesAndChecks(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, `CREATE TABLE t (id int, "A b" text, CONSTRAINT "both" CHECK (id > 0 AND "A b" <> ''))`, `INSERT INTO t VALUES (1, 'x')`,
		`ALTER TABLE t ADD CONSTRAINT later CHECK (id > 5) NOT VALID`,
		`CREATE RULE loud AS ON UPDATE TO t DO ALSO NOTIFY t`, `CREATE RULE no_delete AS ON DELETE TO t DO INSTEAD NOTHING`, `ALTER TABLE t DISABLE RULE no_delete`,
		`CREATE VIEW v AS SELECT 1`)
	r := inspect(t, db, "public", "t")
	same(t, "checks", r.Checks, []pg.Check{
		{Name: "both", Columns: []string{"id", "A b"}, Validated: true, SQL: `((id > 0) AND ("A b" <> ''::text))`},
		{Name: "later", Columns: []string{"id"}, SQL: "(id > 5)"},
	})
	same(t, "rules", r.Rules, []pg.Rule{
		{Table: r.Named, Name: "loud", Event: "UPDATE", Enabled: "O"},
		{Table: r.Named, Name: "no_delete", Event: "DELETE", Enabled: "D", Instead: true},
	})
	if v := inspect(t, db, "public", "v"); len(v.Rules) > 0 {
		t.Errorf("a view's own rule is listed: %v", v.Rules)
	}
}
