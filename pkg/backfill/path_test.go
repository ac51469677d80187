package backfill_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/proof"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// shadowing is a schema whose functions, operators, types and tables have the names of Postgres's own, and fail whenever
// somebody uses them.
func shadowing() string {
	var b strings.Builder
	b.WriteString(`CREATE SCHEMA hostile; CREATE TABLE hostile.pg_class (); CREATE TABLE hostile.pg_attribute (); `)
	for _, name := range []string{"text", "name", "oid", "int2", "int4", "int8", "bool", "uuid", "float8", "bytea"} {
		fmt.Fprintf(&b, "CREATE DOMAIN hostile.%s AS pg_catalog.%[1]s CHECK (false); ", name)
	}
	function := func(name, arguments, result string) {
		fmt.Fprintf(&b, "CREATE FUNCTION hostile.%s(%s) RETURNS %s LANGUAGE plpgsql AS $$ BEGIN RAISE 'hostile %[1]s'; END $$; ", name, arguments, result)
	}
	function("format", "pg_catalog.text, VARIADIC pg_catalog.text[]", "pg_catalog.text")
	function("set_config", "pg_catalog.text, pg_catalog.text, boolean", "pg_catalog.text")
	function("current_setting", "pg_catalog.text", "pg_catalog.text")
	function("clock_timestamp", "", "timestamptz")
	function("now", "", "timestamptz")
	function("unnest", "pg_catalog.oid[]", "pg_catalog.oid")
	function("make_interval", "secs pg_catalog.float8", "interval")
	b.WriteString(`CREATE AGGREGATE hostile.count(*) (SFUNC = pg_catalog.int8inc, STYPE = pg_catalog.int8, INITCOND = '1000'); `)
	for _, kind := range []string{"text", "name", "oid", "int2", "int4", "int8", "uuid", "\"char\"", "timestamptz", "text[]"} {
		kind = "pg_catalog." + kind
		for word, operators := range map[string]string{"boolean": "= <> < >", kind: "+ - /"} {
			for i, operator := range strings.Fields(operators) {
				name := fmt.Sprintf("f%d_%d", b.Len(), i)
				function(name, kind+", "+kind, word)
				fmt.Fprintf(&b, "CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %[2]s, FUNCTION = hostile.%s); ", operator, kind, name)
			}
		}
	}
	return b.String()
}

func TestAHostileSearchPathChangesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems+"; "+shadowing())
	u := must(url.Parse(k.DB.URL))(t)
	query := u.Query()
	query.Set("search_path", "hostile,public,pg_catalog")
	u.RawQuery = query.Encode()
	db := testenv.Open(t, u.String())
	if _, err := db.Exec(ctx, `SELECT 1::pg_catalog.oid = 2::pg_catalog.oid`); pg.Code(err) != "P0001" {
		t.Fatalf("the schema is not hostile: %v", err)
	}
	k.Jobs.DB, k.Ranges.DB = db.DB, db.DB
	if r := must(pg.Inspect(ctx, db, "public", "items"))(t); fmt.Sprintf("%+v", r) != fmt.Sprintf("%+v", k.Inspect(ctx)) {
		t.Errorf("the table looks like\n%+v, not\n%+v", r, k.Inspect(ctx))
	}
	k.Start(ctx, 20)
	must(k.Jobs.Pause(ctx, k.Job.ID, ""))(t)
	must(k.Jobs.Resume(ctx, k.Job.ID, ""))(t)
	for range 3 {
		for _, id := range testenv.Column[int64](t, k.DB, `SELECT id FROM cipherfleet.ranges WHERE state = 'pending'`) {
			claim, standing, _, err := k.Ranges.Claim(ctx, id)
			if err != nil || standing != work.Claimed {
				t.Fatalf("claimed as %v: %v", standing, err)
			}
			_, standing, _, err = k.Ranges.Claim(ctx, id)
			if err != nil || standing != work.Leased {
				t.Fatalf("claimed twice as %v: %v", standing, err)
			}
			check(t, k.Ranges.Renew(ctx, claim))
			x := k.ExecutorOf(must(shape.Open(ctx, db.DB, k.Job, claim.Leaf, k.Keyring))(t))
			x.DB = db.DB
			check(t, x.Execute(ctx, claim, func(backfill.Checkpoint) {}))
		}
		k.Job = must(k.Jobs.Step(ctx, k.Job.ID, []uint32{k.Relation.OID}))(t)
	}
	if k.Job.State != work.Done {
		t.Errorf("the job is %s", k.Job.State)
	}
	k.Proven(ctx, 50)
	for _, sample := range []float64{0, 50} {
		reports := make([]proof.Report, 1)
		v := &proof.Verifier{DB: db.DB, Shape: must(shape.OpenProof(ctx, db.DB, k.Job, k.Relation.OID, k.Keyring))(t), Keyring: k.Keyring, Sample: sample}
		if err := v.Verify(ctx, reports, func(int) {}); err != nil || reports[0].Covered != reports[0].Rows {
			t.Errorf("a verification of %v in a hundred: %+v, %v", sample, reports[0], err)
		}
	}
}
