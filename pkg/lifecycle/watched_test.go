package lifecycle_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// TestCellsOfAnUnwatchedTimeAreUncompared: a job learns from the log alone that cells are there from a time in which
// nothing noticed what missed them.
func TestCellsOfAnUnwatchedTimeAreUncompared(t *testing.T) {
	t.Parallel()
	detailed := func(e lifecycle.Event, detail string) lifecycle.Event {
		e.Detail = json.RawMessage(detail)
		return e
	}
	began := func(second int64, outcome string) lifecycle.Event {
		at, _ := json.Marshal(time.Unix(second, 500e6).UTC())
		return looked(`{` + outcome + `, "began": ` + string(at) + `}`)
	}
	capture, full := ready()[1], detailed(started(jobB, 1), `{"compared": true, "existing": true}`)
	first := append(ready(), startedComparing(jobA), checkpoint(jobA, 1), backfilled(jobA)) // five events
	back := reach(lifecycle.KindRolledBack, lifecycle.PhaseSchemaAdded)
	again := []lifecycle.Event{back, capture} // seven
	over := []lifecycle.Event{reach(lifecycle.KindCutOver, lifecycle.PhaseCutOver), reach(lifecycle.KindRolledBack, lifecycle.PhaseBackfilled)}
	for name, tc := range map[string]struct {
		then [][]lifecycle.Event
		want bool
	}{
		"a first backfill":                          {nil, false},
		"rolled back":                               {[][]lifecycle.Event{{back}}, false},
		"and watched again":                         {[][]lifecycle.Event{again}, true},
		"capture made anew":                         {[][]lifecycle.Event{{capture}}, true},
		"a cutover taken back":                      {[][]lifecycle.Event{over}, true},
		"its target was dropped":                    {[][]lifecycle.Event{{detailed(back, `{"drop_target": true}`), capture}}, false},
		"a sweep of the job from before":            {[][]lifecycle.Event{again, {startedComparing(jobA), backfilled(jobA)}}, true},
		"a job that compares them":                  {[][]lifecycle.Event{again, {full}}, true},
		"and is done":                               {[][]lifecycle.Event{again, {full, backfilled(jobB)}}, false},
		"and failed, and is followed by another":    {[][]lifecycle.Event{again, {full, of(lifecycle.KindError, jobB), startedComparing(jobA), backfilled(jobA)}}, true},
		"capture goes again":                        {[][]lifecycle.Event{again, {full, backfilled(jobB)}, again}, true},
		"a verification that finds none wrong":      {[][]lifecycle.Event{again, {began(7, `"none_wrong": true`)}}, false},
		"one that finds some":                       {[][]lifecycle.Event{again, {began(7, `"none_wrong": false`)}}, true},
		"one that began before":                     {[][]lifecycle.Event{again, {began(6, `"proven": true`)}}, true},
		"one that found some, and a sweep after it": {[][]lifecycle.Event{{began(5, `"none_wrong": false`)}, {startedComparing(jobA), backfilled(jobA)}}, true},
		"and a job that compares":                   {[][]lifecycle.Event{{began(5, `"none_wrong": false`)}, {full, backfilled(jobB)}}, false},
		"a sample that found some":                  {[][]lifecycle.Event{{looked(`{"proven": false, "sample": 5}`)}}, true},
		"a sample":                                  {[][]lifecycle.Event{again, {looked(`{"proven": true, "sample": 5}`)}}, true},
		"a phase set by hand":                       {[][]lifecycle.Event{again, {reach(lifecycle.KindAdvanced, lifecycle.PhaseBackfilled)}}, true},
	} {
		events := first
		for _, more := range tc.then {
			events = append(events[:len(events):len(events)], more...)
		}
		if s, err := lifecycle.Fold(history(events...)); err != nil || s.Uncompared != tc.want {
			t.Errorf("%s: uncompared %t, want %t, %v", name, s.Uncompared, tc.want, err)
		}
	}
}
