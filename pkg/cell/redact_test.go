package cell_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// TestSecretsNeverPrint shows everything that holds a key or a value to every way of printing.
func TestSecretsNeverPrint(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789ABCDEFfedcba9876543210")
	d, err := cell.DEKFromBytes(key)
	if err != nil {
		t.Fatal(err)
	}
	s := scheme()
	k := cell.NewKeyring(registry)
	if err := k.Add(s, d); err != nil {
		t.Fatal(err)
	}
	w, err := k.Sealer(s)
	if err != nil {
		t.Fatal(err)
	}
	x, err := cell.NewXAES(key)
	if err != nil {
		t.Fatal(err)
	}
	a := cell.Address{Column: 7, Key: key}
	if _, err := w.Seal(nil, a, key); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		"DEK": d, "*DEK": &d, "Keyring": k, "Sealer": w, "XAES": x, "Address": a, "*Address": &a,
		"slice": []cell.DEK{d}, "map": map[string]cell.Address{"a": a}, "nested": struct{ D cell.DEK }{d},
	} {
		for how, text := range printed(t, v) {
			if leaks(text, key) {
				t.Errorf("%s by %s: %s", name, how, text)
			}
		}
	}
	for name, v := range map[string]interface {
		fmt.Stringer
		slog.LogValuer
	}{"DEK": d, "Keyring": k, "Sealer": w, "XAES": x, "Address": a} {
		if v.String() != "redacted" || v.LogValue().String() != "redacted" {
			t.Errorf("%s: %s, %s", name, v.String(), v.LogValue())
		}
	}
}

// TestSecretsInHiddenFieldsNeverPrint: fmt calls no method of a hidden field, it walks into it.
func TestSecretsInHiddenFieldsNeverPrint(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789ABCDEFfedcba9876543210")
	d, err := cell.DEKFromBytes(key)
	if err != nil {
		t.Fatal(err)
	}
	k := cell.NewKeyring(registry)
	if err := k.Add(scheme(), d); err != nil {
		t.Fatal(err)
	}
	w, err := k.Sealer(scheme())
	if err != nil {
		t.Fatal(err)
	}
	x, err := cell.NewXAES(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Seal(nil, row(1), key); err != nil {
		t.Fatal(err)
	}
	type hidden struct {
		d cell.DEK
		p *cell.DEK
		k *cell.Keyring
		w *cell.Sealer
		x *cell.XAES
	}
	long, err := cell.DEKFromBytes(append(bytes.Clone(key), key...))
	if err != nil {
		t.Fatal(err)
	}
	det := cell.NewKeyring(registry)
	if err := det.Add(deterministic(), long); err != nil {
		t.Fatal(err)
	}
	sealer, err := det.Sealer(deterministic())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sealer.Seal(nil, row(1), key); err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]hidden{
		"DEK": {d: d}, "*DEK": {p: &d}, "Keyring": {k: k}, "Sealer": {w: w}, "XAES": {x: x},
		"long DEK": {d: long}, "deterministic Keyring": {k: det}, "deterministic Sealer": {w: sealer},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b"} {
			for _, v := range []any{h, &h, []hidden{h}} {
				text := fmt.Sprintf(verb, v)
				if leaks(text, key) || len(text) > 1500 {
					t.Errorf("%s by %s: %s", name, verb, text)
				}
			}
		}
	}
}

func printed(t *testing.T, v any) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U"} {
		out[verb] = fmt.Sprintf(verb, v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out["json"] = string(b)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
	out["slog"] = log.String()
	out["error"] = fmt.Errorf("it was %v", v).Error()
	return out
}

// leaks looks for a part of the key in the forms in which bytes are printed.
func leaks(text string, key []byte) bool {
	quoted, _ := json.Marshal(key[:9])
	decimal := strings.Trim(fmt.Sprint(key[:8]), "[]")
	for _, form := range []string{
		string(key[:8]), hex.EncodeToString(key[:8]), strings.ToUpper(hex.EncodeToString(key[:8])),
		decimal, strings.ReplaceAll(decimal, " ", ", "), strings.Trim(fmt.Sprintf("%#v", key[:8]), "[]byte{}"),
		strings.Trim(string(quoted), `"`), strings.Trim(fmt.Sprintf("%o", key[:8]), "[]"), strings.Trim(fmt.Sprintf("%b", key[:8]), "[]"),
	} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// TestErrorsHoldNoValue provokes the errors that see a value and looks for it.
func TestErrorsHoldNoValue(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-hunter2\x00hunter2"
	s := scheme()
	k := ring(t, s)
	w := sealer(t, s)
	c := seal(t, k, s, row(1), secret)
	var all []error
	note := func(err error) {
		if err == nil {
			t.Error("no error to look at")
			return
		}
		all = append(all, err)
	}
	_, _, err := k.Open(nil, row(2), c)
	note(err)
	_, err = cell.Parse([]byte(strings.Repeat(secret, 5)))
	note(err)
	note(w.OpenAndCompare(row(1), c, []byte("x"+secret)))
	_, err = cell.CodecText.Encode(nil, []byte(secret))
	note(err)
	_, err = cell.CodecInt.Encode(nil, []byte(secret))
	note(err)
	_, err = cell.CodecUUID.Decode(nil, []byte(secret), types["uuid"])
	note(err)
	_, err = cell.AppendKeyNumeric(nil, []byte(secret))
	note(err)
	_, err = encoder(t, "uuid").Append(nil, [][]byte{[]byte(secret)})
	note(err)
	for _, err := range all {
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
}
