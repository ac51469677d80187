package leak

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// needle is something that must not be found, in every form in which it could be written down.
type needle struct {
	name  string
	forms [][]byte
}

// newNeedle knows a secret raw, in hexadecimal digits, in both alphabets of base64 wherever in the encoded text it
// stands, percent-encoded, and as numbers, which is how Go prints bytes.
func newNeedle(name string, secret []byte) needle {
	forms := [][]byte{secret, []byte(hex.EncodeToString(secret)), []byte(strings.ToUpper(hex.EncodeToString(secret))), []byte(url.QueryEscape(string(secret)))}
	forms = append(forms, []byte(strings.Trim(fmt.Sprint(secret), "[]")))
	for skip := range 3 { // the rest begins where three bytes become four letters
		whole := secret[skip : skip+(len(secret)-skip)/3*3]
		forms = append(forms, []byte(base64.StdEncoding.EncodeToString(whole)), []byte(base64.URLEncoding.EncodeToString(whole)))
	}
	return needle{name, forms}
}

// found reports whether any form of the needle is in text.
func (n needle) found(text []byte) bool {
	for _, form := range n.forms {
		if bytes.Contains(text, form) {
			return true
		}
	}
	return false
}

// TestTheNeedleIsFound hides a secret in each of the ways that are looked for.
func TestTheNeedleIsFound(t *testing.T) {
	t.Parallel()
	secret := []byte("\xf5\xc1\x00\x00\x00\x07secret of a row")
	n := newNeedle("secret", secret)
	for name, text := range map[string]string{
		"raw": "x" + string(secret) + "y", "bytea": `\x` + hex.EncodeToString(secret), "upper case": fmt.Sprintf("%X", secret), "%v of bytes": fmt.Sprintf("%v", append([]byte{1}, secret...)),
		"base64": base64.StdEncoding.EncodeToString(secret), "base64 behind one byte": base64.StdEncoding.EncodeToString(append([]byte{1}, secret...)),
		"base64 behind two": base64.RawURLEncoding.EncodeToString(append([]byte{1, 2}, secret...)), "query": url.Values{"a": {string(secret)}}.Encode(),
	} {
		if !n.found([]byte(text)) {
			t.Errorf("%s: not found in %q", name, text)
		}
	}
	if n.found([]byte("\xf5\xc1\x00\x00\x00\x07 something else")) || n.found(nil) {
		t.Error("found where it is not")
	}
}
