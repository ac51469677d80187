package cell_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"golang.org/x/text/unicode/norm"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

type knownToken struct {
	Name       string
	Key        string
	Registry   string
	Column     uint32
	Index      uint32
	Normaliser cell.Normaliser
	Length     int
	Plaintext  string
	Message    string
	Token      string
}

func blinder(t testing.TB, i cell.BlindIndex) *cell.Blinder {
	t.Helper()
	b, err := cell.NewBlinder(registry, i, dek(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func index(n cell.Normaliser) cell.BlindIndex {
	return cell.BlindIndex{Column: 7, Number: 5, Normaliser: n, Length: cell.BlindSize}
}

func token(t testing.TB, b *cell.Blinder, plaintext string) string {
	t.Helper()
	got, err := b.Token(nil, []byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(got)
}

// TestKnownTokens also asks stock Tink, whose HMAC PRF reads the message as it stands in the file.
func TestKnownTokens(t *testing.T) {
	t.Parallel()
	for _, raw := range readKnown(t).Tokens {
		v := strict[knownToken](t, raw)
		d, err := cell.DEKFromBytes(unhex(t, v.Key))
		if err != nil {
			t.Fatal(err)
		}
		i := cell.BlindIndex{Column: v.Column, Number: v.Index, Normaliser: v.Normaliser, Length: v.Length}
		b, err := cell.NewBlinder([16]byte(unhex(t, v.Registry)), i, d)
		if err != nil {
			t.Fatal(err)
		}
		if got := token(t, b, string(unhex(t, v.Plaintext))); got != v.Token {
			t.Errorf("%s: %s, want %s", v.Name, got, v.Token)
		}
		stock, err := stockPRF(t, unhex(t, v.Key)).ComputePrimaryPRF(unhex(t, v.Message), uint32(v.Length))
		if err != nil || hex.EncodeToString(stock) != v.Token {
			t.Errorf("%s: Tink makes %x, %v", v.Name, stock, err)
		}
	}
}

func stockPRF(t testing.TB, key []byte) *prf.Set {
	t.Helper()
	parameters, err := hmacprf.NewParameters(len(key), hmacprf.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	k, err := hmacprf.NewKey(secretdata.NewBytesFromData(key, insecuresecretdataaccess.Token{}), parameters)
	if err != nil {
		t.Fatal(err)
	}
	set, err := prf.NewPRFSet(keysetOf(t, k))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestEqualValuesShareATokenAndOthersDoNot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n     cell.Normaliser
		same  []string
		other []string
	}{
		{cell.NormaliseExact, []string{"Alice"}, []string{"alice", "Alice ", ""}},
		{cell.NormaliseLowerTrim, []string{"alice", " ALICE\u00a0", "Alice\n"}, []string{"al ice", "alic\u00e9", ""}},
		{cell.NormaliseLowerTrim, []string{"\u00c5", "A\u030a", "\u212b", "\u00e5"}, []string{"a", "A"}},
		{cell.NormaliseDigits, []string{"+1 (650) 253-0000", "16502530000", "١٦٥٠٢٥٣٠٠٠٠"}, []string{"6502530000", "1650253000", ""}},
		{cell.NormaliseNFC, []string{"e\u0301", "\u00e9"}, []string{"E\u0301", "e", "\u00e9 "}},
		{cell.NormaliseBlank, []string{"ab", "ab  "}, []string{" ab", "ab\t"}},
		{cell.NormaliseNumeric, []string{"1", "1.0", "1.00", "01"}, []string{"10", "-1", "1.01"}},
		{cell.NormaliseFloat8, []string{"\x80\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x00"}, []string{"\x00\x00\x00\x00\x00\x00\x00\x01"}},
	} {
		b := blinder(t, index(c.n))
		seen := map[string]bool{}
		for _, v := range c.same {
			seen[token(t, b, v)] = true
		}
		if len(seen) != 1 {
			t.Errorf("%#02x: %q have %d tokens", uint8(c.n), c.same, len(seen))
		}
		for _, v := range c.other {
			if seen[token(t, b, v)] {
				t.Errorf("%#02x: %q has the token of %q", uint8(c.n), v, c.same[0])
			}
		}
	}
}

// TestTokensOfDifferentIndexesDiffer: nobody can join two columns, two indexes or two installations by their tokens.
func TestTokensOfDifferentIndexesDiffer(t *testing.T) {
	t.Parallel()
	base := index(cell.NormaliseExact)
	change := func(f func(*cell.BlindIndex)) cell.BlindIndex { i := base; f(&i); return i }
	seen := map[string]string{}
	note := func(name string, registry [16]byte, i cell.BlindIndex, key byte) {
		b, err := cell.NewBlinder(registry, i, dek(t, key))
		if err != nil {
			t.Fatal(err)
		}
		got := token(t, b, "value")
		if old, ok := seen[got]; ok {
			t.Errorf("%s has the token of %s", name, old)
		}
		seen[got] = name
	}
	note("base", registry, base, 1)
	note("another key", registry, base, 2)
	note("another registry", [16]byte{1}, base, 1)
	note("another column", registry, change(func(i *cell.BlindIndex) { i.Column++ }), 1)
	note("another number", registry, change(func(i *cell.BlindIndex) { i.Number++ }), 1)
	note("another normaliser", registry, change(func(i *cell.BlindIndex) { i.Normaliser = cell.NormaliseNFC }), 1)
}

func TestNullHasNoTokenAndEmptyHasOne(t *testing.T) {
	t.Parallel()
	b := blinder(t, index(cell.NormaliseLowerTrim))
	if got, err := b.Token([]byte("before"), nil); got != nil || err != nil {
		t.Errorf("NULL: %x, %v", got, err)
	}
	got, err := b.Token([]byte("before"), []byte{})
	if err != nil || len(got) != len("before")+cell.BlindSize || !bytes.HasPrefix(got, []byte("before")) {
		t.Errorf("empty: %x, %v", got, err)
	}
	if b.Index() != index(cell.NormaliseLowerTrim) {
		t.Errorf("index %+v", b.Index())
	}
}

func TestAShortTokenIsTheFrontOfALongOne(t *testing.T) {
	t.Parallel()
	i := index(cell.NormaliseExact)
	i.Length = 32
	whole := token(t, blinder(t, i), "value")
	for n := 1; n <= 32; n++ {
		i.Length = n
		if got := token(t, blinder(t, i), "value"); got != whole[:2*n] {
			t.Errorf("%d bytes: %s of %s", n, got, whole)
		}
		if i.Unique() != (n >= 16) {
			t.Errorf("%d bytes: unique %v", n, i.Unique())
		}
	}
}

func TestAnIndexThatIsNotOfTheFormatIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*cell.BlindIndex){
		"column":     func(i *cell.BlindIndex) { i.Column = 0 },
		"number":     func(i *cell.BlindIndex) { i.Number = 0 },
		"no length":  func(i *cell.BlindIndex) { i.Length = 0 },
		"too long":   func(i *cell.BlindIndex) { i.Length = 33 },
		"negative":   func(i *cell.BlindIndex) { i.Length = -1 },
		"normaliser": func(i *cell.BlindIndex) { i.Normaliser = 0 },
		"beyond nfc": func(i *cell.BlindIndex) { i.Normaliser = 5 },
		"beyond all": func(i *cell.BlindIndex) { i.Normaliser = 0x16 },
	} {
		i := index(cell.NormaliseExact)
		change(&i)
		if _, err := cell.NewBlinder(registry, i, dek(t, 1)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for _, key := range []cell.DEK{{}, dekOf(t, cell.SuiteAES256SIV, 1)} {
		if _, err := cell.NewBlinder(registry, index(cell.NormaliseExact), key); err == nil {
			t.Error("a key of another length was taken")
		}
	}
}

func TestAValueOfAnotherTypeHasNoToken(t *testing.T) {
	t.Parallel()
	for n, v := range map[cell.Normaliser]string{
		cell.NormaliseNumeric: "hunter2", cell.NormaliseFloat4: "hunter2", cell.NormaliseFloat8: "hunter", cell.NormaliseInterval: "hunter2",
		cell.NormaliseLowerTrim: "hunter2\xff", cell.NormaliseDigits: "hunter2\xff", cell.NormaliseNFC: "hunter2\xff",
	} {
		got, err := blinder(t, index(n)).Token(nil, []byte(v))
		if !errors.Is(err, cell.ErrWire) || got != nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%v: %x, %v", n, got, err)
		}
	}
}

func TestATypeGetsTheNormaliserOfItsEquality(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ, name string
		want      cell.Normaliser
	}{
		{"text", "exact", cell.NormaliseExact}, {"varchar", "lower+trim", cell.NormaliseLowerTrim}, {"text", "digits", cell.NormaliseDigits},
		{"name", "nfc", cell.NormaliseNFC}, {"citext", "lower+trim", cell.NormaliseLowerTrim}, {"bpchar", "exact", cell.NormaliseBlank},
		{"bpchar", "digits", cell.NormaliseDigits}, {"numeric", "exact", cell.NormaliseNumeric}, {"float4", "exact", cell.NormaliseFloat4},
		{"float8", "exact", cell.NormaliseFloat8}, {"interval", "exact", cell.NormaliseInterval}, {"int8", "exact", cell.NormaliseExact},
		{"uuid", "exact", cell.NormaliseExact}, {"bytea", "exact", cell.NormaliseExact}, {"date", "exact", cell.NormaliseExact},
		{"timetz", "exact", cell.NormaliseExact}, {"timestamptz", "exact", cell.NormaliseExact}, {"mood", "exact", cell.NormaliseExact},
	} {
		got, err := cell.NormaliserFor(types[c.typ], c.name)
		if err != nil || got != c.want || got.String() != c.name {
			t.Errorf("%s %s: %v (%#02x), %v", c.typ, c.name, got, uint8(got), err)
		}
	}
	for _, c := range [][2]string{
		{"citext", "exact"}, {"jsonb", "exact"}, {"json", "exact"}, {"xml", "exact"}, {"_int4", "exact"}, {"inet", "exact"}, {"hstore", "exact"},
		{"pair", "exact"}, {"int4range", "exact"}, {"oid", "exact"}, {"int4", "lower+trim"}, {"bytea", "digits"}, {"mood", "nfc"}, {"json", "nfc"},
		{"bpchar", "nfc"}, {"numeric", "digits"}, {"text", "soundex"}, {"text", ""}, {"text", "normaliser 0x11"},
	} {
		if n, err := cell.NormaliserFor(types[c[0]], c[1]); err == nil || n != 0 || !strings.Contains(err.Error(), c[0]) {
			t.Errorf("%s %s: %v, %v", c[0], c[1], n, err)
		}
	}
}

// TestTheUnicodeVersionIsTheSpecifiedOne: another version may give a new character another normal form, which the
// specification must then say.
func TestTheUnicodeVersionIsTheSpecifiedOne(t *testing.T) {
	t.Parallel()
	if unicode.Version != "15.0.0" || norm.Version != "15.0.0" {
		t.Errorf("letters of Unicode %s, normal forms of %s; docs/envelope.md says 15.0", unicode.Version, norm.Version)
	}
	for _, run := range unicode.Nd.R16 {
		if run.Stride != 1 || (run.Hi-run.Lo+1)%10 != 0 {
			t.Errorf("digits %U to %U are no runs of ten", run.Lo, run.Hi)
		}
	}
	for _, run := range unicode.Nd.R32 {
		if run.Stride != 1 || (run.Hi-run.Lo+1)%10 != 0 {
			t.Errorf("digits %U to %U are no runs of ten", run.Lo, run.Hi)
		}
	}
}

func TestABlinderServesManyGoroutines(t *testing.T) {
	t.Parallel()
	b := blinder(t, index(cell.NormaliseLowerTrim))
	want := make([]string, 50)
	for i := range want {
		want[i] = token(t, b, fmt.Sprint("VALUE ", i))
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range want {
				if got, err := b.Token(nil, fmt.Append(nil, "value ", i)); err != nil || hex.EncodeToString(got) != want[i] {
					t.Errorf("value %d: %x, %v", i, got, err)
				}
			}
		})
	}
	all.Wait()
}

