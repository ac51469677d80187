package backfill_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

func TestAnyKey(t *testing.T) {
	t.Parallel()
	for name, c := range engine.KeyCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := prepare(t, t.Context(), engine.Pinned(c.SQL(name)), engine.HostileDefaults)
			rows := k.Rows(t)
			if want := int64(c.Rows() + len(c.Also)); rows != want {
				t.Fatalf("the table has %d rows, want %d", rows, want)
			}
			k.journey(t.Context(), rows)
		})
	}
}

// Names that must be quoted, in every place where a statement names something; and names that are the engine's own.
func TestAnyName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		table   pg.Table
		columns string
		sources []string
	}{
		"quoted": {pg.Table{Schema: `My "Shop", a.b`, Name: `Or.ders'; --\`}, `"Tenant ""x""" text, "select" int, "E.mail, ""x""" text, "e'mail\" varchar(20), PRIMARY KEY ("select", "Tenant ""x""")`,
			[]string{`E.mail, "x"`, `e'mail\`}},
		"formatted": {pg.Table{Schema: `100%s`, Name: `$1 %d`}, `"%d" text, "$2" int, "%[1]s" text, "$3" text, PRIMARY KEY ("$2", "%d")`, []string{`%[1]s`, `$3`}},
		"long": {pg.Table{Schema: strings.Repeat("S", 63), Name: strings.Repeat("é", 31)}, fmt.Sprintf(`%s text, %s int, "Ä" text, o text, PRIMARY KEY (%[2]s, %[1]s)`, strings.Repeat("x", 63), strings.Repeat("y", 63)),
			[]string{"Ä", "o"}},
		"ours": {pg.Table{Schema: "public", Name: "t"}, `k0 text, n int, c0 text, v text, x text DEFAULT 'x', t text DEFAULT 't', k1 text, uncovered text, hop text, PRIMARY KEY (n, k0)`, []string{"c0", "v"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			sql := "CREATE SCHEMA IF NOT EXISTS " + pg.Ident(c.table.Schema) + "; CREATE TABLE " + c.table.SQL() + " (" + c.columns + "); INSERT INTO " + c.table.SQL() +
				" SELECT 'tenant ' || i % 7, i, 'user' || i || '@example.com', i FROM generate_series(1, 1200) i"
			k := prepare(t, ctx, sql, engine.On(c.table, c.sources...))
			k.journey(ctx, engine.SomeRows)
		})
	}
}

func TestAUniqueIndexServesWhereNoPrimaryKeyIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, `CREATE TABLE public.items (a int, b text NOT NULL, c int NOT NULL, secret text);
CREATE UNIQUE INDEX nullable ON public.items (a); CREATE UNIQUE INDEX partial ON public.items (c) WHERE c > 0;
CREATE UNIQUE INDEX usable ON public.items (c DESC, b DESC) INCLUDE (a);
INSERT INTO public.items SELECT CASE WHEN i % 3 > 0 THEN i END, 'b' || i % 7, i, 'secret ' || i FROM generate_series(1, 5000) i`)
	if key := k.Key(); key.Index.Name != "usable" {
		t.Fatalf("the table is walked by %s", key)
	}
	k.journey(ctx, 5000)
}
