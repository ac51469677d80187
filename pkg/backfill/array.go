package backfill

import "encoding/binary"

// array builds one array parameter out of raw wire values, so that a value is never decoded on its way through.
// Binary is the format of array_recv (array header, then length-prefixed elements); the text form is an array literal.
type array struct {
	buf    []byte
	n      uint32
	binary bool
}

// reset starts an array of elements of type oid.
func (a *array) reset(oid uint32, asBinary bool) {
	a.buf, a.n, a.binary = a.buf[:0], 0, asBinary
	if !asBinary {
		a.buf = append(a.buf, '{')
		return
	}
	a.buf = binary.BigEndian.AppendUint32(a.buf, 1) // dimensions
	a.buf = binary.BigEndian.AppendUint32(a.buf, 1) // may hold nulls
	a.buf = binary.BigEndian.AppendUint32(a.buf, oid)
	a.buf = binary.BigEndian.AppendUint32(a.buf, 0) // length, set by bytes
	a.buf = binary.BigEndian.AppendUint32(a.buf, 1) // lower bound
}

// add appends one element in the array's format; nil is NULL.
func (a *array) add(wire []byte) {
	a.n++
	switch {
	case !a.binary:
		a.addText(wire)
	case wire == nil:
		a.buf = append(a.buf, 0xff, 0xff, 0xff, 0xff)
	default:
		a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(len(wire)))
		a.buf = append(a.buf, wire...)
	}
}

func (a *array) addText(wire []byte) {
	if a.n > 1 {
		a.buf = append(a.buf, ',')
	}
	if wire == nil {
		a.buf = append(a.buf, "NULL"...)
		return
	}
	a.buf = append(a.buf, '"')
	for _, b := range wire {
		if b == '"' || b == '\\' {
			a.buf = append(a.buf, '\\')
		}
		a.buf = append(a.buf, b)
	}
	a.buf = append(a.buf, '"')
}

// bytes ends the array. An empty array would need no dimension; the engine never sends one.
func (a *array) bytes() []byte {
	if !a.binary {
		return append(a.buf, '}')
	}
	binary.BigEndian.PutUint32(a.buf[12:], a.n)
	return a.buf
}

// format is the protocol's format code of the parameter.
func (a *array) format() int16 {
	if a.binary {
		return 1
	}
	return 0
}
