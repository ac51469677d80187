package cell

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Normaliser numbers how values that count as equal become the same bytes before a blind index hashes them. Its
// rules for text are those of Unicode 15.0, spelled out in docs/envelope.md.
type Normaliser uint8

// The normalisers. Those from NormaliseBlank on are what "exact" means for a type whose SQL equality is wider than
// equality of bytes.
const (
	NormaliseExact     Normaliser = 0x01 // the plaintext as it is
	NormaliseLowerTrim Normaliser = 0x02 // text: NFC, simple lower case, NFC, no white space around it
	NormaliseDigits    Normaliser = 0x03 // text: the decimal digits of any script, as ASCII
	NormaliseNFC       Normaliser = 0x04 // text: Unicode normalization form C
	NormaliseBlank     Normaliser = 0x11 // char(n): without trailing blanks
	NormaliseNumeric   Normaliser = 0x12 // numeric: 1.0, 1.00 and 1 are one
	NormaliseFloat4    Normaliser = 0x13 // float4: -0 and 0 are one, so are all NaNs
	NormaliseFloat8    Normaliser = 0x14 // float8: likewise
	NormaliseInterval  Normaliser = 0x15 // interval: a month is 30 days, a day is 24 hours
)

// String returns the normaliser's name, which is "exact" for all that keep to SQL equality.
func (n Normaliser) String() string {
	switch n {
	case NormaliseExact, NormaliseBlank, NormaliseNumeric, NormaliseFloat4, NormaliseFloat8, NormaliseInterval:
		return "exact"
	case NormaliseLowerTrim:
		return "lower+trim"
	case NormaliseDigits:
		return "digits"
	case NormaliseNFC:
		return "nfc"
	}
	return fmt.Sprintf("normaliser %#02x", uint8(n))
}

func (n Normaliser) known() bool {
	return n >= NormaliseExact && n <= NormaliseNFC || n >= NormaliseBlank && n <= NormaliseInterval
}

// NormaliserFor returns the normaliser of that name (exact, lower+trim, digits, nfc) for columns of type t. It refuses
// types without an equality that it can keep, and says what to do instead.
func NormaliserFor(t TypeInfo, name string) (Normaliser, error) {
	c, err := CodecFor(t)
	if err != nil {
		return 0, fmt.Errorf("choose normaliser: %w", err)
	}
	n, why := normaliserOf(c, t, name)
	if why != "" {
		return 0, fmt.Errorf("choose normaliser %q for type %s: %s", name, t.Name, why)
	}
	return n, nil
}

func normaliserOf(c Codec, t TypeInfo, name string) (Normaliser, string) {
	if name == "exact" {
		return exactFor(c, t)
	}
	named := map[string]Normaliser{"lower+trim": NormaliseLowerTrim, "digits": NormaliseDigits, "nfc": NormaliseNFC}
	n, ok := named[name]
	switch {
	case !ok:
		return 0, "unknown (accepted: exact, lower+trim, digits, nfc)"
	case c != CodecText || t.Kind == 'e' || t.OID == oidJSON || t.OID == oidXML:
		return 0, "it is for text columns; use exact"
	case t.OID == oidBPChar && n == NormaliseNFC:
		return 0, "values of char(n) also differ in trailing blanks; use exact or lower+trim"
	}
	return n, ""
}

func exactFor(c Codec, t TypeInfo) (Normaliser, string) {
	switch {
	case isCitext(t):
		return 0, "citext ignores case, so equal values would get different tokens; use lower+trim"
	case t.OID == oidJSON || t.OID == oidXML:
		return 0, "the type has no equality"
	case t.OID == oidBPChar:
		return NormaliseBlank, ""
	case t.OID == oidNumeric:
		return NormaliseNumeric, ""
	case c == CodecFloat4:
		return NormaliseFloat4, ""
	case c == CodecFloat8:
		return NormaliseFloat8, ""
	case c == CodecInterval:
		return NormaliseInterval, ""
	case c == CodecOutput:
		return 0, "equal values of the type may be written differently, so they would get different tokens; index a text or numeric column made from it"
	}
	return NormaliseExact, ""
}

