package cli

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/proof"
)

// TestARepeatedNonceIsTold: nobody can make such cells without the key, so only what is said about them is shown here.
func TestARepeatedNonceIsTold(t *testing.T) {
	t.Parallel()
	c := verify.ColumnReport{Column: "email", Source: "email", Report: proof.Report{Rows: 9, Covered: 9, Nonces: proof.Nonces{Cells: 9, Distinct: 8, Exact: true, Repeated: 1}}}
	v := verify.Result{Table: "public.users", Columns: []verify.ColumnReport{c}}
	var text strings.Builder
	if err := page.Verification(&text, v); err != nil || !strings.Contains(text.String(), "NOT PROVEN\n") || !strings.Contains(text.String(), "nonces: 9 cells, 8 different, all were compared; REPEATED 1 times\n") {
		t.Errorf("a person reads %s, %v", text.String(), err)
	}
	if err := unproven(v); !strings.Contains(err.Error(), "1 nonces of email are used twice") || !strings.Contains(verifyHint(v), "trust nothing") {
		t.Errorf("the error is %v, the hint %s", err, verifyHint(v))
	}
}

// TestACellWithoutItsPlaintextIsNotClearedLightly: what is set to NULL then is lost.
func TestACellWithoutItsPlaintextIsNotClearedLightly(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{"email_plaintext": "set the target of those rows to NULL", "": "bring those rows' cells back from a backup"} {
		c := verify.ColumnReport{Column: "email", Source: source, Target: "email", Report: proof.Report{Rows: 9, Covered: 8, Broken: 1}}
		hint := verifyHint(verify.Result{Table: "public.users", Columns: []verify.ColumnReport{c}})
		if !strings.Contains(hint, want) || strings.Contains(hint, "NULL") != (source != "") {
			t.Errorf("with source %q the hint is %s", source, hint)
		}
	}
}
