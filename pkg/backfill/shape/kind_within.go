package shape

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// limited is a kind of which only the rows inside a condition need a cell. A row outside that has one is like any other:
// its cell is cleared if its source is gone, and opened by whoever verifies.
type limited struct {
	kind
	column ddl.Column
	spared *sign // where a row without a cell would be uncovered; else nil
}

// openLimited is the kind within the column's condition; [keyspace.ErrChanged] if one of the columns that it reads is
// another one now.
func openLimited(relation pg.Relation, c work.Column, k kind) (kind, error) {
	if c.Where == nil {
		return k, nil
	}
	if !c.Where.Stands(relation) {
		return nil, fmt.Errorf("a column of %s, which the condition reads: %w", relation.Table(), keyspace.ErrChanged)
	}
	l := limited{kind: k, column: ddl.Column{ID: c.ID, Source: c.Source, Target: c.Target, Where: c.Where}}
	if sealed, is := k.(sealing); is && sealed.scheme.SealsNulls() {
		l.spared = signIn(sealed.form)
	}
	return l, nil
}

// needed is the condition, of a row of alias t, that its cell is looked at, or for.
func (k limited) needed() string {
	return fmt.Sprintf("(%s IS NOT NULL OR %s)", present(k.column.Target), k.column.Within("t"))
}

func (k limited) uncovered() string {
	return fmt.Sprintf("(%s AND %s)", k.kind.uncovered(), k.needed())
}

func (limited) fallible() bool { return true }

// evidence has no source of a row that needs no cell: nothing and nothing are right. Where they are not, because NULL is
// sealed, such a row has a sign in the place of a cell.
func (k limited) evidence() [2]operand {
	read := k.kind.evidence()
	if k.spared != nil {
		read[1].sql = fmt.Sprintf("CASE WHEN %s THEN %s ELSE %s END", k.needed(), read[1].sql, k.spared.sql)
	}
	read[0].sql = fmt.Sprintf("CASE WHEN %s THEN %s END", k.needed(), read[0].sql)
	return read
}

// Judge leaves a row be that needs no cell.
func (k limited) Judge(w *Witness) (Verdict, error) {
	if k.spared != nil && w.Target != nil && string(w.Target) == k.spared.wire {
		return Verdict{Outcome: Covered, HasImage: true}, nil
	}
	return k.kind.Judge(w)
}
