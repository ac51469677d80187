package lifecycle_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

const (
	table, column = "public.users", "email"
	jobA, jobB    = "0190a000-0000-7000-8000-00000000000a", "0190a000-0000-7000-8000-00000000000b"
)

// history numbers events from 1, one second apart, and gives them table and column.
func history(events ...lifecycle.Event) []lifecycle.Event {
	for i := range events {
		events[i].ID, events[i].Table, events[i].Column = int64(i+1), table, column
		events[i].At = time.Unix(int64(i+1), 0).UTC()
	}
	return events
}

func ready() []lifecycle.Event {
	return []lifecycle.Event{reach(lifecycle.KindSchemaAdded, lifecycle.PhaseSchemaAdded), reach(lifecycle.KindDualWriting, lifecycle.PhaseDualWriting)}
}

func reach(kind lifecycle.Kind, phase lifecycle.Phase) lifecycle.Event {
	return lifecycle.Event{Kind: kind, Phase: phase}
}

func started(job string, total int64) lifecycle.Event {
	return lifecycle.Event{Kind: lifecycle.KindBackfillStarted, Phase: lifecycle.PhaseBackfilling, Job: job, Total: total}
}

func checkpoint(job string, rows int64) lifecycle.Event {
	return lifecycle.Event{Kind: lifecycle.KindCheckpoint, Phase: lifecycle.PhaseBackfilling, Job: job, Range: "1", Rows: rows, Skipped: 1, Cursor: "c"}
}

func backfilled(job string) lifecycle.Event {
	return lifecycle.Event{Kind: lifecycle.KindBackfilled, Phase: lifecycle.PhaseBackfilled, Job: job}
}

func of(kind lifecycle.Kind, job string) lifecycle.Event {
	return lifecycle.Event{Kind: kind, Phase: lifecycle.PhaseBackfilling, Job: job}
}

