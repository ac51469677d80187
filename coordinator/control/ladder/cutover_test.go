package ladder_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// columnsSQL is every column of a table as people and applications see it.
const columnsSQL = `SELECT concat_ws(' | ', attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'not null' ELSE 'null' END, pg_get_expr(adbin, adrelid),
  col_description(attrelid, attnum), (SELECT string_agg(privilege_type, ',' ORDER BY privilege_type) FROM aclexplode(attacl) WHERE grantee = 0))
 FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname`

const richTable = `CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL DEFAULT 'a@b', note text);
 COMMENT ON COLUMN users.email IS 'how to reach them'; GRANT SELECT (email), UPDATE (email) ON users TO PUBLIC;
 INSERT INTO users SELECT g, 'user' || g FROM generate_series(1, 50) g`

func TestASwapMovesWhatMustMove(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	r := ripen(t, db, inPublic("users", "email"), "id")
	result := r.cut(t)
	if result.Already || result.PlainName != "email_plaintext" || result.SealedName != "email" || result.Proof != standing.ProofFull {
		t.Errorf("%+v", result)
	}
	want := []string{"email | bytea | not null | how to reach them | SELECT,UPDATE", "email_plaintext | text | null | how to reach them | SELECT,UPDATE",
		"id | bigint | not null", "note | text | null"}
	if have := testenv.Column[string](t, db, columnsSQL, "users"); !slices.Equal(have, want) {
		t.Errorf("have %q\nwant %q", have, want)
	}
	triggers := testenv.Column[string](t, db, `SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal ORDER BY 1`)
	if len(triggers) != 6 || !strings.Contains(strings.Join(triggers, " "), "_reverse_insert") {
		t.Errorf("triggers: %q", triggers)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM pg_constraint WHERE conname LIKE '%present'`); n != 0 {
		t.Error("the constraint that spared a scan is still there")
	}
	if state := r.state(t); state.Phase != lifecycle.PhaseCutOver {
		t.Errorf("the column is %s", state.Phase)
	}
	detail := testenv.One[string](t, db, `SELECT details ->> 'plain_name' || actor FROM cipherfleet.events WHERE event = 'cut_over'`)
	if detail != "email_plaintexttester" {
		t.Errorf("recorded: %s", detail)
	}
	db.Run(t, `UPDATE users SET email = set_byte(email, 19, 255 - get_byte(email, 19)) WHERE id = 7`)
	if !testenv.One[bool](t, db, `SELECT email_plaintext IS NULL FROM users WHERE id = 7`) {
		t.Error("a plaintext outlived the cell that was written")
	}
	if again := r.cut(t); !again.Already || again.PlainName != "email_plaintext" {
		t.Errorf("asked again: %+v", again)
	}
}

func TestACutoverByNameLeavesNames(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	db.Run(t, `CREATE PUBLICATION p FOR TABLE users; ALTER TABLE users REPLICA IDENTITY FULL`)
	r := ripen(t, db, inPublic("users", "email"), "id")
	r.cut(t, func(c *ladder.CutoverRequest) { c.Strategy = standing.StrategyByName })
	want := []string{"email | text | null | how to reach them | SELECT,UPDATE", "email_encrypted | bytea | not null | how to reach them | SELECT,UPDATE",
		"id | bigint | not null", "note | text | null"}
	if have := testenv.Column[string](t, db, columnsSQL, "users"); !slices.Equal(have, want) {
		t.Errorf("have %q\nwant %q", have, want)
	}
	db.Run(t, `INSERT INTO users (id, email_encrypted) VALUES (99, $1)`, r.cell())
}

func TestTwoColumnsAreCutOverApart(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text, phone text NOT NULL); INSERT INTO users VALUES (1, 'a', 'b')`)
	email, phone := ripen(t, db, inPublic("users", "email"), "id"), ripen(t, db, inPublic("users", "phone"), "id")
	email.cut(t)
	want := []string{"email | bytea | null", "email_plaintext | text | null", "id | bigint | not null", "phone | text | not null", "phone_encrypted | bytea | null"}
	if have := testenv.Column[string](t, db, columnsSQL, "users"); !slices.Equal(have, want) {
		t.Errorf("have %q\nwant %q", have, want)
	}
	if email.state(t).Phase != lifecycle.PhaseCutOver || phone.state(t).Phase != lifecycle.PhaseBackfilled {
		t.Error("one cutover moved both columns")
	}
	db.Run(t, `UPDATE users SET phone = 'c'`)
	if !testenv.One[bool](t, db, `SELECT phone_encrypted IS NULL AND email_plaintext IS NOT NULL FROM users`) {
		t.Error("the other column's capture is gone")
	}
	phone.seal(t)
	inOne(t, db, func(tx pg.Tx) error { do(t, tx, phone.Strict().Do); return nil })
	phone.cut(t)
	if n := testenv.One[int](t, db, `SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%strict%'`); n != 0 {
		t.Error("what refused writes without a cell outlived capture")
	}
}

