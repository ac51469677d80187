package cell

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Every part of an encoded key is a tag, a u32 length and the bytes. The tag keeps the parts
// of different types apart and survives a widening of the key column (int4 to int8, varchar to text).
const (
	tagInt       = 'i'
	tagUUID      = 'u'
	tagText      = 's'
	tagBytes     = 'b'
	tagDate      = 'd'
	tagTimestamp = 't'
	tagNumeric   = 'n'
	tagOther     = 'o'
	tagCanary    = 'c' // of no row: only a key's canary carries it
)

func appendPart(dst []byte, tag byte, part []byte) []byte {
	dst = append(dst, tag)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(part)))
	return append(dst, part...)
}

// AppendKeyCount begins an encoded key of n columns (1 to 65535); the n parts follow in key order.
func AppendKeyCount(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint16(dst, uint16(n))
}

// AppendKeyInt appends the part of an int2, int4 or int8 column.
func AppendKeyInt(dst []byte, v int64) []byte {
	dst = append(dst, tagInt, 0, 0, 0, 8)
	return binary.BigEndian.AppendUint64(dst, uint64(v))
}

// AppendKeyUUID appends the part of a uuid column.
func AppendKeyUUID(dst []byte, id [16]byte) []byte { return appendPart(dst, tagUUID, id[:]) }

// AppendKeyText appends the part of a text, varchar or citext column: its UTF-8 bytes. For
// char(n) the caller removes the trailing blanks, as KeyEncoder does.
func AppendKeyText(dst, text []byte) []byte { return appendPart(dst, tagText, text) }

// AppendKeyBytes appends the part of a bytea column.
func AppendKeyBytes(dst, b []byte) []byte { return appendPart(dst, tagBytes, b) }

// AppendKeyDate appends the part of a date column: days since 2000-01-01.
func AppendKeyDate(dst []byte, days int32) []byte {
	dst = append(dst, tagDate, 0, 0, 0, 4)
	return binary.BigEndian.AppendUint32(dst, uint32(days))
}

// AppendKeyTimestamp appends the part of a timestamp or timestamptz column: microseconds since
// 2000-01-01, of UTC for timestamptz.
func AppendKeyTimestamp(dst []byte, micros int64) []byte {
	dst = append(dst, tagTimestamp, 0, 0, 0, 8)
	return binary.BigEndian.AppendUint64(dst, uint64(micros))
}

// AppendKeyNumeric appends the part of a numeric column from Postgres's output text. Equal
// numbers make equal parts: 1.0, 1.00 and 1 are the same key.
func AppendKeyNumeric(dst, text []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, tagNumeric, 0, 0, 0, 0)
	dst, err := appendCanonicalNumeric(dst, text)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(dst[start+1:], uint32(len(dst)-start-5))
	return dst, nil
}

// AppendKeyOther appends the part of a column of any other type: its output text under the
// pinned session settings.
func AppendKeyOther(dst, text []byte) []byte { return appendPart(dst, tagOther, text) }

// appendCanonicalNumeric writes the one form of a number: no leading zeros but one before the
// point, no trailing zeros after it, no point without digits after it, no minus before zero.
func appendCanonicalNumeric(dst, text []byte) ([]byte, error) {
	switch string(text) {
	case "NaN", "Infinity", "-Infinity":
		return append(dst, text...), nil
	}
	digits, negative := bytes.CutPrefix(text, []byte("-"))
	whole, fraction, point := bytes.Cut(digits, []byte("."))
	if !allDigits(whole) || len(whole) == 0 || !allDigits(fraction) || point && len(fraction) == 0 {
		return nil, fmt.Errorf("encode numeric key: not a number: %w", ErrWire)
	}
	whole, fraction = bytes.TrimLeft(whole, "0"), bytes.TrimRight(fraction, "0")
	if negative && len(whole)+len(fraction) > 0 {
		dst = append(dst, '-')
	}
	if len(whole) == 0 {
		dst = append(dst, '0')
	}
	dst = append(dst, whole...)
	if len(fraction) > 0 {
		dst = append(append(dst, '.'), fraction...)
	}
	return dst, nil
}

func allDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
