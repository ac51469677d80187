package transform

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
)

// Opener turns values that somebody else encrypted into the wire form that a codec reads, as if a column held them in the
// clear. A value is read from Postgres as itself, or with what stands beside it as one record in binary.
type Opener struct {
	Reader Reader
	Codec  cell.Codec
	IV     int // number of the record's field that is the vector; 0: none. The value itself is field 0
	Salt   int // likewise
}

// ErrSealedNull says that a value opens, and holds NULL. Nothing can be sealed of it, and a row that has such a value and no
// cell cannot be told from one that nobody has come to yet.
var ErrSealedNull = errors.New("it is an encrypted NULL")

// Wire opens one value; nil for NULL. What does not open, or opens to what the codec does not read, is an [ErrValue];
// any other error is not the value's fault.
func (o Opener) Wire(ctx context.Context, in []byte) ([]byte, error) {
	if in == nil {
		return nil, nil
	}
	v, err := o.value(in)
	if err != nil {
		return nil, err
	}
	plain, err := o.Reader.Open(ctx, v)
	switch {
	case errors.Is(err, foreign.ErrForm), errors.Is(err, foreign.ErrAuth), errors.Is(err, foreign.ErrUnsupported), cell.KEKClassOf(err) == cell.KEKCorrupt:
		return nil, fmt.Errorf("%w: %w", ErrValue, err)
	case err != nil:
		return nil, err
	case plain == nil:
		return nil, fmt.Errorf("%w: %w", ErrValue, ErrSealedNull)
	}
	wire, err := wireOf(o.Codec, plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrValue, err)
	}
	return wire, nil
}

// Tells says whether opening a value tells anything of the key: an empty one may never have been encrypted.
func (o Opener) Tells(in []byte) bool {
	v, err := o.value(in)
	return err != nil || len(v.Cell) > 0
}

func (o Opener) value(in []byte) (foreign.Value, error) {
	if o.IV == 0 && o.Salt == 0 {
		return foreign.Value{Cell: in}, nil
	}
	fields, err := record(in)
	if err != nil || len(fields) <= max(o.IV, o.Salt) {
		return foreign.Value{}, errors.Join(errors.New("read a value with what stands beside it: not the record that was asked for"), err)
	}
	v := foreign.Value{Cell: fields[0]}
	if o.IV > 0 {
		v.IV = fields[o.IV]
		if v.IV == nil && len(v.Cell) > 0 { // some never encrypt an empty text
			return v, fmt.Errorf("%w: it has no initialization vector", ErrValue)
		}
	}
	if o.Salt > 0 {
		v.Salt = fields[o.Salt]
	}
	return v, nil
}

// record takes a record in Postgres's binary format to pieces: a number of fields, and of each its type, length (-1 for
// NULL) and bytes.
func record(in []byte) (fields [][]byte, err error) {
	next := func() (n int32) {
		if len(in) < 4 {
			err = errors.New("too short")
			return 0
		}
		n, in = int32(binary.BigEndian.Uint32(in)), in[4:]
		return n
	}
	for range next() {
		_ = next() // its type
		n := next()
		switch {
		case err != nil || n > int32(min(len(in), math.MaxInt32)):
			return nil, errors.New("too short")
		case n < 0:
			fields = append(fields, nil)
			continue
		}
		fields, in = append(fields, in[:n:n]), in[n:]
	}
	return fields, err
}

// wireOf is what Postgres would send of a column for a value that stands there as text; of bytes and texts it is the
// value itself.
func wireOf(codec cell.Codec, text []byte) ([]byte, error) {
	switch codec {
	case cell.CodecInt:
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("it holds no whole number: %w", cell.ErrWire)
		}
		return binary.BigEndian.AppendUint64(nil, uint64(n)), nil
	case cell.CodecFloat8:
		f, err := strconv.ParseFloat(string(text), 64)
		if err != nil {
			return nil, fmt.Errorf("it holds no number: %w", cell.ErrWire)
		}
		return binary.BigEndian.AppendUint64(nil, math.Float64bits(f)), nil
	case cell.CodecBool:
		switch string(text) {
		case "t", "true", "1":
			return []byte{1}, nil
		case "f", "false", "0":
			return []byte{0}, nil
		}
		return nil, fmt.Errorf("it holds no boolean: %w", cell.ErrWire)
	}
	return text, nil
}

// Opened lets inner work on what an opener opens.
func Opened(opener Opener, inner Transform) Transform {
	return &altered{inner: inner, alter: func(ctx context.Context, v Value) ([]byte, error) {
		wire, err := opener.Wire(ctx, v.In)
		if err != nil {
			return nil, fmt.Errorf("open a foreign value of column %d: %w", v.Address.Column, err)
		}
		return wire, nil
	}}
}
