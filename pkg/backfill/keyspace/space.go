package keyspace

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Space is the key space of one leaf table.
type Space struct {
	Leaf  uint32 // oid
	Table pg.Table
	Key   []Column
	Keys  *cell.KeyEncoder // how the key enters a cell's address
}

// KeyList is the key's columns of alias t, comma-separated.
func (s *Space) KeyList() string {
	names := make([]string, len(s.Key))
	for i, k := range s.Key {
		names[i] = "t." + pg.Ident(k.Name)
	}
	return strings.Join(names, ", ")
}

// KeyFormats are those of the key's columns.
func (s *Space) KeyFormats() []int16 {
	list := make([]int16, len(s.Key))
	for i, k := range s.Key {
		list[i] = k.Format()
	}
	return list
}

// RowIs is the condition that finds one row of alias t by its key, in the parameters from first on.
func (s *Space) RowIs(first int) string {
	terms := make([]string, len(s.Key))
	for i, k := range s.Key {
		terms[i] = k.Compare("=", "$"+strconv.Itoa(first+i))
	}
	return strings.Join(terms, " AND ")
}

// PlainKey is the same without an alias, as an encrypting proxy understands it, and the parameter behind it.
func (s *Space) PlainKey(first int) (string, int) {
	where := ""
	for i, k := range s.Key {
		if i > 0 {
			where += " AND "
		}
		where += fmt.Sprintf("%s %s $%d", pg.Ident(k.Name), k.operator("=").SQL(), first)
		first++
	}
	return where, first
}

// rowOperator is the one operator that compares all columns of the key, or "" if they have several.
func (s *Space) rowOperator(op string) string {
	first := s.Key[0].operator(op)
	for _, k := range s.Key[1:] {
		if k.operator(op) != first {
			return ""
		}
	}
	return first.SQL()
}

// Compare is "the key stands in relation op (one of >, <=) to parameters $first…". A row comparison collapses to one
// index condition; operators of several schemas cannot be written as one, so they are spelled out.
func (s *Space) Compare(op string, first int) string {
	params := make([]string, len(s.Key))
	for i := range s.Key {
		params[i] = "$" + strconv.Itoa(first+i)
	}
	return s.compareWith(op, params)
}

// compareWith is the same for any expressions.
func (s *Space) compareWith(op string, params []string) string {
	if len(s.Key) == 1 {
		return s.Key[0].Compare(op, params[0])
	}
	if operator := s.rowOperator(op); operator != "" {
		return fmt.Sprintf("ROW(%s) %s ROW(%s)", s.KeyList(), operator, strings.Join(params, ", "))
	}
	return s.compareSpelled(op, params)
}

func (s *Space) compareSpelled(op string, params []string) string {
	strict := op[:1]
	var terms []string
	for i, k := range s.Key {
		var term []string
		for j := range s.Key[:i] {
			term = append(term, s.Key[j].Compare("=", params[j]))
		}
		use := strict
		if i == len(s.Key)-1 {
			use = op
		}
		terms = append(terms, strings.Join(append(term, k.Compare(use, params[i])), " AND "))
	}
	start := s.Key[0].Compare(strict+"=", params[0]) // lets the index begin, or end, there
	return start + " AND ((" + strings.Join(terms, ") OR (") + "))"
}

// Where appends the bounds and says which parameter comes next.
func (s *Space) Where(b *strings.Builder, lower, upper bool, next int) int {
	word := " WHERE "
	if lower {
		b.WriteString(word + s.Compare(">", next))
		next, word = next+len(s.Key), " AND "
	}
	if upper {
		b.WriteString(word + s.Compare("<=", next))
		next += len(s.Key)
	}
	return next
}
