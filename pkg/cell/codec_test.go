package cell_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

func TestRefusedTypesSayWhy(t *testing.T) {
	t.Parallel()
	money := cell.TypeInfo{OID: 790, Name: "money", Kind: 'b', Category: 'N'}
	regclass := cell.TypeInfo{OID: 2205, Name: "regclass", Kind: 'b', Category: 'N'}
	for _, v := range []struct {
		info cell.TypeInfo
		says string
	}{
		{money, "lc_monetary"},
		{cell.TypeInfo{OID: 791, Name: "_money", Kind: 'b', Category: 'A'}, "lc_monetary"},
		{regclass, "rename"},
		{cell.TypeInfo{OID: 2210, Name: "_regclass", Kind: 'b', Category: 'A'}, "rename"},
		{cell.TypeInfo{OID: 26, Name: "oid", Kind: 'b', Category: 'N'}, "dump"},
		{cell.TypeInfo{OID: 1028, Name: "_oid", Kind: 'b', Category: 'A'}, "dump"},
		{cell.TypeInfo{OID: 18, Name: "char", Kind: 'b', Category: 'Z'}, "system type"},
		{cell.TypeInfo{OID: 27, Name: "tid", Kind: 'b', Category: 'U'}, "system type"},
		{cell.TypeInfo{OID: 1033, Name: "aclitem", Kind: 'b', Category: 'U'}, "system type"},
		{cell.TypeInfo{OID: 12001, Name: "_pg_index", Kind: 'b', Category: 'A'}, "system type"},
		{cell.TypeInfo{OID: 75, Name: "pg_attribute", Kind: 'c', Category: 'C'}, "system type"},
		{cell.TypeInfo{OID: 3361, Name: "pg_ndistinct", Kind: 'b', Category: 'Z'}, "system type"},
		{cell.TypeInfo{OID: 2249, Name: "record", Kind: 'p', Category: 'P'}, "pseudo-type"},
		{cell.TypeInfo{OID: 16500, Name: "email", Kind: 'd', Category: 'S'}, "base type"},
		{cell.TypeInfo{}, "no OID"},
		{cell.TypeInfo{OID: 16501, Name: "_price", Kind: 'b', Category: 'A', Parts: []cell.TypeInfo{money}}, "contains money"},
		{cell.TypeInfo{OID: 16502, Name: "offer", Kind: 'c', Category: 'C', Parts: []cell.TypeInfo{
			types["text"], {OID: 16503, Name: "_c", Kind: 'b', Category: 'A', Parts: []cell.TypeInfo{regclass}},
		}}, "contains regclass"},
	} {
		_, err := cell.CodecFor(v.info)
		if err == nil || !strings.Contains(err.Error(), v.says) || !strings.Contains(err.Error(), v.info.Name) {
			t.Errorf("%s: %v, want the name and %q", v.info.Name, err, v.says)
		}
	}
}

func TestTypesOfExtensionsAndUsersTravelAsText(t *testing.T) {
	t.Parallel()
	for _, info := range []cell.TypeInfo{
		{OID: 16410, Name: "geometry", Kind: 'b', Category: 'U'},
		{OID: 16411, Name: "_geometry", Kind: 'b', Category: 'A'},
		{OID: 16412, Name: "span", Kind: 'r', Category: 'R', Parts: []cell.TypeInfo{types["numeric"]}},
		{OID: 16413, Name: "spans", Kind: 'm', Category: 'R'},
		{OID: 16414, Name: "_mood", Kind: 'b', Category: 'A', Parts: []cell.TypeInfo{types["mood"]}},
		{OID: 1560, Name: "bit", Kind: 'b', Category: 'V'},
		{OID: 3614, Name: "tsvector", Kind: 'b', Category: 'U'},
		{OID: 650, Name: "cidr", Kind: 'b', Category: 'I'},
	} {
		if c, err := cell.CodecFor(info); err != nil || c != cell.CodecOutput {
			t.Errorf("%s: %v, %v", info.Name, c, err)
		}
	}
}

func TestFormatAndPaddingFollowTheCodec(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		wire    cell.Format
		padding int
	}{
		"bytea": {cell.Binary, 16}, "text": {cell.Text, 16}, "jsonb": {cell.Text, 16}, "mood": {cell.Text, 16},
		"bool": {cell.Binary, 0}, "int4": {cell.Binary, 0}, "float8": {cell.Binary, 0}, "interval": {cell.Binary, 0}, "uuid": {cell.Binary, 0},
	} {
		c, err := cell.CodecFor(types[name])
		if err != nil || c.Wire() != want.wire || c.DefaultPadding() != want.padding {
			t.Errorf("%s: %v, format %d, padding %d, %v", name, c, c.Wire(), c.DefaultPadding(), err)
		}
	}
}

