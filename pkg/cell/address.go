package cell

// aadLabel opens the associated data of every cell: product and format of the associated data.
const aadLabel = "cfcell/1"

// Address says where a cell belongs. It holds a row's primary key, so it prints as "redacted".
type Address struct {
	redacted
	Column uint32 // column id
	Key    []byte // the row's encoded key, as KeyEncoder.Append writes it; unused when the scheme is not row-bound
	Bound  []Bound
}

// Bound are the values of a row's columns that schemes of one [Scheme.Columns] are bound to.
type Bound struct {
	redacted
	Columns string // as the scheme has it
	Key     []byte // encoded like a row's key
}

// part is what of the address a cell of the scheme is bound to; nil if it is not there.
func (a Address) part(s Scheme) []byte {
	if s.Columns == "" {
		return a.Key
	}
	for i := range a.Bound {
		if a.Bound[i].Columns == s.Columns {
			return a.Bound[i].Key
		}
	}
	return nil
}

// appendAAD writes what is authenticated beside the value: label, registry, header and key part.
// Header and registry have fixed lengths and the key part comes last, so two different
// addresses never yield the same bytes.
func appendAAD(dst []byte, registry [16]byte, header []byte, rowBound bool, key []byte) []byte {
	dst = append(dst, aadLabel...)
	dst = append(dst, registry[:]...)
	dst = append(dst, header[:HeaderSize]...)
	if !rowBound {
		return append(dst, 0, 0)
	}
	return append(dst, key...)
}

// bindable reports whether an encoded key names at least one key column.
func bindable(key []byte) bool { return len(key) > 2 && (key[0] != 0 || key[1] != 0) }