func TestAWholeLife(t *testing.T) {
	t.Parallel()
	events := history(append(ready(), started(jobA, 100), checkpoint(jobA, 40), of(lifecycle.KindRangeSplit, jobA), of(lifecycle.KindRowQuarantined, jobA),
		of(lifecycle.KindJobPaused, jobA), checkpoint(jobA, 10), of(lifecycle.KindJobResumed, jobA), checkpoint(jobA, 50), backfilled(jobA),
		reach(lifecycle.KindVerified, lifecycle.PhaseBackfilled), reach(lifecycle.KindCutOver, lifecycle.PhaseCutOver),
		reach(lifecycle.KindRolledBack, lifecycle.PhaseBackfilled), reach(lifecycle.KindCutOver, lifecycle.PhaseCutOver), reach(lifecycle.KindDropped, lifecycle.PhaseDropped))...)
	got, err := lifecycle.Fold(events)
	if err != nil {
		t.Fatal(err)
	}
	want := lifecycle.State{Table: table, Column: column, Phase: lifecycle.PhaseDropped, Last: 16, At: time.Unix(16, 0).UTC(), VerifiedFrom: time.Unix(12, 0).UTC(), Backfilled: time.Unix(14, 0).UTC(),
		Watched: time.Unix(14, 0).UTC(), Uncompared: true,
		Run: lifecycle.Run{Job: jobA, State: lifecycle.RunDone, Rows: 100, Skipped: 3, Total: 100, Quarantined: 1, Cursor: "c", Started: time.Unix(3, 0).UTC(), Ended: time.Unix(11, 0).UTC()}}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestWhatUndoesAVerification(t *testing.T) {
	t.Parallel()
	verified := append(ready(), started(jobA, 1), backfilled(jobA), reach(lifecycle.KindVerified, lifecycle.PhaseBackfilled))
	for e, want := range map[lifecycle.Kind]bool{lifecycle.KindCutOver: false, lifecycle.KindDualWriting: true, lifecycle.KindBackfillStarted: true} {
		next := map[lifecycle.Kind]lifecycle.Event{lifecycle.KindCutOver: reach(e, lifecycle.PhaseCutOver), lifecycle.KindDualWriting: ready()[1], lifecycle.KindBackfillStarted: started(jobA, 1)}[e]
		s, err := lifecycle.Fold(history(append(verified[:5:5], next)...))
		if err != nil || s.Verified.IsZero() != want {
			t.Errorf("after %s: verified %s, %v", e, s.Verified, err)
		}
	}
	s, err := lifecycle.Fold(history(append(verified[:5:5], reach(lifecycle.KindCutOver, lifecycle.PhaseCutOver), reach(lifecycle.KindRolledBack, lifecycle.PhaseBackfilled))...))
	if err != nil || !s.Verified.IsZero() {
		t.Errorf("after a rollback: verified %s, %v", s.Verified, err)
	}
}

func TestOrderOfEvents(t *testing.T) {
	t.Parallel()
	running := append(ready(), started(jobA, 9))
	done := append(running[:3:3], checkpoint(jobA, 9), backfilled(jobA))
	cut := append(done[:5:5], reach(lifecycle.KindCutOver, lifecycle.PhaseCutOver))
	staying := func(e lifecycle.Event, phase lifecycle.Phase) lifecycle.Event {
		e.Phase = phase
		return e
	}
	gone := append(cut[:6:6], reach(lifecycle.KindDropped, lifecycle.PhaseDropped))
	rotating := append(gone[:7:7], staying(started(jobB, 9), lifecycle.PhaseDropped))
	for name, tc := range map[string]struct {
		before []lifecycle.Event
		e      lifecycle.Event
		ok     bool
	}{
		"started before dual writing":            {ready()[:1], started(jobA, 9), false},
		"started from nothing":                   {nil, started(jobA, 9), false},
		"checkpoint before start":                {ready(), checkpoint(jobA, 1), false},
		"checkpoint of another job":              {running, checkpoint(jobB, 1), false},
		"checkpoint in its run":                  {running, checkpoint(jobA, 1), true},
		"checkpoint after backfilled":            {done, checkpoint(jobA, 1), false},
		"checkpoint after cancel":                {append(running[:3:3], of(lifecycle.KindJobCancelled, jobA)), checkpoint(jobA, 1), false},
		"checkpoint after pause":                 {append(running[:3:3], of(lifecycle.KindJobPaused, jobA)), checkpoint(jobA, 1), true},
		"checkpoint after an error":              {append(running[:3:3], of(lifecycle.KindError, jobA)), checkpoint(jobA, 1), true},
		"checkpoint after capture was made anew": {append(running[:3:3], of(lifecycle.KindError, jobA), ready()[1]), checkpoint(jobA, 1), false},
		"backfilled before start":                {ready(), backfilled(jobA), false},
		"backfilled without a checkpoint":        {running, backfilled(jobA), true},
		"backfilled twice":                       {done, backfilled(jobA), false},
		"the same job starts again":              {running, started(jobA, 9), true},
		"another job starts meanwhile":           {running, started(jobB, 9), false},
		"another job starts after an error":      {append(running[:3:3], of(lifecycle.KindError, jobA)), started(jobB, 9), true},
		"another job starts after cancel":        {append(running[:3:3], of(lifecycle.KindJobCancelled, jobA)), started(jobB, 9), true},
		"a sweep after backfilled":               {done, started(jobA, 9), true},
		"a start after the cut-over":             {cut, started(jobA, 9), false},
		"a rotation after the drop":              {gone, staying(started(jobB, 9), lifecycle.PhaseDropped), true},
		"a rotation that names another phase":    {gone, staying(started(jobB, 9), lifecycle.PhaseCutOver), false},
		"a rotation of a column without capture": {ready()[:1], staying(started(jobB, 9), lifecycle.PhaseSchemaAdded), false},
		"a rotation's checkpoint":                {rotating, staying(checkpoint(jobB, 9), lifecycle.PhaseDropped), true},
		"another checkpoint in a rotation":       {rotating, checkpoint(jobB, 9), false},
		"the end of a rotation":                  {rotating, staying(backfilled(jobB), lifecycle.PhaseDropped), true},
		"another end of a rotation":              {rotating, backfilled(jobB), false},
		"dual writing during a run":              {running, ready()[1], false},
		"dual writing from nothing":              {nil, ready()[1], true},
		"dual writing after the cut-over":        {cut, ready()[1], false},
		"cut-over of a running column":           {running, reach(lifecycle.KindCutOver, lifecycle.PhaseCutOver), false},
		"cut-over with another phase":            {done, reach(lifecycle.KindCutOver, lifecycle.PhaseBackfilled), false},
		"drop before the cut-over":               {done, reach(lifecycle.KindDropped, lifecycle.PhaseDropped), false},
		"drop after the cut-over":                {cut, reach(lifecycle.KindDropped, lifecycle.PhaseDropped), true},
		"rollback before the cut-over":           {done, reach(lifecycle.KindRolledBack, lifecycle.PhaseBackfilled), false},
		"pause without a run":                    {ready(), of(lifecycle.KindJobPaused, jobA), false},
		"cancel before the start":                {ready(), of(lifecycle.KindJobCancelled, jobA), true},
		"cancel of another job":                  {running, of(lifecycle.KindJobCancelled, jobB), false},
		"verified from nothing":                  {nil, reach(lifecycle.KindVerified, lifecycle.PhaseBackfilled), false},
		"an error at any time":                   {nil, reach(lifecycle.KindError, lifecycle.PhaseSchemaAdded), true},
		"a kind nobody knows":                    {running, lifecycle.Event{Kind: "x", Phase: lifecycle.PhaseBackfilling}, false},
		"a phase nobody knows":                   {running, lifecycle.Event{Kind: lifecycle.KindError, Phase: "x"}, false},
		"negative rows":                          {running, checkpoint(jobA, -1), false},
		"too many rows":                          {append(running[:3:3], checkpoint(jobA, math.MaxInt64)), checkpoint(jobA, 1), false},
		"too many skipped": {append(running[:3:3], checkpoint(jobA, 0)),
			lifecycle.Event{Kind: lifecycle.KindCheckpoint, Phase: lifecycle.PhaseBackfilling, Job: jobA, Skipped: math.MaxInt64}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := history(append(append([]lifecycle.Event{}, tc.before...), tc.e)...)
			before, err := lifecycle.Fold(all[:len(all)-1])
			if err != nil {
				t.Fatal(err)
			}
			after, err := before.Apply(all[len(all)-1])
			if (err == nil) != tc.ok || err != nil && (!errors.Is(err, lifecycle.ErrImpossible) || after != before) {
				t.Errorf("err = %v, want ok = %t; an impossible event changed the state: %t", err, tc.ok, after != before)
			}
		})
	}
}

