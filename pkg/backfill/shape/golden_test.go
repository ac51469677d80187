package shape_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing")

// shapes are tables whose statements are kept in testdata: of a single key, of a composite one that one operator
// compares, and of one with operators of two schemas, under names that hold everything a name can; the first and the
// last of them also after their cutover, and the first while its cells are sealed anew, or compared.
func shapes() map[string]struct {
	sql     string
	options []engine.Option
} {
	awkward := pg.Table{Schema: `My "Shop", a.b`, Name: `Or.ders'; --\`}
	mixed := fmt.Sprintf(`CREATE SCHEMA "Ex t"; CREATE EXTENSION citext SCHEMA "Ex t"; CREATE SCHEMA %s;
CREATE TABLE %s ("select" int, "Tenant ""x""" "Ex t".citext, "p,q" int[], "E.mail, ""x""" jsonb, "e'mail\" text, PRIMARY KEY ("Tenant ""x""", "p,q", "select"));
INSERT INTO %[2]s SELECT i, i, '{}' FROM generate_series(1, 3000) i`, pg.Ident(awkward.Schema), awkward.SQL())
	return map[string]struct {
		sql     string
		options []engine.Option
	}{
		"foreign":          {sql: `CREATE TYPE public.eql_v2_encrypted AS (data jsonb); CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`, options: []engine.Option{engine.EQL}},
		"within":           {sql: within},
		"comparing_within": {sql: within},
		"proxied":          {sql: `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`, options: []engine.Option{engine.Proxied(ddl.PayloadText, "text")}},
		"text":             {sql: `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`, options: []engine.Option{engine.In(cell.FormText)}},
		"rotation_json":    {sql: `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`, options: []engine.Option{engine.In(cell.FormJSON)}},
		"reverse_moving":   {sql: `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`},
		"rotation":         {sql: `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`},
		"comparing":        {sql: `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`},
		"comparing_json":   {sql: `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, other text); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`, options: []engine.Option{engine.In(cell.FormJSON), engine.On(pg.Table{Schema: "public", Name: "items"}, "secret", "other")}},
		"reverse":          {sql: `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text[]); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`},
		"reverse_mixed":    {sql: mixed, options: []engine.Option{engine.On(awkward, `E.mail, "x"`, `e'mail\`)}},
		"single":           {sql: `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`},
		"composite":        {sql: `CREATE TABLE public.items (a uuid, b timestamptz, secret int, PRIMARY KEY (a, b)); INSERT INTO public.items SELECT gen_random_uuid(), now(), i FROM generate_series(1, 3000) i`},
		"mixed": {sql: mixed,
			options: []engine.Option{engine.On(awkward, `E.mail, "x"`, `e'mail\`)}},
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, s := range shapes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := engine.Prepare(t, ctx, s.sql, s.options...)
			if strings.HasPrefix(name, "reverse") {
				k.CutOver()
			}
			if strings.HasPrefix(name, "rotation") {
				k.Rotate(ctx, k.Scheme(ctx, 258, nil))
			}
			if strings.HasSuffix(name, "moving") {
				k.Columns[0].Origin = &work.Origin{Origin: messages.Origin{Format: messages.FormatOwn}, Column: 4000, Scheme: 1}
			}
			k.Columns[0].Compare = strings.HasPrefix(name, "comparing")
			if strings.HasSuffix(name, "within") {
				limit(ctx, k)
			}
			k.Start(ctx, 1000)
			statements := generatedBy(k.Shape(ctx, k.Relation.OID))
			var text strings.Builder
			for _, g := range statements {
				fmt.Fprintf(&text, "-- %s\n%s;\n\n", g.Name, g.SQL)
			}
			compareGolden(t, name, text.String())
			k.DB.Run(t, "ANALYZE "+k.Table.SQL())
			prepareAll(ctx, k, statements)
		})
	}
}

const within = `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, "the Tenant" int); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`

// limit has only one tenant's rows need cells.
func limit(ctx context.Context, k *engine.Kit) {
	reads := engine.Reads("the Tenant")
	tenant, _ := k.Relation.Column("the Tenant")
	reads[0].Attnum = tenant.Attnum
	c := &k.Columns[0]
	c.Where = &ddl.Condition{SQL: `("the Tenant" = 7)`, Reads: reads}
	for _, sql := range (ddl.Column{ID: c.ID, Table: k.Table, Where: c.Where}).WithinFunction().Do {
		k.DB.Run(k.T, sql)
	}
}

func TestGoldenOfExpressions(t *testing.T) {
	t.Parallel()
	const table = `CREATE TABLE public.items (id bigint PRIMARY KEY, mail text, norm text, "the Form" int); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`
	byImage := ddl.Expression{SQL: "lower(mail)", Inputs: engine.Reads("mail"), Type: "text"}
	byVersion, byCondition := byImage, byImage
	byVersion.Version, byVersion.Number = "the Form", 3
	byCondition.When, byCondition.Judges = "(norm IS NOT NULL)", engine.Reads("norm")
	for name, e := range map[string]ddl.Expression{"made": byImage, "made_by_version": byVersion, "made_by_condition": byCondition} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := engine.Making(t, ctx, table, "mail", "norm", e)
			k.Start(ctx, 1000)
			statements := generatedBy(k.Shape(ctx, k.Relation.OID))
			var text strings.Builder
			for _, g := range statements {
				fmt.Fprintf(&text, "-- %s\n%s;\n\n", g.Name, g.SQL)
			}
			compareGolden(t, name, text.String())
			k.DB.Run(t, "ANALYZE public.items")
			prepareAll(ctx, k, statements)
		})
	}
}

func compareGolden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name+".sql")
	if *update {
		check(t, os.MkdirAll("testdata", 0o755))
		check(t, os.WriteFile(path, []byte(text), 0o644))
	}
	if want := string(must(os.ReadFile(path))(t)); want != text {
		t.Errorf("%s differs; go test -update writes it anew:\n%s", path, text)
	}
}

// prepareAll lets Postgres look at every statement under a search path that finds nothing. It demands that the key's
// index serves each, and that a chunk is read in the index's order, without sorting.
func prepareAll(ctx context.Context, k *engine.Kit, statements []generated) {
	k.T.Helper()
	conn := must(k.DB.Acquire(ctx))(k.T)
	defer conn.Discard(ctx)
	for _, setting := range []string{"search_path = ''", "plan_cache_mode = force_generic_plan", "enable_seqscan = off"} {
		must(conn.Exec(ctx, "SET "+setting))(k.T)
	}
	for i, g := range statements {
		name := fmt.Sprintf("s%d", i)
		described, err := conn.Raw().Prepare(ctx, name, g.SQL, g.OIDs)
		if err != nil {
			k.T.Errorf("%s: %v", g.Name, pg.Safe(err))
			continue
		}
		nulls := strings.TrimSuffix(strings.Repeat("NULL, ", len(described.ParamOIDs)), ", ")
		plan := ""
		explain := pg.Statement{SQL: fmt.Sprintf("EXPLAIN EXECUTE %s (%s)", name, nulls), Row: func(wire [][]byte) error {
			plan += string(wire[0]) + "\n"
			return nil
		}}
		check(k.T, conn.Flight(ctx, explain))
		inOrder := strings.HasPrefix(g.Name, "read, sparse false") || strings.HasPrefix(g.Name, "verify")
		if g.Name == "run of a verified sample" {
			if !strings.Contains(plan, "Tid Range Scan") {
				k.T.Errorf("%s does not go where the blocks are:\n%s", g.Name, plan)
			}
			continue
		}
		if g.Name != "sample" && !strings.Contains(plan, "_pkey") || inOrder && strings.Contains(plan, "Sort") {
			k.T.Errorf("%s does not walk the index:\n%s", g.Name, plan)
		}
	}
}
