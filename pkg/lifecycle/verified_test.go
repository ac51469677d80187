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