func TestEventsOfAnotherColumnAreImpossible(t *testing.T) {
	t.Parallel()
	s, _ := lifecycle.Fold(history(ready()...))
	for _, e := range []lifecycle.Event{{Table: "public.other", Column: column}, {Table: table, Column: "other"}, {}} {
		e.ID, e.Kind, e.Phase = 3, lifecycle.KindError, lifecycle.PhaseBackfilling
		if after, err := s.Apply(e); !errors.Is(err, lifecycle.ErrImpossible) || after != s {
			t.Errorf("%s %s was folded in: %v", e.Table, e.Column, err)
		}
	}
	if _, err := (lifecycle.State{}).Apply(lifecycle.Event{Table: table, Column: column, Kind: lifecycle.KindError, Phase: lifecycle.PhaseBackfilling}); !errors.Is(err, lifecycle.ErrImpossible) {
		t.Errorf("an event without id was folded in: %v", err)
	}
}

func TestFoldLeavesOutWhatIsImpossible(t *testing.T) {
	t.Parallel()
	events := history(append(ready(), checkpoint(jobA, 1), started(jobA, 9), backfilled(jobB), checkpoint(jobA, 2))...)
	s, err := lifecycle.Fold(events)
	if !errors.Is(err, lifecycle.ErrImpossible) || s.Run.Rows != 2 || s.Last != 6 {
		t.Errorf("folded to %+v, %v", s, err)
	}
}

// FuzzFold feeds any bytes as a history: it must never panic, whatever prefix is folded, and folding
// twice must be folding once.
func FuzzFold(f *testing.F) {
	for _, seed := range [][]lifecycle.Event{ready(), append(ready(), started(jobA, 9), checkpoint(jobA, 3), of(lifecycle.KindError, jobA), ready()[1], started(jobB, 1), backfilled(jobB)),
		append(ready(), started(jobA, 9), of(lifecycle.KindJobPaused, jobA), checkpoint(jobA, math.MaxInt64), checkpoint(jobA, 1), of(lifecycle.KindJobCancelled, jobA))} {
		bytes, err := json.Marshal(history(seed...))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes)
	}
	f.Add([]byte(`[{"ID":-1},{"ID":9223372036854775807,"Kind":"verified"},{}]`))
	f.Fuzz(func(t *testing.T, bytes []byte) {
		var events []lifecycle.Event
		if json.Unmarshal(bytes, &events) != nil {
			return
		}
		folds(t, events)
	})
}

// Random histories of real kinds go deeper than bytes do.
func TestAnyHistoryFolds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		folds(t, randomHistory(rand.New(rand.NewPCG(seed, 1)), 25))
	}
}

