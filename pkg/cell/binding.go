package cell

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// How a binding is called, in the registry and everywhere else.
const (
	BoundToKey     = "pk"      // to the row's key
	BoundToNothing = "none"    // a cell opens anywhere in its column
	BoundToColumns = "columns" // to the values of columns of the row
)

// Binding is what the scheme's cells are bound to: pk, none or columns.
func (s Scheme) Binding() string {
	switch {
	case s.Columns != "":
		return BoundToColumns
	case s.RowBound:
		return BoundToKey
	}
	return BoundToNothing
}

// Bind is the scheme with that binding; columns are those of [Scheme.Columns], and "" with any other than columns.
func (s Scheme) Bind(binding, columns string) (Scheme, error) {
	s.RowBound, s.Columns = binding != BoundToNothing, columns
	if s.Binding() != binding || columns != "" && boundNumbers(columns) == nil {
		return s, fmt.Errorf("binding %.20q is unknown to this program", strings.TrimSpace(binding+" "+columns))
	}
	return s, nil
}

// BoundTo is how a scheme says which columns it is bound to: their attribute numbers in the table, or in the root of its
// partitions, each with the tag of its values in an encoded key, in the order in which they are encoded. A column that
// is renamed, or widened so that its values stay the same, is the same; one of another type is another.
func BoundTo(numbers []int16, e *KeyEncoder) string {
	var b strings.Builder
	for i, number := range numbers {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d%c", number, e.columns[i].tag)
	}
	return b.String()
}

// BoundNumbers are the attribute numbers of the columns that the scheme is bound to; nil if it is bound to none.
func (s Scheme) BoundNumbers() []int16 { return boundNumbers(s.Columns) }

// boundNumbers is nil too where the text is not what BoundTo writes.
func boundNumbers(columns string) (numbers []int16) {
	if columns == "" {
		return nil
	}
	for _, one := range strings.Split(columns, ",") {
		if len(one) < 2 || !strings.ContainsRune(keyTags, rune(one[len(one)-1])) {
			return nil
		}
		digits := one[:len(one)-1]
		number, err := strconv.ParseInt(digits, 10, 16)
		if err != nil || number < 1 || strconv.FormatInt(number, 10) != digits || slices.Contains(numbers, int16(number)) {
			return nil
		}
		numbers = append(numbers, int16(number))
	}
	return numbers
}

const keyTags = string(tagInt) + string(tagUUID) + string(tagText) + string(tagBytes) + string(tagDate) + string(tagTimestamp) + string(tagNumeric) + string(tagOther)

// unbound is what an address lacks that a row-bound scheme needs.
func (s Scheme) unbound() error {
	if s.Columns != "" {
		return fmt.Errorf("scheme %d of column %d: %w", s.Number, s.Column, ErrNoColumns)
	}
	return ErrNoKey
}

// Bindings are the columns that schemes of these columns are bound to whose keys may be used, each once: what an
// address must hold to seal and open under any of them.
func (k *Keyring) Bindings(columns ...uint32) (list []string) {
	for at, e := range *k.schemes.Load() {
		if e.scheme.Columns == "" || !slices.Contains(columns, at.column) || slices.Contains(list, e.scheme.Columns) {
			continue
		}
		for _, key := range e.keys {
			if _, err := key.use(); err == nil {
				list = append(list, e.scheme.Columns)
				break
			}
		}
	}
	slices.Sort(list)
	return list
}
