package standing_test

import (
	"slices"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// dependentsOf are those of a column, as a person reads them; a star marks those that go by name.
func dependentsOf(t *testing.T, db *testenv.DB, table, column string) []string {
	t.Helper()
	var attnum int16
	var relation uint32
	err := db.QueryRow(t.Context(), `SELECT attrelid, attnum FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2`, table, column).Scan(&relation, &attnum)
	if err != nil {
		t.Fatal(err)
	}
	list, err := standing.Dependents(t.Context(), db, relation, attnum)
	if err != nil {
		t.Fatal(err)
	}
	words := []string{}
	for _, d := range list {
		if d.ByName {
			words = append(words, d.String()+" *")
			continue
		}
		words = append(words, d.String())
	}
	return words
}

// dependents is one table of a test: what is made, and what of it depends on column email of table t.
type dependents struct {
	setup string
	want  []string
}

func everyDependent() map[string]dependents {
	const trigger = `CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'; `
	return map[string]dependents{
		"none":                {`CREATE INDEX ON t (id) WHERE other > ''; CREATE VIEW v AS SELECT id, other FROM t`, nil},
		"view":                {`CREATE VIEW v AS SELECT id FROM t WHERE email > ''`, []string{"view public.v"}},
		"whole row":           {`CREATE VIEW v AS SELECT t FROM t; CREATE VIEW w AS SELECT id, t AS row FROM t`, []string{"view public.v", "view public.w"}},
		"materialized view":   {`CREATE MATERIALIZED VIEW m AS SELECT email FROM t`, []string{"materialized view public.m"}},
		"rule":                {`CREATE TABLE log (e text); CREATE RULE r AS ON INSERT TO t DO ALSO INSERT INTO log VALUES (new.email)`, []string{"rule r on public.t"}},
		"policy":              {`CREATE POLICY p ON t USING (email = current_user)`, []string{"policy p on public.t"}},
		"another's policy":    {`CREATE TABLE o (id int); CREATE POLICY p ON o USING (EXISTS (SELECT FROM t WHERE email = current_user))`, []string{"policy p on public.o"}},
		"generated":           {`ALTER TABLE t ADD low text GENERATED ALWAYS AS (lower(email)) STORED`, []string{"generated column low on public.t"}},
		"trigger column list": {trigger + `CREATE TRIGGER g AFTER UPDATE OF email ON t FOR EACH ROW EXECUTE FUNCTION f()`, []string{"trigger g on public.t"}},
		"trigger condition":   {trigger + `CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW WHEN (new.email > '') EXECUTE FUNCTION f()`, []string{"trigger g on public.t"}},
		"another trigger":     {trigger + `CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW WHEN (new.other > '') EXECUTE FUNCTION f()`, nil},
		"foreign key":         {`CREATE TABLE known (email text PRIMARY KEY); ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (email) REFERENCES known`, []string{"foreign key k on public.t"}},
		"referred to": {`ALTER TABLE t ADD CONSTRAINT u UNIQUE (email); CREATE TABLE o (e text CONSTRAINT k REFERENCES t (email))`,
			[]string{"foreign key k on public.o", "unique constraint u on public.t"}},
		"check":            {`ALTER TABLE t ADD CONSTRAINT c CHECK (email ~ '@')`, []string{"check constraint c on public.t"}},
		"exclusion":        {`ALTER TABLE t ADD CONSTRAINT x EXCLUDE USING btree (email WITH =)`, []string{"exclusion constraint x on public.t"}},
		"index":            {`CREATE INDEX i ON t (lower(email)); CREATE INDEX j ON t (id) WHERE email > ''`, []string{"index public.i", "index public.j"}},
		"unique index":     {`CREATE UNIQUE INDEX i ON t (email)`, []string{"unique index public.i"}},
		"statistics":       {`CREATE STATISTICS s ON email, other FROM t`, []string{"statistics public.s"}},
		"identity":         {`ALTER TABLE t DROP email, ADD email int GENERATED ALWAYS AS IDENTITY`, []string{"identity email on public.t"}},
		"publication":      {`CREATE PUBLICATION "p.1" FOR TABLE t`, []string{"publication p.1 *"}},
		"its column list":  {`CREATE PUBLICATION "p.1" FOR TABLE t (id, email)`, []string{"publication p.1"}},
		"another's list":   {`CREATE PUBLICATION "p.1" FOR TABLE t (id, other)`, nil},
		"its row filter":   {`CREATE PUBLICATION "p.1" FOR TABLE t WHERE (email > ''); ALTER TABLE t REPLICA IDENTITY FULL`, []string{"publication p.1"}},
		"atomic function":  {`CREATE FUNCTION n() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(email) FROM t; END`, []string{"function public.n()"}},
		"text function":    {`CREATE FUNCTION n(a int) RETURNS bigint LANGUAGE sql AS 'SELECT count(Email) FROM public.t'`, []string{"function public.n(a integer) *"}},
		"other words":      {`CREATE FUNCTION n() RETURNS bigint LANGUAGE sql AS 'SELECT count(other) /* email_address, emails */ FROM t'`, nil},
		"another table":    {`CREATE TABLE o (email text); CREATE FUNCTION n() RETURNS bigint LANGUAGE sql AS 'SELECT count(email) FROM o'`, nil},
		"trigger function": {`CREATE FUNCTION n() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.email := lower(new.email); RETURN new; END'; CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION n()`, []string{"function public.n() *"}},
		"function of rows": {`CREATE FUNCTION n(r t) RETURNS text LANGUAGE sql AS 'SELECT r.email'; CREATE FUNCTION m(r t[]) RETURNS text LANGUAGE sql AS 'SELECT r[1].email'`,
			[]string{"function public.m(r t[]) *", "function public.n(r t) *"}},
	}
}

func TestEveryDependentIsListed(t *testing.T) {
	t.Parallel()
	for name, test := range everyDependent() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			db.Run(t, `CREATE TABLE t (id bigint PRIMARY KEY, email text, other text)`)
			db.Run(t, test.setup)
			if have := dependentsOf(t, db, "t", "email"); !slices.Equal(have, test.want) {
				t.Errorf("have %q, want %q", have, test.want)
			}
		})
	}
}

// What hangs on a partition only is found, and what a partition has from its parent is listed once.
func TestDependentsOfPartitionsAndOfStrangeNames(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE "Or.ders" (id bigint, "E""mail" text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
		CREATE TABLE low (gone int, id bigint NOT NULL, "E""mail" text);
		ALTER TABLE low DROP gone;
		ALTER TABLE "Or.ders" ATTACH PARTITION low FOR VALUES FROM (0) TO (10);
		CREATE INDEX every ON "Or.ders" ("E""mail");
		CREATE INDEX "low.only" ON low ("E""mail");
		ALTER TABLE "Or.ders" ADD CONSTRAINT short CHECK (length("E""mail") < 99);
		CREATE VIEW v AS SELECT "E""mail" FROM low;
		CREATE FUNCTION n() RETURNS bigint LANGUAGE sql AS 'SELECT count("E""mail") FROM "Or.ders"'`)
	want := []string{"check constraint short on public.Or.ders", "function public.n() *", "index public.every", "index public.low.only", "view public.v"}
	if have := dependentsOf(t, db, `"Or.ders"`, `E"mail`); !slices.Equal(have, want) {
		t.Errorf("have %q, want %q", have, want)
	}
}
