package cell

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Codec numbers how the bytes Postgres sends for a value become the bytes that are sealed.
type Codec uint8

// The codecs. Fixed-width types travel in Postgres's binary format, which no setting disturbs;
// the rest as text under the pinned session settings, because binary forms embed OIDs.
const (
	CodecBytes       Codec = 0x00 // bytea: the bytes
	CodecText        Codec = 0x01 // text, varchar, char(n) with its blanks, citext, name, enum label, json, xml: UTF-8
	CodecOutput      Codec = 0x02 // everything else: the type's output text
	CodecBool        Codec = 0x10 // 1 byte, 0 or 1
	CodecInt         Codec = 0x11 // int2, int4, int8: int64, big-endian
	CodecFloat4      Codec = 0x12 // IEEE bits, 4 bytes, big-endian
	CodecFloat8      Codec = 0x13 // IEEE bits, 8 bytes, big-endian
	CodecDate        Codec = 0x14 // int32 days since 2000-01-01
	CodecTime        Codec = 0x15 // int64 microseconds since midnight
	CodecTimeTZ      Codec = 0x16 // int64 microseconds, int32 seconds west of UTC
	CodecTimestamp   Codec = 0x17 // int64 microseconds since 2000-01-01
	CodecTimestampTZ Codec = 0x18 // int64 microseconds since 2000-01-01 UTC
	CodecInterval    Codec = 0x19 // int64 microseconds, int32 days, int32 months
	CodecUUID        Codec = 0x1A // 16 bytes
)

// Format is a Postgres wire format; the values are the protocol's.
type Format int16

// The wire formats.
const (
	Text   Format = 0
	Binary Format = 1
)

// ErrWire marks a value that is not what its codec reads or writes.
var ErrWire = errors.New("value does not fit its codec")

// width returns the sealed length of a fixed-width codec, or 0.
func (c Codec) width() int {
	switch c {
	case CodecBool:
		return 1
	case CodecFloat4, CodecDate:
		return 4
	case CodecInt, CodecFloat8, CodecTime, CodecTimestamp, CodecTimestampTZ:
		return 8
	case CodecTimeTZ:
		return 12
	case CodecInterval, CodecUUID:
		return 16
	}
	return 0
}

func (c Codec) variable() bool { return c == CodecBytes || c == CodecText || c == CodecOutput }

func (c Codec) known() bool { return c.variable() || c.width() > 0 }

// Holds says whether what another codec seals is what c would seal for the same value, so that a cell may be sealed anew
// under c without a look at its column: the same codec, or one of those that seal a value's own bytes.
func (c Codec) Holds(other Codec) bool { return c == other || c.variable() && other.variable() }

// String returns the codec's number and name.
func (c Codec) String() string {
	names := map[Codec]string{
		CodecBytes: "bytes", CodecText: "text", CodecOutput: "output", CodecBool: "bool", CodecInt: "int",
		CodecFloat4: "float4", CodecFloat8: "float8", CodecDate: "date", CodecTime: "time", CodecTimeTZ: "timetz",
		CodecTimestamp: "timestamp", CodecTimestampTZ: "timestamptz", CodecInterval: "interval", CodecUUID: "uuid",
	}
	if name, ok := names[c]; ok {
		return fmt.Sprintf("%02x %s", uint8(c), name)
	}
	return fmt.Sprintf("%02x unknown", uint8(c))
}

// Wire returns the format in which the column is read for Encode and written from Decode.
func (c Codec) Wire() Format {
	if c == CodecText || c == CodecOutput {
		return Text
	}
	return Binary
}

// DefaultPadding returns the padding for new schemes: 16 where length tells something about
// the value, 0 where it is always the same.
func (c Codec) DefaultPadding() int {
	if c.variable() {
		return 16
	}
	return 0
}

// Encode appends to dst the bytes to seal for one value, as Postgres sent it in Wire format.
// A nil wire is SQL NULL, which is never sealed: it is refused.
func (c Codec) Encode(dst, wire []byte) ([]byte, error) {
	if wire == nil {
		return nil, fmt.Errorf("encode with codec %v: a NULL: %w", c, ErrWire)
	}
	if c == CodecInt {
		return encodeInt(dst, wire)
	}
	if err := c.check(wire); err != nil {
		return nil, fmt.Errorf("encode with codec %v: %w", c, err)
	}
	return append(dst, wire...), nil
}

// Decode appends to dst what Postgres accepts for a column of type t in Wire format. It
// refuses what Encode does not make and an integer too wide for the column. The result is
// never nil on success, so an empty value stays distinguishable from NULL.
func (c Codec) Decode(dst, plaintext []byte, t TypeInfo) ([]byte, error) {
	if err := c.check(plaintext); err != nil {
		return nil, fmt.Errorf("decode with codec %v: %w", c, err)
	}
	if c == CodecInt {
		return decodeInt(dst, plaintext, t)
	}
	if dst == nil {
		dst = make([]byte, 0, len(plaintext))
	}
	return append(dst, plaintext...), nil
}

// check refuses bytes that the codec never seals.
func (c Codec) check(b []byte) error {
	switch {
	case !c.known():
		return fmt.Errorf("unknown codec: %w", ErrWire)
	case c.variable():
		return c.checkText(b)
	case len(b) != c.width():
		return fmt.Errorf("%d bytes, want %d: %w", len(b), c.width(), ErrWire)
	case c == CodecBool && b[0] > 1:
		return fmt.Errorf("neither 0 nor 1: %w", ErrWire)
	}
	return nil
}

func (c Codec) checkText(b []byte) error {
	if c == CodecBytes {
		return nil
	}
	if !utf8.Valid(b) {
		return fmt.Errorf("not UTF-8: %w", ErrWire)
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return fmt.Errorf("holds a zero byte: %w", ErrWire)
	}
	return nil
}

// readInt reads an int2, int4 or int8 as Postgres sends it in binary.
func readInt(wire []byte) (int64, error) {
	switch len(wire) {
	case 2:
		return int64(int16(binary.BigEndian.Uint16(wire))), nil
	case 4:
		return int64(int32(binary.BigEndian.Uint32(wire))), nil
	case 8:
		return int64(binary.BigEndian.Uint64(wire)), nil
	}
	return 0, fmt.Errorf("integer of %d bytes, want 2, 4 or 8: %w", len(wire), ErrWire)
}

func encodeInt(dst, wire []byte) ([]byte, error) {
	v, err := readInt(wire)
	if err != nil {
		return nil, fmt.Errorf("encode with codec %v: %w", CodecInt, err)
	}
	return binary.BigEndian.AppendUint64(dst, uint64(v)), nil
}

func decodeInt(dst, plaintext []byte, t TypeInfo) ([]byte, error) {
	v := int64(binary.BigEndian.Uint64(plaintext))
	switch {
	case t.OID == oidInt8:
		return binary.BigEndian.AppendUint64(dst, uint64(v)), nil
	case t.OID == oidInt4 && v >= math.MinInt32 && v <= math.MaxInt32:
		return binary.BigEndian.AppendUint32(dst, uint32(int32(v))), nil
	case t.OID == oidInt2 && v >= math.MinInt16 && v <= math.MaxInt16:
		return binary.BigEndian.AppendUint16(dst, uint16(int16(v))), nil
	case t.OID == oidInt4 || t.OID == oidInt2:
		return nil, fmt.Errorf("decode with codec %v: integer out of range for %s: %w", CodecInt, t.Name, ErrWire)
	}
	return nil, fmt.Errorf("decode with codec %v: column of type %s: %w", CodecInt, t.Name, ErrWire)
}
