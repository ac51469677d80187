package shape

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// making is the kind of a column whose values an expression makes inside Postgres. Nothing of them is read: a chunk
// knows the keys and versions of the rows that are not done, and its UPDATE makes the values of those that are still the
// same. What verifies is Postgres too.
type making struct {
	column  ddl.Column
	compare bool // a row that counts as done is not, if its value is another one than the expression makes now
}

// openMaking is the kind of a column that an expression makes; [keyspace.ErrChanged] if one of the columns that it
// reads is another one now.
func openMaking(relation pg.Relation, c work.Column) (making, error) {
	e := c.Expression
	for _, inputs := range [][]ddl.Input{e.Inputs, e.Judges} {
		for _, in := range inputs {
			if column, found := relation.Column(in.Name); !found || column.Attnum != in.Attnum {
				return making{}, fmt.Errorf("column %s of %s: %w", in.Name, relation.Table(), keyspace.ErrChanged)
			}
		}
	}
	k := making{column: ddl.Column{ID: c.ID, Table: relation.Table(), Source: c.Source, Target: c.Target, Expression: e}}
	k.compare = c.Compare && k.column.Comparable()
	return k, nil
}

// input is nothing: a value that never leaves the server need not be read.
func (making) input() operand { return operand{"NULL::pg_catalog.bool", true} }

func (k making) Output() Result {
	r := Result{name: k.column.Target, made: k.column.Value("t")}
	if e := k.column.Expression; e.Version != "" {
		r.beside = fmt.Sprintf(", %s = %d", pg.Ident(e.Version), e.Number)
	}
	return r
}

func (k making) uncovered() string {
	if k.compare {
		return fmt.Sprintf("(%s OR NOT %s)", k.column.Undone("t"), k.column.Made("t"))
	}
	return k.column.Undone("t")
}

func (k making) fallible() bool { return k.column.Fallible() || k.compare }

// evidence is a verdict that the server reaches: see Judge.
func (k making) evidence() [2]operand {
	verdict := "'uncovered'"
	if k.column.Fallible() {
		verdict = fmt.Sprintf("CASE WHEN %s IS DISTINCT FROM NULL THEN 'stale' ELSE 'uncovered' END", present(k.column.Target))
	}
	other := ""
	if k.column.Comparable() && (k.column.Expression.Version != "" || k.column.Expression.When != "") {
		other = fmt.Sprintf(" WHEN NOT %s THEN 'stale'", k.column.Made("t"))
	}
	sql := fmt.Sprintf("CASE WHEN %s THEN %s%s ELSE 'covered' END", k.uncovered(), verdict, other)
	return [2]operand{{sql: sql}, {sql: "NULL::pg_catalog.text"}}
}

// Judge takes the server's word.
func (making) Judge(w *Witness) (Verdict, error) {
	switch string(w.Source) {
	case "covered":
		return Verdict{Outcome: Covered}, nil
	case "uncovered":
		return Verdict{Outcome: Uncovered}, nil
	case "stale":
		return Verdict{Outcome: Stale}, nil
	}
	return Verdict{Outcome: Broken}, nil
}

func (making) transform(*cell.Keyring) (transform.Transform, error) { return inPostgres{}, nil }

// inPostgres has nothing to do.
type inPostgres struct{}

func (inPostgres) Apply(ctx context.Context, _ []transform.Value) error { return ctx.Err() }

// unjudged is a kind of which nothing is asked: of a row whose judgement raises an error.
type unjudged struct{ kind }

func (unjudged) uncovered() string { return "true" }

func (unjudged) fallible() bool { return false }

func (unjudged) Judge(*Witness) (Verdict, error) { return Verdict{Outcome: Broken}, nil }

func (unjudged) evidence() [2]operand {
	return [2]operand{{sql: "'broken'"}, {sql: "NULL::pg_catalog.text"}}
}

// Fallible says that judging a row may raise an error.
func (s *Shape) Fallible() bool {
	for _, c := range s.Columns {
		if k, is := c.kind.(interface{ fallible() bool }); is && k.fallible() {
			return true
		}
	}
	return false
}

// Blind is the shape for reading a row that cannot be judged.
func (s *Shape) Blind() *Shape {
	b := *s
	b.Columns = make([]Column, len(s.Columns))
	for i, c := range s.Columns {
		if k, is := c.kind.(interface{ fallible() bool }); is && k.fallible() {
			c.kind = unjudged{c.kind}
		}
		b.Columns[i] = c
	}
	return &b
}
