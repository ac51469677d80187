package backfill_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// suppressed keeps rows 5 and 33 from being written, so that the job ends with them in quarantine.
const suppressed = fewItems + `;
CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id IN (5, 33) THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER never BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.never()`

// failed is a job that has failed with two rows in quarantine.
func failed(t *testing.T) *kit {
	t.Helper()
	k := prepare(t, t.Context(), suppressed)
	k.start(t.Context(), 10)
	if job := k.finish(t.Context()); job.State != work.Failed || quarantined(t, k) != 2 {
		t.Fatalf("the job ended %s with %d rows in quarantine", job.State, quarantined(t, k))
	}
	return k
}

func (k *kit) retry() (work.Job, error) {
	return k.jobs.Retry(k.t.Context(), k.job.ID, "ada", []uint32{k.relation.OID})
}

func TestRowsInQuarantineAreTriedAgain(t *testing.T) {
	t.Parallel()
	k := failed(t)
	if rows, err := k.jobs.Retriable(t.Context(), k.job.ID); err != nil || rows != 2 {
		t.Errorf("%d rows can be tried again, %v", rows, err)
	}
	for _, mended := range []bool{false, true} {
		if mended {
			k.db.Run(t, `DROP TRIGGER never ON public.items`)
		}
		job := must(k.retry())(t)
		if job.State != work.Sweeping || job.StoppedBy != "" || quarantined(t, k) != 0 {
			t.Fatalf("the job is %+v with %d rows in quarantine", job, quarantined(t, k))
		}
		want, left := work.Failed, int64(2)
		if mended {
			want, left = work.Done, 0
		}
		if job := k.finish(t.Context()); job.State != want || quarantined(t, k) != left {
			t.Fatalf("mended %t: the job ended %s with %d rows in quarantine", mended, job.State, quarantined(t, k))
		}
	}
	k.proven(t.Context(), 50)
	state := must(lifecycle.Latest(t.Context(), k.db, "public.items", "secret"))(t)
	if state.Phase != lifecycle.PhaseBackfilled || state.Run.Rows != 50 || state.Run.State != lifecycle.RunDone {
		t.Errorf("the log folds to %+v", state)
	}
	by := testenv.Column[string](t, k.db, `SELECT actor || ': ' || (details->>'reason') FROM cipherfleet.events WHERE event = 'backfill_started' AND details ? 'reason'`)
	if len(by) != 2 || by[0] != "ada: 2 rows in quarantine are tried again" {
		t.Errorf("the log says %q", by)
	}
}

// A job whose budget was full stopped in its first pass: it goes on there, and sweeps.
func TestAJobStoppedByItsBudgetIsTriedAgain(t *testing.T) {
	t.Parallel()
	k := prepare(t, t.Context(), suppressed)
	k.start(t.Context(), 10)
	check(t, k.work(t.Context()))
	must(k.jobs.Fail(t.Context(), k.job.ID, "as if the budget were full"))(t)
	k.db.Run(t, `DROP TRIGGER never ON public.items`)
	if job := must(k.retry())(t); job.State != work.Running {
		t.Errorf("the job is %s", job.State)
	}
	if job := k.finish(t.Context()); job.State != work.Done {
		t.Errorf("the job ended %s", job.State)
	}
	k.proven(t.Context(), 50)
}

func TestWhatCannotBeTriedAgain(t *testing.T) {
	t.Parallel()
	refused := func(k *kit, want error) {
		t.Helper()
		before := testenv.One[string](t, k.db, `SELECT count(*) || string_agg(j::text, '') FROM cipherfleet.events, cipherfleet.jobs j`)
		if _, err := k.retry(); !errors.Is(err, want) {
			t.Errorf("error is %v, want %v", err, want)
		}
		if after := testenv.One[string](t, k.db, `SELECT count(*) || string_agg(j::text, '') FROM cipherfleet.events, cipherfleet.jobs j`); after != before {
			t.Error("a refused retry changed something")
		}
	}
	k := prepare(t, t.Context(), suppressed)
	k.start(t.Context(), 10)
	refused(k, work.ErrState)
	k.finish(t.Context())
	k.db.Run(t, `UPDATE cipherfleet.quarantine SET resolved_at = now()`)
	refused(k, work.ErrNothingQuarantined)

	k = failed(t)
	older := k.job
	k.start(t.Context(), 10)
	newer := k.job
	k.job = older
	refused(k, work.ErrSuperseded)
	must(k.jobs.Cancel(t.Context(), newer.ID, ""))(t)
	refused(k, work.ErrSuperseded)

	k = failed(t)
	other := k.job.Spec
	other.Columns = []work.Column{{ID: 99, LogTable: "public.items", LogColumn: "note"}}
	must(k.jobs.Create(t.Context(), work.Job{RequestID: uuid.NewString(), Relation: k.relation.OID, Spec: other}))(t)
	refused(k, work.ErrBusy)

	k = failed(t)
	check(t, k.db.InTx(t.Context(), func(tx pg.Tx) error {
		_, err := (&lifecycle.Log{}).Append(t.Context(), tx, lifecycle.Event{Table: "public.items", Column: "secret", Kind: lifecycle.KindRolledBack, Phase: lifecycle.PhaseSchemaAdded})
		return err
	}))
	refused(k, work.ErrNotReady)
}
