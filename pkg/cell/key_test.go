package cell_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

func encoder(t testing.TB, names ...string) *cell.KeyEncoder {
	t.Helper()
	e, err := cell.NewKeyEncoder(infos(t, names...))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestKeyColumnsSayHowTheyAreRead(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]cell.Format{
		"int2": cell.Binary, "int4": cell.Binary, "int8": cell.Binary, "uuid": cell.Binary, "bytea": cell.Binary,
		"date": cell.Binary, "timestamp": cell.Binary, "timestamptz": cell.Binary,
		"text": cell.Text, "varchar": cell.Text, "bpchar": cell.Text, "name": cell.Text, "citext": cell.Text,
		"numeric": cell.Text, "bool": cell.Text, "mood": cell.Text, "inet": cell.Text, "interval": cell.Text, "oid": cell.Text,
	} {
		e := encoder(t, "int8", name)
		if e.Columns() != 2 || e.Wire(1) != want {
			t.Errorf("%s is read in format %d, want %d", name, e.Wire(1), want)
		}
	}
}

// TestTheExportedPartsMakeTheSameKey holds that an application, which has values and not wire
// bytes, builds the key that the fleet builds.
func TestTheExportedPartsMakeTheSameKey(t *testing.T) {
	t.Parallel()
	id := [16]byte{15: 9}
	e := encoder(t, "int4", "uuid", "text", "bytea", "date", "timestamptz", "numeric", "inet")
	fleet, err := e.Append(nil, [][]byte{
		{0, 0, 0, 5}, id[:], []byte("ab"), {0, 1}, {0xff, 0xff, 0xff, 0xff}, int8wire(-3), []byte("1.50"), []byte("10.0.0.1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	k := cell.AppendKeyCount(nil, 8)
	k = cell.AppendKeyInt(k, 5)
	k = cell.AppendKeyUUID(k, id)
	k = cell.AppendKeyText(k, []byte("ab"))
	k = cell.AppendKeyBytes(k, []byte{0, 1})
	k = cell.AppendKeyDate(k, -1)
	k = cell.AppendKeyTimestamp(k, -3)
	if k, err = cell.AppendKeyNumeric(k, []byte("1.5")); err != nil {
		t.Fatal(err)
	}
	k = cell.AppendKeyOther(k, []byte("10.0.0.1"))
	if !bytes.Equal(fleet, k) {
		t.Errorf("fleet %x\nparts %x", fleet, k)
	}
}

func TestBadKeysAreRefused(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		types []string
		wire  [][]byte
	}{
		{[]string{"int8"}, [][]byte{nil}},
		{[]string{"text"}, [][]byte{nil}},
		{[]string{"int8"}, nil},
		{[]string{"int8"}, [][]byte{int8wire(1), int8wire(2)}},
		{[]string{"int8"}, [][]byte{{1, 2, 3}}},
		{[]string{"uuid"}, [][]byte{make([]byte, 15)}},
		{[]string{"date"}, [][]byte{make([]byte, 8)}},
		{[]string{"timestamp"}, [][]byte{make([]byte, 4)}},
		{[]string{"numeric"}, [][]byte{{}}},
		{[]string{"numeric"}, [][]byte{[]byte("-")}},
		{[]string{"numeric"}, [][]byte{[]byte("1.")}},
		{[]string{"numeric"}, [][]byte{[]byte(".5")}},
		{[]string{"numeric"}, [][]byte{[]byte("1e5")}},
		{[]string{"numeric"}, [][]byte{[]byte("+1")}},
		{[]string{"numeric"}, [][]byte{[]byte("1.2.3")}},
		{[]string{"numeric"}, [][]byte{[]byte("nan")}},
		{[]string{"numeric"}, [][]byte{[]byte("--1")}},
	} {
		if got, err := encoder(t, v.types...).Append(nil, v.wire); err == nil || got != nil {
			t.Errorf("%v %q became %x", v.types, v.wire, got)
		} else if len(v.wire) == len(v.types) && !errors.Is(err, cell.ErrWire) {
			t.Errorf("%v %q: %v", v.types, v.wire, err)
		}
	}
	if _, err := cell.NewKeyEncoder(nil); err == nil {
		t.Error("a key of no columns was taken")
	}
	for _, info := range []cell.TypeInfo{
		{OID: 790, Name: "money", Kind: 'b', Category: 'N'}, {OID: 2205, Name: "regclass", Kind: 'b', Category: 'N'},
		{OID: 16500, Name: "email", Kind: 'd', Category: 'S'},
	} {
		if _, err := cell.NewKeyEncoder([]cell.TypeInfo{info}); err == nil {
			t.Errorf("a key column of type %s was taken", info.Name)
		}
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	e := encoder(t, "int8")
	got, err := e.Append([]byte("before"), [][]byte{int8wire(1)})
	if err != nil || !bytes.HasPrefix(got, []byte("before")) || len(got) != 6+2+5+8 {
		t.Fatalf("%x, %v", got, err)
	}
}

// parts reads an encoded key back, which shows that no two keys have the same encoding.
func parts(t *testing.T, b []byte) (tags string, values [][]byte) {
	t.Helper()
	n := binary.BigEndian.Uint16(b)
	b = b[2:]
	for range n {
		size := binary.BigEndian.Uint32(b[1:])
		tags, values = tags+string(b[0]), append(values, b[5:5+size])
		b = b[5+size:]
	}
	if len(b) != 0 {
		t.Fatalf("%d bytes behind the last part", len(b))
	}
	return tags, values
}

// FuzzKeyIsInjective: an encoded key reads back to the very values it was made of, and equal
// encodings come from equal keys only.
func FuzzKeyIsInjective(f *testing.F) {
	f.Add("ab", "c", "a", "bc", int64(1), int64(1))
	f.Add("", "", "", "", int64(0), int64(-1))
	f.Add("s\x00\x00\x00\x01", "x", "", "s", int64(1<<63-1), int64(-1<<63))
	f.Fuzz(func(t *testing.T, a1, b1, a2, b2 string, n1, n2 int64) {
		e := encoder(t, "text", "bytea", "int8", "inet")
		one, err1 := e.Append(nil, [][]byte{[]byte(a1), []byte(b1), int8wire(n1), []byte(b2)})
		two, err2 := e.Append(nil, [][]byte{[]byte(a2), []byte(b2), int8wire(n2), []byte(b2)})
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		tags, values := parts(t, one)
		if tags != "sbio" || string(values[0]) != a1 || string(values[1]) != b1 || !bytes.Equal(values[2], int8wire(n1)) || string(values[3]) != b2 {
			t.Fatalf("%q, %q, %d came back as %q", a1, b1, n1, values)
		}
		if bytes.Equal(one, two) != (a1 == a2 && b1 == b2 && n1 == n2) {
			t.Fatalf("%x and %x", one, two)
		}
	})
}

// FuzzNumericKey: two numbers have the same part exactly when they are equal.
func FuzzNumericKey(f *testing.F) {
	f.Add(int64(10), uint8(1), int64(100), uint8(2))
	f.Add(int64(0), uint8(0), int64(0), uint8(7))
	f.Add(int64(-5), uint8(3), int64(-50), uint8(4))
	f.Add(int64(1), uint8(0), int64(10), uint8(0))
	f.Fuzz(func(t *testing.T, n1 int64, scale1 uint8, n2 int64, scale2 uint8) {
		one, two := decimal(n1, int(scale1%40)), decimal(n2, int(scale2%40))
		k1, err1 := cell.AppendKeyNumeric(nil, []byte(one))
		k2, err2 := cell.AppendKeyNumeric(nil, []byte(two))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		r1, _ := new(big.Rat).SetString(one)
		r2, _ := new(big.Rat).SetString(two)
		if (r1.Cmp(r2) == 0) != bytes.Equal(k1, k2) {
			t.Fatalf("%s is %q, %s is %q", one, k1, two, k2)
		}
		if again, err := cell.AppendKeyNumeric(nil, k1[5:]); err != nil || !bytes.Equal(again, k1) {
			t.Fatalf("%q is not canonical: %q, %v", k1, again, err)
		}
	})
}

// decimal writes n / 10^scale as Postgres does.
func decimal(n int64, scale int) string {
	digits := fmt.Sprintf("%0*d", scale+1, new(big.Int).Abs(big.NewInt(n)))
	sign := ""
	if n < 0 {
		sign = "-"
	}
	if scale == 0 {
		return sign + digits
	}
	return sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
}
