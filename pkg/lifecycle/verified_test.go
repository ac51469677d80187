package lifecycle_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// looked is a verification with this detail.
func looked(detail string) lifecycle.Event {
	return lifecycle.Event{Kind: lifecycle.KindVerified, Phase: lifecycle.PhaseBackfilled, Detail: json.RawMessage(detail)}
}

// A sample is no proof, but what it finds counts against one.
func TestASampleIsNoProof(t *testing.T) {
	t.Parallel()
	const full, sample, failed = `{"proven": true, "began": "1970-01-01T00:00:05.5Z"}`, `{"proven": true, "sample": 5}`, `{"proven": false, "sample": 0.1}`
	fifth, sixth := time.Unix(5, 500e6).UTC(), time.Unix(6, 0).UTC()
	for name, tc := range map[string]struct {
		details  []string
		verified time.Time
		from     time.Time
		proven   bool
	}{
		"full":                       {[]string{full}, sixth, fifth, true},
		"sample":                     {[]string{sample}, time.Time{}, time.Time{}, false},
		"sample after full":          {[]string{full, sample}, sixth, fifth, true},
		"failed sample after full":   {[]string{full, failed}, time.Time{}, fifth, true},
		"full that failed":           {[]string{`{"proven": false, "began": "1970-01-01T00:00:05.5Z"}`}, sixth, fifth, false},
		"full without its beginning": {[]string{`{"proven": true}`}, sixth, sixth, true},
	} {
		events := append(ready(), started(jobA, 1), checkpoint(jobA, 1), backfilled(jobA))
		for _, detail := range tc.details {
			events = append(events, looked(detail))
		}
		s, err := lifecycle.Fold(history(events...))
		if err != nil || !s.Verified.Equal(tc.verified) || !s.VerifiedFrom.Equal(tc.from) || s.Proven != tc.proven {
			t.Errorf("%s: verified %s from %s, proven %t, %v", name, s.Verified, s.VerifiedFrom, s.Proven, err)
		}
	}
	if s, err := lifecycle.Fold(history(append(ready(), looked(`[1]`))...)); !errors.Is(err, lifecycle.ErrImpossible) || !s.Verified.IsZero() {
		t.Errorf("a detail that cannot be read: %+v, %v", s, err)
	}
}

// startedComparing begins a run that opens and compares each cell it writes.
func startedComparing(job string) lifecycle.Event {
	e := started(job, 1)
	e.Detail = json.RawMessage(`{"compared": true}`)
	return e
}

// TestSweepsLeaveAVerificationSound: see [lifecycle.State.Sound] for the reason.
func TestSweepsLeaveAVerificationSound(t *testing.T) {
	t.Parallel()
	began := func(second int64, detail string) lifecycle.Event {
		at, _ := json.Marshal(time.Unix(second, 500e6).UTC())
		return looked(`{` + detail + `, "began": ` + string(at) + `}`)
	}
	const proven, noneWrong, wrong = `"proven": true`, `"proven": false, "none_wrong": true`, `"proven": false`
	first := append(ready(), startedComparing(jobA), checkpoint(jobA, 1), backfilled(jobA)) // five events: backfilled at second 5
	sweep := []lifecycle.Event{startedComparing(jobA), checkpoint(jobA, 1), backfilled(jobA)}
	other := []lifecycle.Event{startedComparing(jobB), checkpoint(jobB, 1), backfilled(jobB)}
	blind := []lifecycle.Event{started(jobA, 1), checkpoint(jobA, 1), backfilled(jobA)}
	failing := []lifecycle.Event{startedComparing(jobA), of(lifecycle.KindError, jobA), startedComparing(jobB), backfilled(jobB)}
	capture := []lifecycle.Event{ready()[1], startedComparing(jobA), backfilled(jobA)}
	byHand := []lifecycle.Event{reach(lifecycle.KindAdvanced, lifecycle.PhaseBackfilled)}
	back := []lifecycle.Event{reach(lifecycle.KindCutOver, lifecycle.PhaseCutOver), reach(lifecycle.KindRolledBack, lifecycle.PhaseBackfilled)}
	sample := []lifecycle.Event{looked(`{"sample": 5, "proven": false}`)}
	harmless := []lifecycle.Event{looked(`{"sample": 5, "proven": false, "none_wrong": true}`)}
	for name, tc := range map[string]struct {
		then [][]lifecycle.Event
		want bool
	}{
		"proven":                                {[][]lifecycle.Event{{began(5, proven)}}, true},
		"rows without cells":                    {[][]lifecycle.Event{{began(5, noneWrong)}}, true},
		"cells that are wrong":                  {[][]lifecycle.Event{{began(5, wrong)}}, false},
		"begun before the end of the backfill":  {[][]lifecycle.Event{{began(4, proven)}}, false},
		"swept since":                           {[][]lifecycle.Event{{began(5, proven)}, sweep}, true},
		"swept twice since":                     {[][]lifecycle.Event{{began(5, proven)}, sweep, sweep}, true},
		"swept by another job":                  {[][]lifecycle.Event{{began(5, proven)}, other}, true},
		"swept meanwhile":                       {[][]lifecycle.Event{sweep, {began(5, noneWrong)}}, true},
		"a sweep under way":                     {[][]lifecycle.Event{{began(5, proven)}, sweep[:2]}, true},
		"a sweep that failed, and another":      {[][]lifecycle.Event{{began(5, proven)}, failing}, true},
		"a run that compares nothing":           {[][]lifecycle.Event{{began(5, proven)}, blind}, false},
		"nothing compared, and swept":           {[][]lifecycle.Event{{began(5, proven)}, blind, sweep}, false},
		"nothing compared, and verified since":  {[][]lifecycle.Event{blind, {began(8, proven)}}, true},
		"nothing compared after it began":       {[][]lifecycle.Event{blind, {began(7, proven)}}, false},
		"capture made anew":                     {[][]lifecycle.Event{{began(5, proven)}, capture}, false},
		"capture made anew after it began":      {[][]lifecycle.Event{capture, {began(7, proven)}}, false},
		"a phase set by hand":                   {[][]lifecycle.Event{{began(5, proven)}, byHand}, false},
		"set by hand, and verified":             {[][]lifecycle.Event{byHand, {began(6, proven)}}, true},
		"set by hand after it began":            {[][]lifecycle.Event{byHand, {began(5, proven)}}, false},
		"rolled back":                           {[][]lifecycle.Event{{began(5, proven)}, back}, false},
		"rolled back after it began":            {[][]lifecycle.Event{back, {began(6, proven)}}, false},
		"a sample that found something":         {[][]lifecycle.Event{{began(5, proven)}, sample}, false},
		"a sample that found rows without cell": {[][]lifecycle.Event{{began(5, proven)}, harmless}, true},
	} {
		events := first[:5:5]
		for _, then := range tc.then {
			events = append(events, then...)
		}
		s, err := lifecycle.Fold(history(append([]lifecycle.Event{}, events...)...))
		if err != nil || s.Sound() != tc.want {
			t.Errorf("%s: sound = %t, want %t: %+v, %v", name, s.Sound(), tc.want, s, err)
		}
	}
}
