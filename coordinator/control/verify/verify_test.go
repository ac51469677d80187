package verify_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// items is a table of twenty rows, one of them NULL, whose column secret is backfilled.
func items(t *testing.T) *testenv.Sealed {
	t.Helper()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text); INSERT INTO public.items SELECT i, nullif('secret ' || i, 'secret 20') FROM generate_series(1, 20) i`)
	s := testenv.Prepare(t, db, pg.Table{Schema: "public", Name: "items"}, "secret")
	s.Backfill(t)
	return s
}

func ask(t *testing.T, s *testenv.Sealed, r verify.Request) (verify.Result, int64, error) {
	t.Helper()
	seen := int64(0)
	v := &verify.Verifier{DB: s.DB.DB, KEK: s.KEK, Seen: func(rows, _ int64) { seen = rows }}
	r.Schema, r.Table = "public", "items"
	result, err := v.Verify(t.Context(), r)
	return result, seen, err
}

// TestEachRowIsWhatItIs: covered, uncovered, left over, stale, of another row, or no cell; and the log keeps the counts.
func TestEachRowIsWhatItIs(t *testing.T) {
	t.Parallel()
	s := items(t)
	r, seen, err := ask(t, s, verify.Request{})
	if err != nil || !r.Proven || seen != 20 || r.Columns[0].Covered != 20 || r.Columns[0].Keys[s.Scheme.KeyID] != 19 {
		t.Fatalf("before: %+v, %d rows seen, %v", r, seen, err)
	}
	digest := r.Columns[0].Digest
	s.Run(t, `UPDATE public.items SET secret = 'missed' WHERE id = 1`)
	s.Write(t, 2, s.Cell(t, 2, "another value"))
	s.Write(t, 3, s.Cell(t, 4, "secret 3"))
	s.Write(t, 20, s.Cell(t, 20, "of nothing"))
	r, _, err = ask(t, s, verify.Request{Columns: []string{"secret"}})
	if c := r.Columns[0]; err != nil || r.Proven || c.Proven || c.Rows != 20 || c.Covered != 16 || c.Uncovered != 2 || c.Stale != 1 || c.Broken != 1 || len(c.Examples) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	state, err := lifecycle.Latest(t.Context(), s, "public.items", "secret")
	if err != nil || state.Proven || state.NoneWrong || !state.Suspect() {
		t.Errorf("the log says %+v, %v", state, err)
	}
	if n := testenv.One[int](t, s, `SELECT (details->>'stale')::int + (details->>'broken')::int FROM cipherfleet.events WHERE event = 'verified' ORDER BY id DESC LIMIT 1`); n != 2 {
		t.Errorf("the log counts %d", n)
	}
	s.Run(t, `UPDATE public.items SET secret = 'secret 1' WHERE id = 1`)
	for id := range int64(3) {
		s.Write(t, id+1, s.Cell(t, id+1, []string{"secret 1", "secret 2", "secret 3"}[id]))
	}
	s.Write(t, 20, nil)
	if r, _, err = ask(t, s, verify.Request{}); err != nil || !r.Proven || r.Columns[0].Digest != digest {
		t.Errorf("mended: %+v, %v; the same rows had digest %s", r, err, digest)
	}
}

// TestCellsAreOpenedWithoutTheirPlaintext, and nothing is left to compare them with.
func TestCellsAreOpenedWithoutTheirPlaintext(t *testing.T) {
	t.Parallel()
	s := items(t)
	s.Record(t, lifecycle.Event{Kind: lifecycle.KindCutOver}, lifecycle.Event{Kind: lifecycle.KindDropped})
	for _, sql := range s.Capture().Undo {
		s.Run(t, sql)
	}
	s.Run(t, `ALTER TABLE public.items DROP secret`)
	if r, _, err := ask(t, s, verify.Request{}); err != nil || !r.Proven || r.Columns[0].Source != "" || r.Columns[0].Column != "secret" {
		t.Errorf("%+v, %v", r, err)
	}
	s.Run(t, `UPDATE public.items SET secret_encrypted = (SELECT secret_encrypted FROM public.items WHERE id = 1) WHERE id = 2`)
	if r, _, err := ask(t, s, verify.Request{}); err != nil || r.Proven || r.Columns[0].Broken != 1 {
		t.Errorf("with a cell of another row: %+v, %v", r, err)
	}
}

func TestASampleIsCalledOne(t *testing.T) {
	t.Parallel()
	s := items(t)
	r, _, err := ask(t, s, verify.Request{Sample: 50})
	if err != nil || !r.Proven || r.Sample != 50 || r.Columns[0].Digest != "" {
		t.Errorf("%+v, %v", r, err)
	}
	if state, err := lifecycle.Latest(t.Context(), s, "public.items", "secret"); err != nil || !state.Verified.IsZero() {
		t.Errorf("a sample proves %+v, %v", state, err)
	}
}

// TestNothingIsReadForARequestThatIsRefused, and nothing is recorded.
func TestNothingIsReadForARequestThatIsRefused(t *testing.T) {
	t.Parallel()
	s := items(t)
	s.Run(t, `CREATE TABLE public.others (id bigint PRIMARY KEY, secret text)`)
	before := testenv.Catalog(t, s)
	for name, tc := range map[string]struct {
		request verify.Request
		code    int
	}{
		"no sample":      {verify.Request{Schema: "public", Table: "items", Sample: 100}, app.CodeUsage},
		"below nothing":  {verify.Request{Schema: "public", Table: "items", Sample: -1}, app.CodeUsage},
		"no such table":  {verify.Request{Schema: "public", Table: "Items"}, app.CodeRefused},
		"no such column": {verify.Request{Schema: "public", Table: "items", Columns: []string{"secret", "Secret"}}, app.CodeRefused},
		"not registered": {verify.Request{Schema: "public", Table: "others"}, app.CodeRefused},
	} {
		v := &verify.Verifier{DB: s.DB.DB, KEK: s.KEK, Seen: func(int64, int64) { t.Errorf("%s: rows were read", name) }}
		_, err := v.Verify(t.Context(), tc.request)
		var refused *standing.Refusal
		if !errors.As(err, &refused) || refused.Code != tc.code || refused.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if testenv.Catalog(t, s) != before || slices.Contains(testenv.Column[string](t, s, `SELECT event FROM cipherfleet.events`), "verified") {
		t.Error("something was changed")
	}
}
