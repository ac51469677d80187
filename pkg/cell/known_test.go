package cell_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// known is testdata/known-answers.json.
type known struct {
	About  string
	Cells  []json.RawMessage
	Keys   []json.RawMessage
	Values []json.RawMessage
	Tokens []json.RawMessage
}

type knownCell struct {
	Name      string
	DEK       string
	Registry  string
	Column    uint32
	Scheme    uint16
	Suite     cell.Suite
	Codec     cell.Codec
	RowBound  bool `json:"row_bound"`
	Padding   int
	Nulls     cell.Nulls
	Null      bool
	KeyID     uint32 `json:"key_id"`
	Key       string
	AAD       string
	Plaintext string
	Cell      string
}

type knownKey struct {
	Name    string
	Types   []string
	Wire    []string
	Encoded string
}

type knownValue struct {
	Name      string
	Type      string
	Wire      string
	Codec     cell.Codec
	Plaintext string
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// strict decodes one entry; an unknown member is a mistake in the file.
func strict[T any](t testing.TB, raw json.RawMessage) T {
	t.Helper()
	var v T
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return v
}

func readKnown(t testing.TB) known {
	t.Helper()
	b, err := os.ReadFile("testdata/known-answers.json")
	if err != nil {
		t.Fatal(err)
	}
	return strict[known](t, b)
}

// TestKnownAnswersOnlyGrow compares the digest of every entry with those of
// testdata/known-answers.sha256, line by line: whoever changes or removes an entry has changed
// the format, and whoever adds one adds its line.
func TestKnownAnswersOnlyGrow(t *testing.T) {
	t.Parallel()
	file := readKnown(t)
	var got []string
	for _, list := range [][]json.RawMessage{file.Cells, file.Keys, file.Values, file.Tokens} {
		for _, raw := range list {
			name := strict[map[string]any](t, raw)["name"]
			sum := sha256.Sum256(raw)
			got = append(got, hex.EncodeToString(sum[:])+"  "+name.(string))
		}
	}
	b, err := os.ReadFile("testdata/known-answers.sha256")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(want) < 148 {
		t.Errorf("%d digests, there were 148", len(want))
	}
	present := map[string]bool{}
	for _, line := range got {
		present[line] = true
	}
	for _, line := range want {
		if !present[line] {
			t.Errorf("altered or gone: %s", line)
		}
		delete(present, line)
	}
	for line := range present {
		t.Errorf("new; add its line to known-answers.sha256: %s", line)
	}
}

func TestKnownCells(t *testing.T) {
	t.Parallel()
	for _, raw := range readKnown(t).Cells {
		v := strict[knownCell](t, raw)
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			s := cell.Scheme{
				Column: v.Column, Number: v.Scheme, Suite: v.Suite, Codec: v.Codec,
				RowBound: v.RowBound, Padding: v.Padding, Nulls: v.Nulls, KeyID: v.KeyID,
			}
			sealed, key := unhex(t, v.Cell), unhex(t, v.DEK)
			d, err := cell.DEKFromBytes(key)
			if err != nil {
				t.Fatal(err)
			}
			k := cell.NewKeyring([16]byte(unhex(t, v.Registry)))
			if err := k.Add(s, d); err != nil {
				t.Fatal(err)
			}
			got, h, err := k.Open(nil, cell.Address{Column: v.Column, Key: unhex(t, v.Key)}, sealed)
			if err != nil || hex.EncodeToString(got) != v.Plaintext || (got == nil) != v.Null || h != s.Header() {
				t.Errorf("opened %x, %+v, %v", got, h, err)
			}
			if v.Null {
				v.Plaintext = strings.Repeat("00", s.Codec.WidthForTest())
			}
			if got := s.SealedLength(len(v.Plaintext) / 2); got != len(sealed) {
				t.Errorf("sealed length %d, want %d", got, len(sealed))
			}
			if err := stockReads(t, v.Suite, key, sealed[16:], unhex(t, v.AAD)); err != nil {
				t.Errorf("Tink: %v", err)
			}
		})
	}
}

func TestKnownKeys(t *testing.T) {
	t.Parallel()
	for _, raw := range readKnown(t).Keys {
		v := strict[knownKey](t, raw)
		e, err := cell.NewKeyEncoder(infos(t, v.Types...))
		if err != nil {
			t.Fatal(err)
		}
		wire := make([][]byte, len(v.Wire))
		for i, w := range v.Wire {
			wire[i] = unhex(t, w)
		}
		got, err := e.Append(nil, wire)
		if err != nil || hex.EncodeToString(got) != v.Encoded {
			t.Errorf("%s: %x, %v; want %s", v.Name, got, err, v.Encoded)
		}
	}
}

func TestKnownValues(t *testing.T) {
	t.Parallel()
	for _, raw := range readKnown(t).Values {
		v := strict[knownValue](t, raw)
		info := infos(t, v.Type)[0]
		c, err := cell.CodecFor(info)
		if err != nil || c != v.Codec {
			t.Errorf("%s: codec %v, %v; want %v", v.Name, c, err, v.Codec)
			continue
		}
		plain, err := c.Encode(nil, unhex(t, v.Wire))
		if err != nil || hex.EncodeToString(plain) != v.Plaintext {
			t.Errorf("%s: encoded %x, %v; want %s", v.Name, plain, err, v.Plaintext)
		}
		wire, err := c.Decode(nil, unhex(t, v.Plaintext), info)
		if err != nil || wire == nil || hex.EncodeToString(wire) != v.Wire {
			t.Errorf("%s: decoded %x, %v; want %s", v.Name, wire, err, v.Wire)
		}
	}
}

func infos(t testing.TB, names ...string) []cell.TypeInfo {
	t.Helper()
	list := make([]cell.TypeInfo, len(names))
	for i, name := range names {
		info, ok := types[name]
		if !ok {
			t.Fatalf("no type %s in the fixture", name)
		}
		list[i] = info
	}
	return list
}

// TestTheSpecificationShowsTheKnownAnswer holds docs/envelope.md to the first known answers.
func TestTheSpecificationShowsTheKnownAnswer(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/envelope.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(b)), "")
	cells := readKnown(t).Cells
	plain, padded := strict[knownCell](t, cells[0]), strict[knownCell](t, cells[1])
	kinds := map[string]knownCell{}
	for _, raw := range cells {
		c := strict[knownCell](t, raw)
		kinds[c.Name] = c
	}
	kinded, null := kinds["an e-mail, padded to 16, where NULL is sealed"].Cell, kinds["NULL of a text, padded to 16"].Cell
	for what, want := range map[string]string{
		"key":             "key" + plain.DEK,
		"registry":        "registry" + plain.Registry,
		"header":          "header" + plain.Cell[:32],
		"key part":        "keypart" + plain.Key,
		"plaintext":       "plaintext" + plain.Plaintext,
		"associated data": "associateddata" + plain.AAD,
		"cell":            "cell" + plain.Cell,
		"tag":             "tag" + plain.Cell[len(plain.Cell)-32:],
		"padded tag":      "thetagis`" + padded.Cell[len(padded.Cell)-32:],
		"kinded tag":      "thetagis`" + kinded[len(kinded)-32:] + "`",
		"cell of NULL":    "cell" + null,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("docs/envelope.md does not show the %s of its example", what)
		}
	}
}
