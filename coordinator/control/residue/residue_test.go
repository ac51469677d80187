package residue_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/residue"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func secret() standing.Name {
	return standing.Name{Schema: "public", Table: "items", Column: "secret"}
}

// items is a table with a value that is told by whoever prints it, and much that knows it.
func items(t *testing.T) (*testenv.Sealed, *residue.Cleaner) {
	t.Helper()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, note text) WITH (autovacuum_enabled = false);
INSERT INTO public.items SELECT i, 'told' FROM generate_series(1, 50) i; CREATE INDEX by_secret ON public.items (secret)`)
	s := testenv.Prepare(t, db, pg.Table{Schema: "public", Name: "items"}, "secret")
	s.Backfill(t)
	db.Run(t, `ANALYZE public.items`)
	return s, &residue.Cleaner{DB: s.DB.DB, Actor: "ada"}
}

func look(t *testing.T, c *residue.Cleaner) residue.Report {
	t.Helper()
	r, err := c.Look(t.Context(), secret())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if !slices.Contains(residue.Kinds(), f.Kind) || f.Where == "" || f.Says == "" || strings.Contains(f.Says+f.Where+f.Then, "told") {
			t.Errorf("a finding is %+v", f)
		}
	}
	return r
}

func kinds(list []residue.Finding) (kinds []string) {
	for _, f := range list {
		kinds = append(kinds, f.Kind)
	}
	return slices.Compact(slices.Sorted(slices.Values(kinds)))
}

// TestLookFindsEachKindWhereItIs, names places and no values, and changes nothing.
func TestLookFindsEachKindWhereItIs(t *testing.T) {
	t.Parallel()
	s, c := items(t)
	before := kinds(look(t, c).Findings)
	if want := []string{residue.Index, residue.Plaintext, residue.Statistics}; !slices.Equal(intersect(before, want), want) {
		t.Errorf("of a table alone %v", before)
	}
	for _, tc := range []struct{ sql, kind, where string }{
		{`CREATE VIEW public.shows AS SELECT id, secret FROM public.items`, residue.View, "public.shows"},
		{`CREATE MATERIALIZED VIEW public.holds AS SELECT id FROM public.shows WHERE secret <> ''`, residue.Matview, "public.holds"},
		{`CREATE FUNCTION public.tells() RETURNS text LANGUAGE sql AS 'SELECT max(secret) FROM public.items'`, residue.Function, "public.tells"},
		{`CREATE STATISTICS public.both ON secret, note FROM public.items`, residue.Extended, "both"},
		{`CREATE PUBLICATION sends FOR TABLE public.items`, residue.Publication, "sends"},
		{`CREATE TABLE public.items_history (id bigint, secret text)`, residue.Copy, "public.items_history"},
	} {
		s.Run(t, tc.sql)
		catalog := testenv.Catalog(t, s)
		if r := look(t, c); !slices.ContainsFunc(r.Findings, func(f residue.Finding) bool { return f.Kind == tc.kind && strings.Contains(f.Where, tc.where) }) {
			t.Errorf("no %s at %s in %+v", tc.kind, tc.where, r.Findings)
		}
		if testenv.Catalog(t, s) != catalog {
			t.Errorf("looking for %s changed something", tc.kind)
		}
	}
	r := look(t, c)
	if len(r.Checklist) == 0 || r.Plaintext != "secret" || r.Phase != lifecycle.PhaseBackfilled || r.Size() == "" {
		t.Errorf("%+v", r)
	}
	if left := r.Left(residue.Kinds()); len(left) != 0 {
		t.Errorf("everything is accepted, and %v is left", left)
	}
	if left := kinds(r.Left([]string{residue.View})); slices.Contains(left, residue.View) || !slices.Contains(left, residue.Matview) {
		t.Errorf("views are accepted, and %v is left", left)
	}
}

func intersect(list, with []string) []string {
	return slices.DeleteFunc(slices.Clone(with), func(kind string) bool { return !slices.Contains(list, kind) })
}

// TestNothingIsRewrittenWhileThePlaintextIsThere, nor by who does not own the table.
func TestNothingIsRewrittenWhileThePlaintextIsThere(t *testing.T) {
	t.Parallel()
	s, c := items(t)
	_, err := c.Plan(t.Context(), secret(), true)
	var refused *standing.Refusal
	if !errors.As(err, &refused) || refused.Code != app.CodeRefused || !strings.Contains(refused.Hint, "cipherfleet drop items.secret") {
		t.Errorf("it was answered with %v", err)
	}
	_, err = c.Look(t.Context(), standing.Name{Schema: "public", Table: "items", Column: "note"})
	if !errors.As(err, &refused) || refused.Hint == "" {
		t.Errorf("a column that is not registered was answered with %v", err)
	}
	if n := testenv.One[int](t, s, `SELECT count(*) FROM cipherfleet.events WHERE event = 'cleaned'`); n != 0 {
		t.Errorf("%d cleanings are on record", n)
	}
}

// TestCleaningTakesAwayWhatIsLeftOfADroppedColumn, says so in the log, and finds less than before.
func TestCleaningTakesAwayWhatIsLeftOfADroppedColumn(t *testing.T) {
	t.Parallel()
	s, c := items(t)
	s.Record(t, lifecycle.Event{Kind: lifecycle.KindCutOver}, lifecycle.Event{Kind: lifecycle.KindDropped})
	for _, sql := range s.Capture().Undo {
		s.Run(t, sql)
	}
	s.Run(t, `ALTER TABLE public.items DROP secret`)
	before := kinds(look(t, c).Findings)
	if !slices.Contains(before, residue.Heap) || slices.Contains(before, residue.Plaintext) {
		t.Fatalf("after the drop %v", before)
	}
	plan, err := c.Plan(t.Context(), secret(), true)
	if err != nil || !plan.Rewrites || !slices.Equal(plan.Statements, []string{`VACUUM (FULL, ANALYZE) "public"."items"`}) || plan.MaxSeconds < 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	after, err := c.Clean(t.Context(), secret(), plan)
	if left := kinds(after.Findings); err != nil || slices.Contains(left, residue.Heap) || slices.Contains(left, residue.Dead) {
		t.Errorf("%v is left, %v", left, err)
	}
	const eventSQL = `SELECT actor || ' ' || (details->>'rewritten') || ' ' || (details->>'left') = 'ada true ' || $1::int FROM cipherfleet.events WHERE event = 'cleaned'`
	if !testenv.One[bool](t, s, eventSQL, len(after.Findings)) {
		t.Error("the log does not say what was done, by whom, and how much is left")
	}
	if again := look(t, c); slices.Contains(kinds(again.Findings), residue.Heap) {
		t.Error("a later look does not know that the table was written anew")
	}
}

// TestAnEmptiedPlaintextIsCleanedOfKeysAndStatistics without a rewrite.
func TestAnEmptiedPlaintextIsCleanedOfKeysAndStatistics(t *testing.T) {
	t.Parallel()
	s, c := items(t)
	s.Record(t, lifecycle.Event{Kind: lifecycle.KindCutOver})
	for _, sql := range s.Capture().Undo {
		s.Run(t, sql)
	}
	s.Run(t, `UPDATE public.items SET secret = NULL`)
	s.Run(t, `ANALYZE public.items`)
	plan, err := c.Plan(t.Context(), secret(), false)
	if err != nil || plan.Rewrites || !slices.Contains(plan.Statements, `REINDEX INDEX CONCURRENTLY "public"."by_secret"`) {
		t.Fatalf("%+v, %v", plan, err)
	}
	after, err := c.Clean(t.Context(), secret(), plan)
	if left := kinds(after.Findings); err != nil || slices.Contains(left, residue.Statistics) || slices.Contains(left, residue.Dead) {
		t.Errorf("%v is left, %v", left, err)
	}
}
