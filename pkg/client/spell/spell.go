// Package spell knows how Postgres spells a value once it is stored in a column: which digits of a number, which order of
// a document's keys, which blanks of a text it prints. A cell must hold those very bytes, and after its plaintext is gone
// there is no column of the type left to ask.
//
// A modifier is what pg_attribute says of a column beside its type, such as the 20 of varchar(20); -1 is none. No error
// quotes a value.
package spell

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
)

// ErrValue marks a value that Postgres would refuse for the column.
var ErrValue = errors.New("value does not fit the column")

// Text applies the length of varchar(n) and char(n): blanks beyond it are cut, and char(n) is filled with them.
func Text(oid uint32, raw []byte, mod int32) ([]byte, error) {
	const header = 4 // Postgres counts it in the modifier
	if mod < header {
		return raw, nil
	}
	most := int(mod) - header
	length := utf8.RuneCount(raw)
	if length > most {
		end := 0
		for range most {
			_, size := utf8.DecodeRune(raw[end:])
			end += size
		}
		if len(bytes.Trim(raw[end:], " ")) > 0 {
			return nil, fmt.Errorf("longer than %d characters: %w", most, ErrValue)
		}
		return raw[:end], nil
	}
	if oid == pgtype.BPCharOID {
		raw = append(raw, strings.Repeat(" ", most-length)...)
	}
	return raw, nil
}

// Name refuses what Postgres would cut.
func Name(raw []byte) error {
	const most = 63
	if len(raw) > most {
		return fmt.Errorf("longer than %d bytes: %w", most, ErrValue)
	}
	return nil
}

// Time rounds a binary time or timestamp to a precision of so many digits, half away from zero, in place.
func Time(raw []byte, digits int32) []byte {
	if digits < 0 || digits >= 6 || len(raw) < 8 {
		return raw
	}
	micros := int64(binary.BigEndian.Uint64(raw))
	if micros == math.MaxInt64 || micros == math.MinInt64 { // infinity
		return raw
	}
	unit := int64(1)
	for range 6 - digits {
		unit *= 10
	}
	half := unit / 2
	if micros < 0 {
		half = -half
	}
	binary.BigEndian.PutUint64(raw, uint64((micros+half)/unit*unit))
	return raw
}

var modifiers = regexp.MustCompile(`\((\d+)(?:,(-?\d+))?\)`)

// Modifier is what pg_attribute would say of a type that is declared so, -1 for none.
func Modifier(oid uint32, declared string) int32 {
	found := modifiers.FindStringSubmatch(declared)
	if found == nil {
		return -1
	}
	first, _ := strconv.Atoi(found[1]) // digits alone
	second, _ := strconv.Atoi(found[2])
	switch oid {
	case pgtype.VarcharOID, pgtype.BPCharOID:
		return int32(first) + 4
	case pgtype.NumericOID:
		return int32(first)<<16 | int32(second)&0x7ff + 4
	case pgtype.TimeOID, pgtype.TimestampOID, pgtype.TimestamptzOID:
		return int32(first)
	}
	return -1
}

const (
	mostDigits   = 131072 // before the point; Postgres stores no more
	mostFraction = 16383
)

// Numeric is a number as Postgres prints it in a column with that modifier.
func Numeric(text string, mod int32) (string, error) {
	text = strings.TrimSpace(text)
	switch strings.ToLower(text) {
	case "nan":
		return "NaN", nil
	case "infinity", "+infinity", "inf", "+inf":
		return special("Infinity", mod)
	case "-infinity", "-inf":
		return special("-Infinity", mod)
	}
	n, ok := parseDecimal(text)
	if !ok {
		return "", fmt.Errorf("not a number: %w", ErrValue)
	}
	if mod >= 4 {
		precision, scale := (mod-4)>>16&0xffff, (mod-4)&0x7ff^1024
		scale -= 1024 // eleven bits with a sign
		n = n.round(int(scale))
		if len(strings.TrimLeft(n.whole+n.fraction, "0")) > int(precision+max(0, -scale)) {
			return "", fmt.Errorf("too many digits: %w", ErrValue)
		}
	}
	if len(n.whole) > mostDigits || len(n.fraction) > mostFraction {
		return "", fmt.Errorf("too many digits: %w", ErrValue)
	}
	return n.String(), nil
}

func special(name string, mod int32) (string, error) {
	if mod >= 4 {
		return "", fmt.Errorf("an infinite number: %w", ErrValue)
	}
	return name, nil
}

// decimal is a number by its digits.
type decimal struct {
	negative        bool
	whole, fraction string
}

var decimalForm = regexp.MustCompile(`^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,6}))?$`)

func parseDecimal(text string) (decimal, bool) {
	found := decimalForm.FindStringSubmatch(text)
	if found == nil || found[2]+found[3] == "" {
		return decimal{}, false
	}
	n := decimal{negative: found[1] == "-", whole: found[2], fraction: found[3]}
	exponent, _ := strconv.Atoi(found[4]) // at most six digits, or none
	if exponent > mostDigits || exponent < -2*mostFraction {
		return decimal{}, false
	}
	if exponent > 0 {
		moved := min(exponent, len(n.fraction))
		n.whole += n.fraction[:moved] + strings.Repeat("0", exponent-moved)
		n.fraction = n.fraction[moved:]
	}
	if exponent < 0 {
		n.whole = strings.Repeat("0", max(0, -exponent-len(n.whole))) + n.whole
		cut := len(n.whole) + exponent
		n.whole, n.fraction = n.whole[:cut], n.whole[cut:]+n.fraction
	}
	return n, true
}

// round keeps so many digits after the point, or clears so many before it; half away from zero.
func (n decimal) round(scale int) decimal {
	if len(n.fraction) <= scale {
		n.fraction += strings.Repeat("0", scale-len(n.fraction))
		return n
	}
	digits := []byte("0" + n.whole + n.fraction)
	keep := len(n.whole) + 1 + scale
	if keep < 1 {
		digits = append(bytes.Repeat([]byte("0"), 1-keep), digits...)
		keep = 1
	}
	up := digits[keep] >= '5'
	for i := keep - 1; up; i-- {
		if up = digits[i] == '9'; up {
			digits[i] = '0'
		} else {
			digits[i]++
		}
	}
	if scale <= 0 {
		n.whole, n.fraction = string(digits[:keep])+strings.Repeat("0", -scale), ""
		return n
	}
	n.whole, n.fraction = string(digits[:keep-scale]), string(digits[keep-scale:keep])
	return n
}

// String is the number as Postgres prints it.
func (n decimal) String() string {
	whole := strings.TrimLeft(n.whole, "0")
	text := whole
	if text == "" {
		text = "0"
	}
	if n.fraction != "" {
		text += "." + n.fraction
	}
	if n.negative && strings.Trim(whole+n.fraction, "0") != "" {
		text = "-" + text
	}
	return text
}
