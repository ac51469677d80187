package ladder_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// sweep begins a sweep of the ripe column, as a coordinator does by itself, and returns its job.
func (r ripe) sweep(t *testing.T) string {
	t.Helper()
	job := testenv.One[string](t, r, fmt.Sprintf(`INSERT INTO cipherfleet.jobs (relid, spec, state, total) SELECT $1::regclass::oid,
		'{"columns": [{"id": %d}], "key": ["id"]}', 'sweeping', 50 RETURNING id::text`, r.ID), r.Table.SQL())
	r.log(t, lifecycle.Event{Kind: lifecycle.KindBackfillStarted, Job: job, Detail: []byte(`{"compared": true}`)})
	return job
}

// swept ends it.
func (r ripe) swept(t *testing.T, job string) {
	t.Helper()
	r.seal(t)
	r.Run(t, `UPDATE cipherfleet.jobs SET state = 'done' WHERE id = $1`, job)
	r.log(t, lifecycle.Event{Kind: lifecycle.KindBackfilled, Job: job})
}

// A table that is written all the time is swept all the time: a cutover waits for the moment between two sweeps, and what
// was verified before them goes on proving it.
func TestACutoverWaitsForASweep(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, plainUsers)
	r := ripen(t, db, inPublic("users", "email"), "id")
	db.Run(t, `UPDATE users SET email = 'new' WHERE id = 3`)
	job := r.sweep(t)
	var waited []string
	request := r.request()
	request.Waiting = func(job string) {
		waited = append(waited, job)
		if len(waited) == 1 {
			go func() { r.swept(t, job) }()
		}
	}
	result, err := r.ladder().Cutover(t.Context(), request)
	if err != nil || result.Already || result.Proof != standing.ProofFull || !slices.Contains(waited, job) {
		t.Errorf("%+v, %v; waited for %v, not %s", result, err, waited, job)
	}
}

func TestACutoverDoesNotWaitForASweepForEver(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, plainUsers)
	r := ripen(t, db, inPublic("users", "email"), "id")
	job := r.sweep(t)
	waited := 0
	r.refusedCut(t, app.CodeRefused, "a job over public.users has not ended", "cipherfleet job ls", func(c *ladder.CutoverRequest) {
		c.Patience, c.Waiting = time.Second, func(string) { waited++ }
	})
	if waited != 1 {
		t.Errorf("waited %d times", waited)
	}
	ctx, cancel := context.WithCancel(t.Context())
	request := r.request()
	request.Waiting = func(string) { cancel() }
	if _, err := r.ladder().Cutover(ctx, request); !errors.Is(err, context.Canceled) {
		t.Errorf("called off it said %v", err)
	}
	db.Run(t, `UPDATE cipherfleet.jobs SET state = 'paused' WHERE id = $1`, job)
	r.refusedCut(t, app.CodeRefused, "is backfilling, not backfilled", "cipherfleet backfill", func(c *ladder.CutoverRequest) {
		c.Waiting = func(string) { t.Error("waited for a job that is paused") }
	})
}

// What was verified while rows were uncovered shows that no cell is wrong; under its lock the cutover looks for those
// rows itself.
func TestAVerificationThatFoundOnlyUncoveredRowsIsAProof(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, plainUsers)
	r := ripen(t, db, inPublic("users", "email"), "id")
	db.Run(t, `UPDATE users SET email = 'new' WHERE id = 3`)
	r.log(t, lifecycle.Event{Kind: lifecycle.KindVerified, Detail: []byte(`{"proven": false, "none_wrong": true}`)})
	sealed := false
	r.cut(t, func(c *ladder.CutoverRequest) {
		c.Sweep = func(context.Context, messages.StartRequest) error { sealed = true; r.seal(t); return nil }
	})
	if !sealed {
		t.Error("the cutover did not see the row")
	}
}

// Of several who do the same at once one does it, and the others find it done, or are told that it moved.
func TestSeveralAtOnce(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, plainUsers)
	r := ripen(t, db, inPublic("users", "email"), "id")
	const crowd = 4
	var all sync.WaitGroup
	var lock sync.Mutex
	did := map[string]int{}
	for range crowd {
		all.Go(func() {
			result, err := r.ladder().Cutover(t.Context(), r.request())
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				t.Errorf("a cutover: %v", err)
			}
			did[fmt.Sprintf("already %t", result.Already)]++
		})
	}
	all.Wait()
	if did["already false"] != 1 || did["already true"] != crowd-1 {
		t.Errorf("cut over: %v", did)
	}
	for _, back := range []bool{true, true, false, false} {
		all.Go(func() {
			var err error
			if back {
				err = r.back(t)
			} else {
				err = r.gone(t)
			}
			var refused *standing.Refusal
			if err != nil && !errors.As(err, &refused) {
				t.Errorf("back %t: %v", back, err)
			}
		})
	}
	all.Wait()
	if phase := r.state(t).Phase; phase != lifecycle.PhaseBackfilled && phase != lifecycle.PhaseDropped && phase != lifecycle.PhaseSchemaAdded {
		t.Errorf("the column is %s", phase)
	}
}

// back rolls the cutover back.
func (r ripe) back(t *testing.T) error {
	request := ladder.RollbackRequest{Name: r.name, Reverse: func(context.Context) error { return errors.New("nobody opens in this test") }}
	plan, err := r.ladder().PlanRollback(t.Context(), request)
	if err == nil {
		_, err = r.ladder().Rollback(t.Context(), plan, request)
	}
	return err
}

// gone drops the plaintext.
func (r ripe) gone(t *testing.T) error {
	d, err := r.ladder().PlanDrop(t.Context(), r.name)
	if err != nil || d.Gone {
		return err
	}
	if err := r.ladder().ProveCoverage(t.Context(), d, r.name); err != nil {
		return err
	}
	return r.ladder().Apply(t.Context(), d)
}