func TestValuesThatDoNotFitAreRefused(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string][]byte{
		"int4": {1, 2, 3}, "int8": {}, "bool": {2}, "float4": make([]byte, 8), "float8": make([]byte, 4),
		"date": make([]byte, 8), "time": make([]byte, 4), "timetz": make([]byte, 8), "timestamp": make([]byte, 9),
		"interval": make([]byte, 12), "uuid": []byte("00000000-0000-0000-0000-000000000000"),
		"text": []byte("a\x00b"), "json": []byte("\xff"), "numeric": []byte("1\x00"), "mood": {0xc1},
	} {
		c, err := cell.CodecFor(types[name])
		if err != nil {
			t.Fatal(err)
		}
		if out, err := c.Encode(nil, bad); !errors.Is(err, cell.ErrWire) || out != nil {
			t.Errorf("%s: %x was encoded: %x, %v", name, bad, out, err)
		}
		if out, err := c.Encode(nil, nil); !errors.Is(err, cell.ErrWire) || out != nil {
			t.Errorf("%s: NULL was encoded: %x, %v", name, out, err)
		}
		if name == "int4" || name == "int8" {
			bad = make([]byte, 4)
		}
		if out, err := c.Decode(nil, bad, types[name]); !errors.Is(err, cell.ErrWire) || out != nil {
			t.Errorf("%s: %x was decoded: %x, %v", name, bad, out, err)
		}
	}
	if _, err := cell.Codec(3).Encode(nil, []byte{1}); !errors.Is(err, cell.ErrWire) {
		t.Errorf("unknown codec: %v", err)
	}
}

// TestAnIntegerFollowsItsColumn holds that a column may be widened under its cells, and that
// narrowing loses nothing silently.
func TestAnIntegerFollowsItsColumn(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		value int64
		fits  string
	}{
		{0, "int2 int4 int8"}, {-1, "int2 int4 int8"}, {32767, "int2 int4 int8"}, {-32768, "int2 int4 int8"},
		{32768, "int4 int8"}, {-32769, "int4 int8"}, {1<<31 - 1, "int4 int8"}, {-1 << 31, "int4 int8"},
		{1 << 31, "int8"}, {-1<<31 - 1, "int8"}, {1<<63 - 1, "int8"}, {-1 << 63, "int8"},
	} {
		for name, width := range map[string]int{"int2": 2, "int4": 4, "int8": 8} {
			wire, err := cell.CodecInt.Decode(nil, int8wire(v.value), types[name])
			if !strings.Contains(v.fits, name) {
				if !errors.Is(err, cell.ErrWire) {
					t.Errorf("%d in %s: %x, %v", v.value, name, wire, err)
				}
				continue
			}
			if err != nil || !bytes.Equal(wire, int8wire(v.value)[8-width:]) {
				t.Errorf("%d in %s: %x, %v", v.value, name, wire, err)
				continue
			}
			if plain, err := cell.CodecInt.Encode(nil, wire); err != nil || !bytes.Equal(plain, int8wire(v.value)) {
				t.Errorf("%d from %s: %x, %v", v.value, name, plain, err)
			}
		}
	}
	if _, err := cell.CodecInt.Decode(nil, int8wire(1), types["text"]); !errors.Is(err, cell.ErrWire) {
		t.Errorf("an integer in a text column: %v", err)
	}
}

func TestEncodeAndDecodeAppend(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"text", "int8", "bool"} {
		c, err := cell.CodecFor(types[name])
		if err != nil {
			t.Fatal(err)
		}
		wire := map[string][]byte{"text": []byte("abc"), "int8": int8wire(5), "bool": {1}}[name]
		plain, err := c.Encode([]byte("x"), wire)
		if err != nil || plain[0] != 'x' || !bytes.Equal(plain[1:], wire) {
			t.Errorf("%s: %x, %v", name, plain, err)
		}
		back, err := c.Decode([]byte("y"), plain[1:], types[name])
		if err != nil || back[0] != 'y' || !bytes.Equal(back[1:], wire) {
			t.Errorf("%s: %x, %v", name, back, err)
		}
	}
}

// FuzzCodec: whatever a codec encodes, it decodes to the same bytes, and whatever it decodes it
// encodes to the same bytes.
func FuzzCodec(f *testing.F) {
	names := []string{
		"bool", "bytea", "int2", "int4", "int8", "text", "numeric", "float4", "float8", "date", "time",
		"timetz", "timestamp", "timestamptz", "interval", "uuid", "jsonb", "mood",
	}
	for _, raw := range readKnown(f).Values {
		v := strict[knownValue](f, raw)
		for i, name := range names {
			if v.Type == name {
				f.Add(uint8(i), unhex(f, v.Wire))
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		info := types[names[int(which)%len(names)]]
		c, err := cell.CodecFor(info)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := c.Encode(nil, b); err == nil {
			// An int2 column sends 2 bytes; the codec also reads the other widths.
			if back, err := c.Decode(nil, plain, info); err == nil && !bytes.Equal(back, b) && c != cell.CodecInt {
				t.Fatalf("%s: %x became %x", info.Name, b, back)
			}
		}
		if wire, err := c.Decode(nil, b, info); err == nil {
			if again, err := c.Encode(nil, wire); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%s: %x decodes to %x, which encodes to %x: %v", info.Name, b, wire, again, err)
			}
		}
	})
}