// append appends the normal form of a plaintext, as Codec.Encode makes it. A plaintext that is not of the
// normaliser's type is an ErrWire.
func (n Normaliser) append(dst, plaintext []byte) ([]byte, error) {
	switch n {
	case NormaliseExact:
		return append(dst, plaintext...), nil
	case NormaliseBlank:
		return append(dst, bytes.TrimRight(plaintext, " ")...), nil
	case NormaliseNumeric:
		return appendCanonicalNumeric(dst, plaintext)
	case NormaliseFloat4, NormaliseFloat8, NormaliseInterval:
		return n.appendBinary(dst, plaintext)
	case NormaliseLowerTrim, NormaliseDigits, NormaliseNFC:
		if !utf8.Valid(plaintext) {
			return nil, fmt.Errorf("not UTF-8: %w", ErrWire)
		}
		return n.appendText(dst, plaintext), nil
	}
	return nil, fmt.Errorf("%v is unknown: %w", n, ErrWire)
}

func (n Normaliser) appendText(dst, text []byte) []byte {
	switch n {
	case NormaliseDigits:
		return appendDigits(dst, text)
	case NormaliseNFC:
		return append(dst, norm.NFC.Bytes(text)...) // not norm.NFC.Append, which also normalises across dst's end
	}
	lower := norm.NFC.Bytes(bytes.Map(unicode.ToLower, norm.NFC.Bytes(text)))
	return append(dst, bytes.TrimSpace(lower)...)
}

// appendDigits keeps the code points of category Nd. Unicode numbers them in runs of ten from the zero on.
func appendDigits(dst, text []byte) []byte {
	for _, r := range string(text) {
		if r >= '0' && r <= '9' {
			dst = append(dst, byte(r))
			continue
		}
		for _, run := range unicode.Nd.R16 {
			if r >= rune(run.Lo) && r <= rune(run.Hi) {
				dst = append(dst, '0'+byte((r-rune(run.Lo))%10))
			}
		}
		for _, run := range unicode.Nd.R32 {
			if r >= rune(run.Lo) && r <= rune(run.Hi) {
				dst = append(dst, '0'+byte((r-rune(run.Lo))%10))
			}
		}
	}
	return dst
}

func (n Normaliser) appendBinary(dst, plaintext []byte) ([]byte, error) {
	width := map[Normaliser]int{NormaliseFloat4: 4, NormaliseFloat8: 8, NormaliseInterval: 16}[n]
	if len(plaintext) != width {
		return nil, fmt.Errorf("%d bytes, want %d: %w", len(plaintext), width, ErrWire)
	}
	switch n {
	case NormaliseFloat4:
		bits := binary.BigEndian.Uint32(plaintext)
		switch f := math.Float32frombits(bits); {
		case f != f:
			bits = 0x7fc00000
		case f == 0:
			bits = 0
		}
		return binary.BigEndian.AppendUint32(dst, bits), nil
	case NormaliseFloat8:
		bits := binary.BigEndian.Uint64(plaintext)
		switch f := math.Float64frombits(bits); {
		case f != f:
			bits = 0x7ff8000000000000
		case f == 0:
			bits = 0
		}
		return binary.BigEndian.AppendUint64(dst, bits), nil
	}
	return appendInterval(dst, plaintext), nil
}

const dayMicros = 24 * 60 * 60 * 1_000_000

// appendInterval writes whole days and the microseconds of the last one: what interval_cmp_value of Postgres compares.
func appendInterval(dst, interval []byte) []byte {
	micros := int64(binary.BigEndian.Uint64(interval))
	days := int64(int32(binary.BigEndian.Uint32(interval[8:])))
	months := int64(int32(binary.BigEndian.Uint32(interval[12:])))
	carry, rest := micros/dayMicros, micros%dayMicros
	if rest < 0 {
		carry, rest = carry-1, rest+dayMicros
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(days+30*months+carry))
	return binary.BigEndian.AppendUint64(dst, uint64(rest))
}