func TestABlinderNeverPrintsItsKey(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789ABCDEFfedcba9876543210")
	d, err := cell.DEKFromBytes(key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := cell.NewBlinder(registry, index(cell.NormaliseExact), d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Token(nil, key); err != nil {
		t.Fatal(err)
	}
	for how, text := range printed(t, b) {
		if leaks(text, key) {
			t.Errorf("%s: %s", how, text)
		}
	}
	type hidden struct{ b *cell.Blinder }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if text := fmt.Sprintf(verb, hidden{b}); leaks(text, key) {
			t.Errorf("%s: %s", verb, text)
		}
	}
}

// FuzzNormalise: a normal form is its own normal form, and so has the same token.
func FuzzNormalise(f *testing.F) {
	for _, raw := range readKnown(f).Tokens {
		v := strict[knownToken](f, raw)
		f.Add(uint8(v.Normaliser), unhex(f, v.Plaintext))
	}
	f.Add(uint8(cell.NormaliseLowerTrim), []byte(" \u0301A\u0300\u0130\u1e9e\ufb01 "))
	f.Fuzz(func(t *testing.T, n uint8, b []byte) {
		normal, err := cell.NormaliseForTest(cell.Normaliser(n), b)
		if err != nil {
			if !errors.Is(err, cell.ErrWire) {
				t.Fatal(err)
			}
			return
		}
		if cell.Normaliser(n) == cell.NormaliseInterval {
			return // its normal form is no interval
		}
		again, err := cell.NormaliseForTest(cell.Normaliser(n), normal)
		if err != nil || !bytes.Equal(normal, again) {
			t.Fatalf("%q becomes %q, then %q, %v", b, normal, again, err)
		}
	})
}

func BenchmarkToken(b *testing.B) {
	for _, n := range []cell.Normaliser{cell.NormaliseExact, cell.NormaliseLowerTrim} {
		b.Run(n.String(), func(b *testing.B) {
			index, dst, plain := blinder(b, index(n)), make([]byte, 0, 16), []byte("alice.somebody@example.com")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := index.Token(dst, plain); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
