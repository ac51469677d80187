package transform_test

import (
	"crypto/fips140"
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// A program of which only approved modes are allowed refuses what would end it. `make fips` runs this there, `make test`
// where everything is allowed.
func TestAReaderIsRefusedWhereItsCiphersMayNotRun(t *testing.T) {
	t.Parallel()
	keys, err := foreign.ParseKeys([]byte(`{"version": 1, "keys": {"old": {"text": "0123456789abcdef0123456789abcdef"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, origin := range []messages.Origin{
		{Format: messages.FormatPGCrypto, Key: "old"},
		{Format: messages.FormatPGP, Key: "old"},
		{Format: messages.FormatAttrEncrypted, Mode: "per_attribute_iv", Key: "old", IV: "iv"},
	} {
		_, err := transform.OpenReader(t.Context(), origin, keys)
		if errors.Is(err, foreign.ErrUnsupported) != fips140.Enforced() || (err == nil) == fips140.Enforced() {
			t.Errorf("%s, only approved modes %v: %v", origin.Format, fips140.Enforced(), err)
		}
	}
}