// A partition may have a default, a NOT NULL and rights of its own, and its columns in another order.
func TestPartitionsAndStrangeNamesAreCutOver(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE SCHEMA "My Shop"; CREATE TABLE "My Shop"."Or.ders" ("Id" bigint, "E""mail" text DEFAULT 'root', PRIMARY KEY ("Id")) PARTITION BY RANGE ("Id");
		CREATE TABLE "My Shop".low (gone int, "E""mail" text NOT NULL DEFAULT 'low', "Id" bigint NOT NULL);
		ALTER TABLE "My Shop".low DROP gone;
		ALTER TABLE "My Shop"."Or.ders" ATTACH PARTITION "My Shop".low FOR VALUES FROM (0) TO (10);
		CREATE TABLE high PARTITION OF "My Shop"."Or.ders" FOR VALUES FROM (10) TO (20);
		GRANT SELECT ("E""mail") ON "My Shop".low TO PUBLIC; COMMENT ON COLUMN high."E""mail" IS 'of "high" ones'`)
	db.Run(t, `INSERT INTO "My Shop"."Or.ders" SELECT g, 'x' || g FROM generate_series(0, 19) g`)
	r := ripen(t, db, standing.Name{Schema: "My Shop", Table: "Or.ders", Column: `E"mail`}, "Id")
	r.cut(t)
	for table, want := range map[string][]string{
		`"My Shop"."Or.ders"`: {`E"mail | bytea | null`, `E"mail_plaintext | text | null`, "Id | bigint | not null"},
		`"My Shop".low`:       {`E"mail | bytea | not null | SELECT`, `E"mail_plaintext | text | null | SELECT`, "Id | bigint | not null"},
		"high":                {`E"mail | bytea | null | of "high" ones`, `E"mail_plaintext | text | null | of "high" ones`, "Id | bigint | not null"},
	} {
		if have := testenv.Column[string](t, db, columnsSQL, table); !slices.Equal(have, want) {
			t.Errorf("%s: have %q\nwant %q", table, have, want)
		}
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = indexrelid WHERE relname LIKE 'cipherfleet%' AND indisvalid`); n != 2 {
		t.Errorf("%d indexes on uncovered rows, want one on each partition", n)
	}
}

func TestAnInvalidIndexIsBuiltAnew(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text); INSERT INTO users VALUES (1, 'a')`)
	r := ripen(t, db, inPublic("users", "email"), "id")
	name := r.UncoveredIndexName(pg.Named{OID: testenv.One[uint32](t, db, `SELECT 'users'::regclass::oid`)})
	db.Run(t, fmt.Sprintf("CREATE INDEX %s ON users (id)", pg.Ident(name)))
	db.Run(t, `UPDATE pg_index SET indisvalid = false WHERE indexrelid = $1::regclass`, name)
	r.cut(t)
	if !testenv.One[bool](t, db, `SELECT indisvalid AND indpred IS NOT NULL FROM pg_index WHERE indexrelid = $1::regclass`, name) {
		t.Error("the leftover is still there")
	}
}

func TestADryRunOfACutoverChangesNothing(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	r := ripen(t, db, inPublic("users", "email"), "id")
	before := testenv.Catalog(t, db)
	plan, err := r.ladder().PlanCutover(t.Context(), r.request())
	if err != nil || testenv.Catalog(t, db) != before {
		t.Fatalf("planning changed the database, or failed: %v", err)
	}
	var stages []string
	for _, s := range plan.Steps {
		stages = append(stages, s.Stage)
		if strings.HasPrefix(s.SQL, "LOCK TABLE") && !strings.HasSuffix(s.SQL, " IN "+s.Lock+" MODE") {
			t.Errorf("%+v", s)
		}
	}
	if !slices.Equal(slices.Compact(stages), []string{"before", "cutover", "after"}) || plan.PlainName != "email_plaintext" {
		t.Errorf("%+v", plan)
	}
	r.cut(t)
	if plan, err = r.ladder().PlanCutover(t.Context(), r.request()); err != nil || !plan.Already || len(plan.Steps) > 0 {
		t.Errorf("when it is done: %+v, %v", plan, err)
	}
}
