package preflight_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// register puts a column into the registry.
func register(t *testing.T, db *testenv.DB, source, target string) lifecycle.Column {
	t.Helper()
	relation, err := pg.Inspect(t.Context(), db, "public", "t")
	if err != nil {
		t.Fatal(err)
	}
	from, _ := relation.Column(source)
	to, _ := relation.Column(target)
	var c lifecycle.Column
	err = db.InTx(t.Context(), func(tx pg.Tx) (err error) {
		c, err = lifecycle.RegisterColumn(t.Context(), tx, lifecycle.Column{Relid: relation.OID, SourceNum: from.Attnum, TargetNum: to.Attnum,
			Table: relation.Table(), Source: source, Target: target, Type: from.Type})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPreflightKnowsTheRegistry(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea, name text, name_encrypted bytea)`)
	c := register(t, db, "email", "email_encrypted")
	refuse := func(ask2 func(*messages.StartRequest), kind, field, message, hint string) {
		t.Helper()
		r := ask("public")
		ask2(&r)
		refused(t, db.DB, db.DB, r, refusal{kind: kind, field: field, message: message, hint: hint})
	}
	refuse(columns("email_encrypted>x"), messages.CodeRefused, "columns[0].source", `column "email_encrypted" holds cells already: it is the target of "email"`, "plaintext column")
	refuse(columns("email>x"), messages.CodeConflict, "columns[0].target", `column "email" is being moved to "email_encrypted" already`, `--target as "email_encrypted"`)
	refuse(columns("name>email_encrypted"), messages.CodeConflict, "columns[0].target", `column "email_encrypted" is the target of "email" already`, "another target")
	// What writes the source of another one fires behind its capture, or before it, by the order in which they came.
	copied := func(r *messages.StartRequest) {
		columns("name>email")(r)
		r.Columns[0].Transform = messages.TransformCopy
	}
	for _, into := range []func(*messages.StartRequest){columns("name>email"), copied} {
		refuse(into, messages.CodeConflict, "columns[0].target", `column "email" is being moved to "email_encrypted", which would miss what is written to it so`, "name another target")
	}

	plan := planned(t, db, ask("public"))
	if plan.Columns[0].Registered.ID != c.ID || plan.Columns[0].Guarded || plan.Columns[0].Add || !plan.Installed {
		t.Errorf("have %+v", plan.Columns[0])
	}
	prefix := cell.Prefix(c.ID)
	ours := append(prefix[:], make([]byte, cell.MinLength)...)
	db.Run(t, `INSERT INTO t VALUES (1, 'x', $1)`, ours)
	planned(t, db, ask("public"))
	db.Run(t, `INSERT INTO t VALUES (2, 'x', $1)`, ours[:cell.MinLength-1])
	refuse(unprepared, messages.CodeRefused, "columns[0].target", `target "email_encrypted" of public.t holds values that are no cells of this column`, "empty this one")
	db.Run(t, `DELETE FROM t`)

	guard := ddl.Column{ID: c.ID, Table: pg.Table{Schema: "public", Name: "t"}, Source: "email", Target: "email_encrypted", Key: []string{"id"}}
	for _, step := range []ddl.Step{guard.Check(), guard.Capture(), guard.Validate()} {
		if planned(t, db, ask("public")).Columns[0].Guarded {
			t.Error("the column counts as guarded before its last step")
		}
		for _, sql := range step.Do {
			db.Run(t, sql)
		}
	}
	if plan := planned(t, db, ask("public")); !plan.Columns[0].Guarded || len(plan.Triggers) > 0 {
		t.Errorf("have %+v", plan.Columns[0])
	}
	lesser := role(t, db, "lesser", "", schemaUse, registry, `GRANT SELECT, UPDATE ON t TO %s`)
	if _, err := preflight.Check(t.Context(), lesser, ask("public")); err != nil {
		t.Errorf("a guarded column needs no owner, but have %v", err)
	}
	db.Run(t, `ALTER TABLE t ENABLE REPLICA TRIGGER "`+fmt.Sprintf("%s%d_update", ddl.TriggerPrefix, c.ID)+`"`)
	if planned(t, db, ask("public")).Columns[0].Guarded {
		t.Error("a column whose capture is not always enabled counts as guarded")
	}
}

func TestPreflightKeepsToTheKeyThatCellsAreBoundTo(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, email text, email_encrypted bytea, UNIQUE (b, a))`)
	c := register(t, db, "email", "email_encrypted")
	r := ask("public")
	r.Key = []string{"a", "b"}
	planned(t, db, r)
	guard := ddl.Column{ID: c.ID, Table: pg.Table{Schema: "public", Name: "t"}, Source: "email", Target: "email_encrypted", Key: []string{"id"}}
	for _, sql := range append(guard.Check().Do, guard.Capture().Do...) {
		db.Run(t, sql)
	}
	refused(t, db.DB, db.DB, r, refusal{kind: messages.CodeConflict, field: "key", message: `the cells of column "email" are bound to the key (id), not (b, a)`, hint: "give the columns id as --key"})
	planned(t, db, ask("public"))
	db.Run(t, `ALTER TABLE t RENAME id TO number`)
	planned(t, db, ask("public"))
}

func planned(t *testing.T, db *testenv.DB, r messages.StartRequest) preflight.Plan {
	t.Helper()
	plan, err := preflight.Check(t.Context(), db.DB, r)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// odd is a table whose every name needs quoting.
const odd = `CREATE SCHEMA "We.ird ""S"; CREATE DOMAIN "We.ird ""S"."Mail x" AS varchar(40);
 CREATE TABLE "We.ird ""S"."T. ""b" ("I d" int, "at'" date, "E.mail" "We.ird ""S"."Mail x", n numeric, "n cell" bytea, PRIMARY KEY ("at'", "I d")) PARTITION BY RANGE ("at'");
 CREATE TABLE "We.ird ""S"."p 1" PARTITION OF "We.ird ""S"."T. ""b" FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
 CREATE TABLE "We.ird ""S"."p 2" PARTITION OF "We.ird ""S"."T. ""b" DEFAULT;
 INSERT INTO "We.ird ""S"."T. ""b" SELECT n, date '2020-12-01' + n, 'x', n FROM generate_series(1, 1000) n; ANALYZE "We.ird ""S"."T. ""b"`

func TestPreflightPlansAnyNames(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, odd)
	r := messages.StartRequest{Schema: `We.ird "S`, Table: `T. "b`, Prepare: true, Columns: []messages.ColumnRequest{{Source: "E.mail", Target: `c "d`}, {Source: "n", Target: "n cell"}}}
	before := testenv.Catalog(t, db)
	plan := planned(t, db, r)
	if after := testenv.Catalog(t, db); after != before {
		t.Error("the catalog changed")
	}
	if rows, leaves := plan.Relation.Rows(), len(plan.Relation.Leaves); rows != 1000 || leaves != 2 {
		t.Errorf("%d rows in %d leaves", rows, leaves)
	}
	if key := plan.Key.String(); key != `T. "b_pkey (at', I d)` {
		t.Errorf("key %s", key)
	}
	first, second := plan.Columns[0], plan.Columns[1]
	if !first.Add || first.Target.Name != `c "d` || first.Codec != cell.CodecText || first.Source.Base.Name != "varchar" || first.Registered.ID != 0 {
		t.Errorf("have %+v", first)
	}
	if second.Add || second.Target.Attnum != 5 || second.Codec != cell.CodecOutput || second.Guarded {
		t.Errorf("have %+v", second)
	}
}

func TestPreflightTakesTheKeyItIsGiven(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE t (id int PRIMARY KEY, a uuid NOT NULL, b text NOT NULL, email text, UNIQUE (b, a))`)
	r := ask("")
	if key := planned(t, db, r).Key.String(); key != "t_pkey (id)" {
		t.Errorf("without a word the key is %s", key)
	}
	r.Key = []string{"a", "b"}
	if key := planned(t, db, r).Key.String(); key != "t_b_a_key (b, a)" {
		t.Errorf("the key is %s", key)
	}
}

func TestPreflightListsAcknowledgedTriggers(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, users+";"+nothing+`; CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing();
		CREATE TRIGGER other BEFORE UPDATE OF email ON t FOR EACH ROW EXECUTE FUNCTION nothing(); CREATE TRIGGER new BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing()`)
	r := ask("public")
	r.UserTriggers = messages.TriggersFire
	if plan := planned(t, db, r); plan.Skip || len(plan.Triggers) != 1 || plan.Triggers[0].Name != "touch" {
		t.Errorf("skip %v, triggers %+v", plan.Skip, plan.Triggers)
	}
	skip(&r)
	if plan := planned(t, db, r); !plan.Skip || len(plan.Triggers) != 0 {
		t.Errorf("skip %v, triggers %+v", plan.Skip, plan.Triggers)
	}
}

func TestPreflightGivesUpOnALockedTable(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, users)
	locked := errors.New("locked long enough")
	err := db.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), `LOCK TABLE t IN ACCESS EXCLUSIVE MODE`); err != nil {
			return err
		}
		_, err := preflight.Check(t.Context(), db.DB, ask("public"))
		if pg.ClassOf(err) != pg.ClassLock {
			t.Errorf("have %v, want a lock timeout", err)
		}
		return locked
	})
	if !errors.Is(err, locked) {
		t.Error(err)
	}
}
