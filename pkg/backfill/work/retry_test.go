package work_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// suppressed keeps rows 5 and 33 from being written, so that the job ends with them in quarantine.
const suppressed = engine.FewItems + `;
CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id IN (5, 33) THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER never BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.never()`

// failed is a job that has failed with two rows in quarantine.
func failed(t *testing.T) *kit {
	t.Helper()
	k := prepare(t, t.Context(), suppressed)
	k.Start(t.Context(), 10)
	if job := k.Finish(t.Context()); job.State != work.Failed || k.Quarantined(t) != 2 {
		t.Fatalf("the job ended %s with %d rows in quarantine", job.State, k.Quarantined(t))
	}
	return k
}

func TestRowsInQuarantineAreTriedAgain(t *testing.T) {
	t.Parallel()
	k := failed(t)
	if rows, err := k.Jobs.Retriable(t.Context(), k.Job.ID); err != nil || rows != 2 {
		t.Errorf("%d rows can be tried again, %v", rows, err)
	}
	k.DB.Run(t, `UPDATE cipherfleet.jobs SET spec = jsonb_set(spec, '{unasked}', 'true')`) // the fleet's own sweep had failed
	for _, mended := range []bool{false, true} {
		if mended {
			k.DB.Run(t, `DROP TRIGGER never ON public.items`)
		}
		job := must(k.Retry())(t)
		if job.Passing() || must(k.Jobs.Load(t.Context(), job.ID))(t).Passing() {
			t.Error("somebody asked for it, and it passes for one that the fleet began by itself")
		}
		if job.State != work.Sweeping || job.StoppedBy != "" || k.Quarantined(t) != 0 {
			t.Fatalf("the job is %+v with %d rows in quarantine", job, k.Quarantined(t))
		}
		want, left := work.Failed, int64(2)
		if mended {
			want, left = work.Done, 0
		}
		if job := k.Finish(t.Context()); job.State != want || k.Quarantined(t) != left {
			t.Fatalf("mended %t: the job ended %s with %d rows in quarantine", mended, job.State, k.Quarantined(t))
		}
	}
	k.Proven(t.Context(), 50)
	state := must(lifecycle.Latest(t.Context(), k.DB, "public.items", "secret"))(t)
	if state.Phase != lifecycle.PhaseBackfilled || state.Run.Rows != 50 || state.Run.State != lifecycle.RunDone {
		t.Errorf("the log folds to %+v", state)
	}
	by := testenv.Column[string](t, k.DB, `SELECT actor || ': ' || (details->>'reason') FROM cipherfleet.events WHERE event = 'backfill_started' AND details ? 'reason'`)
	if len(by) != 2 || by[0] != "ada: 2 rows in quarantine are tried again" {
		t.Errorf("the log says %q", by)
	}
}

// A job whose budget was full stopped in its first pass: it goes on there, and sweeps.
func TestAJobStoppedByItsBudgetIsTriedAgain(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), suppressed)
	k.Start(t.Context(), 10)
	check(t, k.Work(t.Context()))
	must(k.Jobs.Fail(t.Context(), k.Job.ID, "as if the budget were full"))(t)
	k.DB.Run(t, `DROP TRIGGER never ON public.items`)
	if job := must(k.Retry())(t); job.State != work.Running {
		t.Errorf("the job is %s", job.State)
	}
	if job := k.Finish(t.Context()); job.State != work.Done {
		t.Errorf("the job ended %s", job.State)
	}
	k.Proven(t.Context(), 50)
}

func TestWhatCannotBeTriedAgain(t *testing.T) {
	t.Parallel()
	refused := func(k *kit, want error) {
		t.Helper()
		before := testenv.One[string](t, k.DB, `SELECT count(*) || string_agg(j::text, '') FROM cipherfleet.events, cipherfleet.jobs j`)
		if _, err := k.Retry(); !errors.Is(err, want) {
			t.Errorf("error is %v, want %v", err, want)
		}
		if after := testenv.One[string](t, k.DB, `SELECT count(*) || string_agg(j::text, '') FROM cipherfleet.events, cipherfleet.jobs j`); after != before {
			t.Error("a refused retry changed something")
		}
	}
	k := prepare(t, t.Context(), suppressed)
	k.Start(t.Context(), 10)
	refused(k, work.ErrState)
	k.Finish(t.Context())
	k.DB.Run(t, `UPDATE cipherfleet.quarantine SET resolved_at = now()`)
	refused(k, work.ErrNothingQuarantined)

	k = failed(t)
	older := k.Job
	k.Start(t.Context(), 10)
	newer := k.Job
	k.Job = older
	refused(k, work.ErrSuperseded)
	must(k.Jobs.Cancel(t.Context(), newer.ID, ""))(t)
	refused(k, work.ErrSuperseded)

	k = failed(t)
	other := k.Job.Spec
	other.Columns = []work.Column{{ID: 99, LogTable: "public.items", LogColumn: "note"}}
	must(k.Jobs.Create(t.Context(), work.Job{RequestID: uuid.NewString(), Relation: k.Relation.OID, Spec: other}))(t)
	refused(k, work.ErrBusy)

	k = failed(t)
	check(t, k.DB.InTx(t.Context(), func(tx pg.Tx) error {
		_, err := (&lifecycle.Log{}).Append(t.Context(), tx, lifecycle.Event{Table: "public.items", Column: "secret", Kind: lifecycle.KindRolledBack, Phase: lifecycle.PhaseSchemaAdded})
		return err
	}))
	refused(k, work.ErrNotReady)
}
