package standing_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
)

// TestASwapBackKnowsTypesByTheNamesOfBefore: what is installed under the old names is made for the columns that have them
// then, not for those that have them now.
func TestASwapBackKnowsTypesByTheNamesOfBefore(t *testing.T) {
	t.Parallel()
	const bytea, text = 17, 25
	d := standing.Cutover{Strategy: standing.StrategySwap, PlainName: "email_old", SealedName: "email", PlainWas: "email", SealedWas: "email_text"}
	now := map[string]uint32{"id": 20, "email_old": bytea, "email": text}
	s := d.Swap(ddl.Column{Source: "email_old", Target: "email", Types: now})
	if s.Types["email"] != bytea || s.Types["email_text"] != text || s.Types["id"] != 20 {
		t.Errorf("types are %v", s.Types)
	}
	if now["email"] != text {
		t.Error("the types of the caller were changed")
	}
	forth := d.Swap(ddl.Column{Source: "email", Target: "email_text", Types: map[string]uint32{"email": bytea, "email_text": text}})
	if forth.Types["email"] != bytea || forth.Types["email_text"] != text {
		t.Errorf("on the way there types are %v", forth.Types)
	}
}
