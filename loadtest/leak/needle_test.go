package leak

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// needle is something that must not be found, in every form in which it could be written down.
type needle struct {
	name  string
	forms [][]byte
}

// newNeedle knows a secret raw, in hexadecimal digits, in both alphabets of base64 wherever in the encoded text it
// stands, percent-encoded, as numbers, which is how Go prints bytes and JSON has arrays of them, as Go quotes text, and as
// Postgres escapes bytes.
func newNeedle(name string, secret []byte) needle {
	forms := [][]byte{secret, []byte(hex.EncodeToString(secret)), []byte(strings.ToUpper(hex.EncodeToString(secret))), []byte(url.QueryEscape(string(secret)))}
	numbers := strings.Trim(fmt.Sprint(secret), "[]")
	forms = append(forms, []byte(numbers), []byte(strings.ReplaceAll(numbers, " ", ",")), fmt.Appendf(nil, "% x", secret), []byte(inner(fmt.Sprintf("%#v", secret), "{}")))
	forms = append(forms, []byte(inner(strconv.Quote(string(secret)), `""`)), []byte(inner(strconv.QuoteToASCII(string(secret)), `""`)), escaped(secret))
	for skip := range 3 { // the rest begins where three bytes become four letters
		whole := secret[skip : skip+(len(secret)-skip)/3*3]
		forms = append(forms, []byte(base64.StdEncoding.EncodeToString(whole)), []byte(base64.URLEncoding.EncodeToString(whole)))
	}
	return needle{name, forms}
}

// inner is what stands between the first and the last of two marks.
func inner(text, marks string) string {
	return text[strings.IndexByte(text, marks[0])+1 : strings.LastIndexByte(text, marks[1])]
}

// escaped is how Postgres prints bytes where bytea_output is escape.
func escaped(secret []byte) (text []byte) {
	for _, b := range secret {
		if b < ' ' || b > '~' {
			text = fmt.Appendf(text, `\%03o`, b)
			continue
		}
		text = append(text, b)
	}
	return text
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
		"%q": fmt.Sprintf("%q", "é"+string(secret)), "%+q": fmt.Sprintf("%+q", string(secret)), "%#v": fmt.Sprintf("%#v", append([]byte{1}, secret...)), "% x": fmt.Sprintf("% x", secret),
		"an array of JSON": "[1," + strings.Join(strings.Fields(strings.Trim(fmt.Sprint(secret), "[]")), ",") + "]", "escape": `a\365\301\000\000\000\007secret of a row`,
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
