package backfill_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

func TestRangesThatWereThrownAwayAreSweptAllTheSame(t *testing.T) {
	t.Parallel()
	for name, deletion := range map[string]string{
		"of the first pass, one":  `DELETE FROM cipherfleet.ranges WHERE pass = 0 AND after_key = '{20}'`,
		"of the first pass, last": `DELETE FROM cipherfleet.ranges WHERE pass = 0 AND through_key IS NULL`,
		"of the first pass, all":  `DELETE FROM cipherfleet.ranges WHERE pass = 0`,
		"of the sweep, first":     `DELETE FROM cipherfleet.ranges WHERE pass = 1 AND after_key IS NULL`,
		"of the sweep, one":       `DELETE FROM cipherfleet.ranges WHERE pass = 1 AND after_key = '{20}'`,
		"of the sweep, all":       `DELETE FROM cipherfleet.ranges WHERE pass = 1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := prepare(t, ctx, engine.FewItems)
			k.Start(ctx, 10)
			k.DB.Run(t, deletion)
			check(t, k.Work(ctx))
			k.Job = must(k.Jobs.Step(ctx, k.Job.ID, []uint32{k.Relation.OID}))(t)
			k.DB.Run(t, `UPDATE public.items SET sealed = NULL WHERE id BETWEEN 1 AND 30`)
			k.DB.Run(t, deletion)
			if job := k.Finish(ctx); job.State != work.Done {
				t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
			}
			k.Proven(ctx, 50)
		})
	}
}

func TestBoundsThatDoNotFitTheKeyStopTheRange(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems)
	k.Start(ctx, 1000)
	k.DB.Run(t, `UPDATE cipherfleet.ranges SET cursor_key = '{1,2}'`)
	if err := k.Work(ctx); !errors.Is(err, keyspace.ErrChanged) || !strings.Contains(err.Error(), "do not fit the key") {
		t.Errorf("the range ended with %v", err)
	}
}

// Codes of the user's own are refusals of one row like any other, and so are limits that one row exceeds.
func TestARowIsRefusedWithAnyCode(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"U0001", "45000", "72000", "54000"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := prepare(t, ctx, engine.FewItems+`;
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 5 THEN RAISE EXCEPTION ''no'' USING ERRCODE = ''`+code+`''; END IF; RETURN NEW; END';
CREATE TRIGGER refuse BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
			k.Start(ctx, 1000)
			job := k.Finish(ctx)
			if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NOT NULL`); job.State != work.Failed || k.Quarantined(t) != 1 || n != 49 {
				t.Errorf("the job ended %s with %d rows in quarantine and %d covered, want failed with 1 and 49", job.State, k.Quarantined(t), n)
			}
		})
	}
}

func TestARowWithAWideKeyIsQuarantined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, `CREATE TABLE public.items (id bytea PRIMARY KEY, secret text, note text);
INSERT INTO public.items SELECT (SELECT string_agg(sha512((i || '.' || j)::bytea), '') FROM generate_series(1, 40) j), 'secret ' || i FROM generate_series(1, 9) i;
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.secret = ''secret 5'' THEN RAISE EXCEPTION ''no''; END IF; RETURN NEW; END';
CREATE TRIGGER refuse BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
	k.Start(ctx, 1000)
	if job := k.Finish(ctx); job.State != work.Failed || k.Quarantined(t) != 1 {
		t.Errorf("the job ended %s with %d rows in quarantine: %s", job.State, k.Quarantined(t), job.StoppedBy)
	}
}

// A row that takes longer than a chunk may take is written by itself in the end, instead of being left for ever.
func TestARowThatTakesLongIsWrittenAlone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems+`;
CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id = 5 THEN PERFORM pg_sleep(1.2); END IF; RETURN NEW; END';
CREATE TRIGGER slow BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.slow()`)
	k.Start(ctx, 1000)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 50)
}

func TestPlanningTakesItsTimeWhateverTheDatabasesDefaultIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems)
	k.DB.Run(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''1s''', current_database()); END $$`)
	k.Jobs.DB = testenv.Open(t, k.DB.URL).DB
	gate := must(k.DB.Begin(ctx))(t)
	_, err := gate.Exec(ctx, `LOCK TABLE public.items IN ACCESS EXCLUSIVE MODE; SET LOCAL statement_timeout = 0`)
	check(t, err)
	opened := make(chan error, 1)
	go func() {
		_, err := gate.Exec(ctx, `SELECT pg_sleep(2.5)`)
		opened <- errors.Join(err, gate.Rollback(ctx))
	}()
	k.Start(ctx, 2)
	check(t, <-opened)
}
