package backfill_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// people have an email, a phone, both, or neither.
const people = `CREATE TABLE public.people (id bigint PRIMARY KEY, email text, phone bytea, note text);
INSERT INTO public.people SELECT i, CASE WHEN i % 2 = 0 THEN 'user' || i END, CASE WHEN i % 3 = 0 THEN int4send(i) END FROM generate_series(1, 3000) i`

const notNull = 2000 // of people: those with an email, a phone or both

func TestSeveralColumnsOfOneTableAreOnePass(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, people, engine.On(pg.Table{Schema: "public", Name: "people"}, "email", "phone"))
	k.Start(ctx, 700)
	k.Audit(ctx)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 3000)
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.audit`); n != notNull {
		t.Errorf("%d updates were committed, want one for each of %d rows", n, notNull)
	}
	const eventsSQL = `SELECT string_agg(DISTINCT event, ' ' ORDER BY event) || ' ' || coalesce(sum(rows_processed) FILTER (WHERE event = $3), 0)
 FROM cipherfleet.events WHERE table_name = 'public.people' AND column_name = $1 AND job_id = $2::uuid`
	for _, column := range []string{"email", "phone"} {
		if got := testenv.One[string](t, k.DB, eventsSQL, column, k.Job.ID, string(lifecycle.KindCheckpoint)); got != "backfill_checkpoint backfill_started backfilled 2000" {
			t.Errorf("the events of %s are %s", column, got)
		}
	}
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.people WHERE (email IS NULL) <> (email_sealed IS NULL) OR (phone IS NULL) <> (phone_sealed IS NULL)`); n != 0 {
		t.Errorf("%d rows have a cell without a value, or a value without a cell", n)
	}
}

// A row is uncovered as long as one of its columns is, and both are sealed for what they hold then.
func TestARowWithOneColumnCoveredIsWrittenForTheOther(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var k *kit
	changed := false
	k = prepare(t, ctx, people, engine.On(pg.Table{Schema: "public", Name: "people"}, "email", "phone"), between(func() {
		if !changed {
			changed = true
			k.DB.Run(t, `UPDATE public.people SET phone = '\x01' WHERE id <= 100`)
		}
	}))
	k.Start(ctx, 5000)
	check(t, k.Work(ctx))
	k.Proven(ctx, 3000)
	k.DB.Run(t, `UPDATE public.people SET email = NULL WHERE id = 6; UPDATE public.people SET phone = '\x02' WHERE id = 12; UPDATE public.people SET phone_sealed = NULL WHERE id = 18`)
	k.Audit(ctx)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 3000)
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.audit`); n != 2 {
		t.Errorf("%d rows were written by the sweep, want 2", n)
	}
}

// What keeps one column of a row from being sealed keeps the row, in every column.
func TestAQuarantinedRowIsQuarantinedInEveryColumn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, people+`;
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 6 THEN RAISE EXCEPTION ''no''; END IF; RETURN NEW; END';
CREATE TRIGGER refuse BEFORE UPDATE ON public.people FOR EACH ROW EXECUTE FUNCTION public.refuse()`, engine.On(pg.Table{Schema: "public", Name: "people"}, "email", "phone"))
	k.Start(ctx, 5000)
	if job := k.Finish(ctx); job.State != work.Failed || job.StoppedBy != "1 rows are in quarantine" {
		t.Errorf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	if n := k.Quarantined(t); n != 2 {
		t.Errorf("quarantine holds %d entries, want one per column", n)
	}
	if n := testenv.One[int64](t, k.DB, `SELECT count(DISTINCT column_name) FROM cipherfleet.events WHERE event = 'row_quarantined'`); n != 2 {
		t.Errorf("the events of %d columns tell of it, want 2", n)
	}
}

// A value that cannot be transformed is its own column's fault, and the other one's cell waits: whoever mends it is told
// which. A cell whose key was destroyed does not count against the budget, nor does what waits beside it.
func TestQuarantineTellsWhoseValueItIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, people, engine.On(pg.Table{Schema: "public", Name: "people"}, "email", "phone"), func(k *engine.Kit) {
		k.Budget = 2
		k.Wrap = func(inner transform.Transform) transform.Transform {
			return &picky{inner: inner}
		}
	})
	k.DB.Run(t, `UPDATE public.people SET phone = '\xdead' WHERE id IN (6, 12); UPDATE public.people SET email = 'gone' WHERE id IN (18, 24)`)
	k.Start(ctx, 5000)
	if job := k.Finish(ctx); job.State != work.Failed || job.StoppedBy != "4 rows are in quarantine" {
		t.Errorf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	const whoseSQL = `SELECT concat_ws(' ', q.key[1], c.source, q.reason) FROM cipherfleet.quarantine q JOIN cipherfleet.columns c ON c.id = q.column_id ORDER BY q.key[1]::int, c.source`
	const value, gone = "the value cannot be transformed", "the key of its cell was destroyed"
	want := []string{"6 email " + work.ReasonBeside, "6 phone " + value, "12 email " + work.ReasonBeside, "12 phone " + value,
		"18 email " + gone, "18 phone " + work.ReasonBeside, "24 email " + gone, "24 phone " + work.ReasonBeside}
	if have := testenv.Column[string](t, k.DB, whoseSQL); !slices.Equal(have, want) {
		t.Errorf("have %q", have)
	}
	if n := testenv.One[int](t, k.DB, `SELECT count(DISTINCT details->>'key_hash') FROM cipherfleet.events WHERE event = 'row_quarantined' AND column_name = 'phone' AND details->>'reason' = $1`, value); n != 2 {
		t.Errorf("%d events of phone say why", n)
	}
}

// picky cannot transform two values.
type picky struct{ inner transform.Transform }

func (p *picky) Apply(ctx context.Context, values []transform.Value) error {
	for _, v := range values {
		switch string(v.In) {
		case "\xde\xad":
			return transform.ErrValue
		case "gone":
			return fmt.Errorf("%w: %w", transform.ErrValue, cell.ErrKeyDestroyed)
		}
	}
	return p.inner.Apply(ctx, values)
}
