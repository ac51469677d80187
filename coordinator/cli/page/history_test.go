package page_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

func TestRowsThatWereSetAsideAreOneLine(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := page.History(&out, status.History{Table: "public.users", Column: "email", Events: []status.Entry{
		{Kind: lifecycle.KindRowQuarantined, Quarantined: 200}, {Kind: lifecycle.KindRowQuarantined, Quarantined: 1}}})
	if err != nil || !strings.Contains(out.String(), "  200 rows set aside ") || !strings.Contains(out.String(), "  row_quarantined ") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestAChangeSaysWhatOfAndWhatItWas(t *testing.T) {
	t.Parallel()
	for detail, want := range map[string]string{
		`{"scheme": 2, "key": 7, "to": "readable"}`:                                                          "scheme 2 is readable",
		`{"scheme": 2, "key": 7, "from": "readable", "to": "active", "reason": "spring"}`:                    "scheme 2 is active; spring",
		`{"scheme": 2, "key": 9, "what": "tenant shredded"}`:                                                 "scheme 2: tenant shredded",
		`{"index": "email_bidx", "generation": 2, "token": "t", "key": 3, "what": "blind index is filling"}`: "email_bidx, generation 2: blind index is filling",
	} {
		var out strings.Builder
		err := page.History(&out, status.History{Table: "public.users", Column: "email", Events: []status.Entry{
			{Kind: lifecycle.KindSchemeChanged, Detail: json.RawMessage(detail)}, {Kind: lifecycle.KindCheckpoint, Checkpoints: 1}}})
		if err != nil || !strings.Contains(out.String(), "  "+want+" ") || !strings.Contains(out.String(), "  1 checkpoint ") {
			t.Errorf("%v\n%s", err, out.String())
		}
	}
}
