package lifecycle_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestLatestIsTheFoldedHistory(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	if s, err := lifecycle.Latest(t.Context(), db, table, column); err != nil || s != (lifecycle.State{}) {
		t.Fatalf("a column nothing happened to: %+v, %v", s, err)
	}
	life := append(ready(), started(jobA, 100), checkpoint(jobA, 40), of(lifecycle.KindError, jobA), checkpoint(jobA, 10), of(lifecycle.KindJobCancelled, jobA), started(jobB, 50),
		checkpoint(jobB, 5), of(lifecycle.KindError, jobB), started(jobB, 45), checkpoint(jobB, 6), of(lifecycle.KindRowQuarantined, jobB), backfilled(jobB), started(jobB, 1),
		checkpoint(jobB, 1), backfilled(jobB), reach(lifecycle.KindCutOver, lifecycle.PhaseCutOver))
	for _, e := range life {
		appendAll(t, db, e)
		other := e
		other.Table, other.Column = table, "other"
		appendAll(t, db, other)
		want, err := lifecycle.Fold(readHistory(t, db))
		if err != nil {
			t.Fatal(err)
		}
		got, err := lifecycle.Latest(t.Context(), db, table, column)
		if err != nil || got != want {
			t.Fatalf("after %s: got\n%+v, %v\nwant\n%+v", e.Kind, got, err, want)
		}
	}
}

func TestLatestTellsOfAnImpossibleEvent(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	appendAll(t, db, append(ready(), reach(lifecycle.KindDropped, lifecycle.PhaseDropped))...)
	s, err := lifecycle.Latest(t.Context(), db, table, column)
	if !errors.Is(err, lifecycle.ErrImpossible) || s.Phase != lifecycle.PhaseDualWriting {
		t.Errorf("phase %s, %v", s.Phase, err)
	}
}

func TestProgressAddsUpTheLastJob(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	if p, err := lifecycle.Progress(t.Context(), db, table, column); err != nil || p != (lifecycle.Totals{}) {
		t.Fatalf("without a job: %+v, %v", p, err)
	}
	appendAll(t, db, append(ready(), started(jobA, 100), checkpoint(jobA, 40), of(lifecycle.KindJobCancelled, jobA))...)
	events := appendAll(t, db, started(jobB, 60), checkpoint(jobB, 5), of(lifecycle.KindRowQuarantined, jobB), checkpoint(jobB, 6), started(jobB, 50))
	p, err := lifecycle.Progress(t.Context(), db, table, column)
	if err != nil || !p.Started.Equal(events[0].At) || !p.Last.Equal(events[3].At) {
		t.Fatalf("from %s to %s, %v", p.Started, p.Last, err)
	}
	p.Started, p.Last = time.Time{}, time.Time{}
	if want := (lifecycle.Totals{Job: jobB, Rows: 11, Skipped: 2, Total: 50, Checkpoints: 2, Quarantined: 1}); p != want {
		t.Errorf("got %+v, want %+v", p, want)
	}
}

func TestHistoryStopsWhenTheReaderDoes(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	appendAll(t, db, append(ready(), started(jobA, 1))...)
	for e, err := range lifecycle.History(t.Context(), db, table, column) {
		if err != nil || e.Kind != lifecycle.KindSchemaAdded {
			t.Fatal(e, err)
		}
		break
	}
}

// The event with the lower id commits later: a reader that only remembered the greatest id would never see it. Which
// transaction is the older one must not matter.
func TestSinceWaitsForTheLowerID(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	var at lifecycle.Position
	for i := range 20 {
		want := crossed(t, db, i%2 == 0, func() {
			events, next, err := lifecycle.Since(t.Context(), db.DB, at, 10)
			if err != nil || len(events) != 0 {
				t.Fatalf("round %d: %d events were read past an open transaction, %v", i, len(events), err)
			}
			at = next
		})
		var events []lifecycle.Event
		testenv.Eventually(t, time.Minute, func() (err error) { // other tests' transactions are open, too
			if events, at, err = lifecycle.Since(t.Context(), db.DB, at, 10); err == nil && len(events) == 0 {
				return errors.New("no event yet")
			}
			return err
		})
		if len(events) != 2 || events[0].ID != want[0] || events[1].ID != want[1] {
			t.Fatalf("round %d: read %v, want %v", i, events, want)
		}
	}
}

// crossed appends an event, and another in a second transaction that commits first; between the commits it calls look.
// It returns their ids.
func crossed(t *testing.T, db *testenv.DB, olderHoldsLower bool, look func()) (ids [2]int64) {
	t.Helper()
	log := lifecycle.Log{}
	transactions := [2]pg.Tx{}
	for _, i := range map[bool][2]int{true: {0, 1}, false: {1, 0}}[olderHoldsLower] {
		tx, err := db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		testenv.One[string](t, tx, "SELECT pg_current_xact_id()::text")
		transactions[i] = tx
	}
	for i, tx := range transactions {
		e, err := log.Append(t.Context(), tx, full())
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = e.ID
	}
	if err := transactions[1].Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	look()
	if err := transactions[0].Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestSinceHandsOutEveryEventOnceInOrder(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	const writers, each = 5, 40
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() { writeSome(t, db, rand.New(rand.NewPCG(uint64(w), 2)), each) })
	}
	var got []int64
	var at lifecycle.Position
	testenv.Eventually(t, time.Minute, func() error {
		events, next, err := lifecycle.Since(t.Context(), db.DB, at, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			got = append(got, e.ID)
		}
		if at = next; len(got) < testenv.One[int](t, db, "SELECT count(*) FROM cipherfleet.events") || len(got) < writers {
			return fmt.Errorf("%d read, at %+v", len(got), at)
		}
		all.Wait()
		if len(got) < testenv.One[int](t, db, "SELECT count(*) FROM cipherfleet.events") {
			return fmt.Errorf("%d read, at %+v", len(got), at)
		}
		return nil
	})
	if want := testenv.Column[int64](t, db, "SELECT id FROM cipherfleet.events ORDER BY id"); !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
}

// writeSome appends events in transactions of several, some of which roll back, and some of which do something first.
func writeSome(t *testing.T, db *testenv.DB, r *rand.Rand, n int) {
	log := lifecycle.Log{}
	rollBack := errors.New("roll back")
	for range n {
		err := db.InTx(t.Context(), func(tx pg.Tx) error {
			for range 1 + r.IntN(3) {
				if _, err := log.Append(t.Context(), tx, full()); err != nil {
					return err
				}
				if _, err := tx.Exec(t.Context(), "SELECT pg_sleep($1)", r.Float64()/200); err != nil {
					return err
				}
			}
			if r.IntN(4) == 0 {
				return rollBack
			}
			return nil
		})
		if err != nil && !errors.Is(err, rollBack) {
			t.Error(err)
		}
	}
}