func randomHistory(r *rand.Rand, n int) []lifecycle.Event {
	kinds := []lifecycle.Kind{lifecycle.KindSchemaAdded, lifecycle.KindDualWriting, lifecycle.KindBackfillStarted, lifecycle.KindCheckpoint, lifecycle.KindCheckpoint, lifecycle.KindCheckpoint, lifecycle.KindBackfilled, lifecycle.KindCutOver, lifecycle.KindDropped,
		lifecycle.KindError, lifecycle.KindRangeSplit, lifecycle.KindRowQuarantined, lifecycle.KindJobPaused, lifecycle.KindJobResumed, lifecycle.KindJobCancelled, lifecycle.KindVerified, lifecycle.KindRolledBack, "?"}
	natural := map[lifecycle.Kind]lifecycle.Phase{lifecycle.KindSchemaAdded: lifecycle.PhaseSchemaAdded, lifecycle.KindDualWriting: lifecycle.PhaseDualWriting, lifecycle.KindBackfilled: lifecycle.PhaseBackfilled, lifecycle.KindCutOver: lifecycle.PhaseCutOver,
		lifecycle.KindDropped: lifecycle.PhaseDropped, lifecycle.KindRolledBack: lifecycle.PhaseBackfilled}
	events := make([]lifecycle.Event, n)
	for i := range events {
		e := &events[i]
		*e = lifecycle.Event{ID: int64(1 + r.IntN(n)), Table: table, Column: column, Kind: kinds[r.IntN(len(kinds))], Rows: r.Int64N(100), Total: r.Int64N(9), At: time.Unix(r.Int64N(99), 0)}
		e.Job = []string{jobA, jobA, jobA, jobB, ""}[r.IntN(5)]
		if e.Phase = natural[e.Kind]; e.Phase == "" || r.IntN(20) == 0 {
			e.Phase = lifecycle.PhaseBackfilling
		}
		if r.IntN(30) == 0 {
			e.Rows = math.MaxInt64
		}
	}
	return events
}

func folds(t *testing.T, events []lifecycle.Event) {
	t.Helper()
	for i := range events {
		once, _ := lifecycle.Fold(events[:i+1])
		if again, _ := once.Fold(events[:i+1]); again != once {
			t.Fatalf("folding twice gave\n%+v\nnot\n%+v\nfor %+v", again, once, events[:i+1])
		}
		if doubled, _ := lifecycle.Fold(append(append([]lifecycle.Event{}, events[:i+1]...), events[:i+1]...)); doubled != once {
			t.Fatalf("a doubled history gave\n%+v\nnot\n%+v", doubled, once)
		}
	}
	var s lifecycle.State
	for _, e := range events { // in whatever order they come
		next, err := s.Apply(e)
		if err != nil && !reflect.DeepEqual(next, s) {
			t.Fatalf("an impossible event changed the state: %v", err)
		}
		if again, err := next.Apply(e); err == nil && again != next {
			t.Fatalf("applying event %d twice gave\n%+v\nnot\n%+v", e.ID, again, next)
		}
		s = next
	}
}

// A rotation leaves the column where it stands, in each phase, also when its first run had not ended.
func TestARotationLeavesThePhase(t *testing.T) {
	t.Parallel()
	before := map[lifecycle.Phase][]lifecycle.Event{
		lifecycle.PhaseDualWriting: ready(),
		lifecycle.PhaseBackfilling: append(ready(), started(jobA, 9), of(lifecycle.KindJobCancelled, jobA)),
		lifecycle.PhaseBackfilled:  append(ready(), started(jobA, 9), backfilled(jobA)),
		lifecycle.PhaseCutOver:     append(ready(), started(jobA, 9), backfilled(jobA), reach(lifecycle.KindCutOver, lifecycle.PhaseCutOver)),
		lifecycle.PhaseDropped:     append(ready(), started(jobA, 9), backfilled(jobA), reach(lifecycle.KindCutOver, lifecycle.PhaseCutOver), reach(lifecycle.KindDropped, lifecycle.PhaseDropped)),
	}
	for phase, events := range before {
		for _, e := range []lifecycle.Event{started(jobB, 9), checkpoint(jobB, 4), backfilled(jobB)} {
			e.Phase = phase
			events = append(events, e)
		}
		s, err := lifecycle.Fold(history(events...))
		if err != nil || s.Phase != phase || s.Run.Job != jobB || s.Run.State != lifecycle.RunDone || s.Run.Rows != 4 {
			t.Errorf("a rotation in %s leads to %+v, %v", phase, s, err)
		}
	}
}
