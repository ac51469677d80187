package ddl

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Expression is what makes a target's values inside Postgres: an expression of SQL over one row. Its texts are as
// Postgres printed them when it had read them: columns by their bare names, everything but Postgres's own qualified. So
// are its rules for which rows are done: those whose Version is at least Number; else those for which When is true; else
// those whose target is, byte for byte, what the expression makes.
type Expression struct {
	SQL      string  `json:"sql"`
	Inputs   []Input `json:"inputs"`             // the columns that it reads
	Type     string  `json:"type"`               // of the target, with its modifiers
	Volatile bool    `json:"volatile,omitempty"` // asked twice, it may make two values of one row
	Version  string  `json:"version,omitempty"`  // a column of the table
	Number   int64   `json:"number,omitempty"`
	When     string  `json:"when,omitempty"`
	Judges   []Input `json:"judges,omitempty"` // the columns that When reads
}

// Input is a column that an expression reads. Its Attnum is that of the table, or of the partitions' root.
type Input struct {
	Name      string `json:"name"`
	Attnum    int16  `json:"attnum"`
	Collation string `json:"collation,omitempty"` // where it is not that of the column's type: qualified and quoted
}

// Expression functions are parsed once, when they are made: whoever calls one later, under whatever search path, calls
// what was meant. Postgres inlines them.
func valueFunction(id uint32) string { return fmt.Sprintf("cipherfleet.value_%d", id) }
func madeFunction(id uint32) string  { return fmt.Sprintf("cipherfleet.made_%d", id) }
func doneFunction(id uint32) string  { return fmt.Sprintf("cipherfleet.done_%d", id) }

// Rehearse is [Column.Functions], or [Column.WithinFunction], in the session's own schema, for a transaction that is rolled back: it fails where they
// would fail.
func (c Column) Rehearse() (statements []string) {
	var all Step
	if c.Expression != nil {
		all = c.Functions()
	}
	if c.Where != nil {
		all.Do = append(all.Do, c.WithinFunction().Do...)
	}
	for _, statement := range all.Do {
		statements = append(statements, strings.Replace(statement, " cipherfleet.", " pg_temp.", 1))
	}
	return statements
}

// InPlace says that the expression's value takes the place of its source.
func (c Column) InPlace() bool { return c.Expression != nil && c.Source == c.Target }

// Follows says that capture makes the target's value itself, with each write: see [Column.Capture].
func (c Column) Follows() bool {
	return c.Expression != nil && c.Expression.Version == "" && !c.InPlace()
}

// Comparable says that a target can be compared with what the expression makes of its row.
func (c Column) Comparable() bool { return !c.Expression.Volatile && !c.InPlace() }

// Fallible says that judging whether a row is done asks for its value, or for a condition, which may raise an error.
func (c Column) Fallible() bool { return c.Expression.Version == "" }

// Indexable says that an index can hold the rows that are not done: nothing but a version is asked for, and no condition.
func (c Column) Indexable() bool {
	return c.Where == nil && (c.Expression == nil || c.Expression.Version != "")
}

// Value is the expression's value for a row of this alias. In the statement of an UPDATE it is assigned, not cast: what
// does not fit into the target is an error there.
func (c Column) Value(alias string) string {
	return valueFunction(c.ID) + "(" + fields(alias, c.Expression.Inputs) + ")"
}

// Made is the condition that a row's target is, byte for byte, what the expression makes.
func (c Column) Made(alias string) string {
	return madeFunction(c.ID) + "(" + fields(alias, c.withTarget()) + ")"
}

// Undone is the condition on a row of this alias, which may be "", that its value is still to be made. It is never NULL.
func (c Column) Undone(alias string) string {
	switch e := c.Expression; {
	case e.Version != "":
		return fmt.Sprintf("(%s OPERATOR(pg_catalog.>=) %d) IS NOT TRUE", fields(alias, []Input{{Name: e.Version}}), e.Number)
	case e.When != "":
		return "NOT " + doneFunction(c.ID) + "(" + fields(alias, e.Judges) + ")"
	}
	return "NOT " + c.Made(alias)
}

// withTarget are the inputs, and the target among or behind them.
func (c Column) withTarget() []Input {
	if slices.ContainsFunc(c.Expression.Inputs, func(i Input) bool { return i.Name == c.Target }) {
		return c.Expression.Inputs
	}
	return append(slices.Clip(c.Expression.Inputs), Input{Name: c.Target})
}

// names are the columns that the expression and its rule read or write, beside source and target.
func (e *Expression) names() (list []string) {
	for _, in := range slices.Concat(e.Inputs, e.Judges) {
		list = append(list, in.Name)
	}
	if e.Version != "" {
		list = append(list, e.Version)
	}
	return list
}

func fields(alias string, inputs []Input) string {
	list := make([]string, len(inputs))
	for i, in := range inputs {
		if list[i] = pg.Ident(in.Name); alias != "" {
			list[i] = alias + "." + list[i]
		}
	}
	return strings.Join(list, ", ")
}

// Functions makes what the expression's conditions and values are read from. It is for one transaction with whatever
// calls them, under [pg.Home].
func (c Column) Functions() Step {
	e := c.Expression
	volatility := "STABLE"
	if e.Volatile {
		volatility = "VOLATILE"
	}
	step := c.function(valueFunction(c.ID), volatility, e.Inputs, c.typeOf(c.Target), e.SQL)
	add := func(more Step) {
		step.Do, step.Undo = append(step.Do, more.Do...), append(step.Undo, more.Undo...)
	}
	if c.Comparable() {
		equal := fmt.Sprintf("pg_catalog.record_image_eq(ROW(%s), ROW((%s)::%s))", pg.Ident(c.Target), e.SQL, e.Type)
		add(c.function(madeFunction(c.ID), volatility, c.withTarget(), "boolean", equal))
	}
	if e.When != "" {
		add(c.function(doneFunction(c.ID), volatility, e.Judges, "boolean", "("+e.When+") IS TRUE"))
	}
	return step
}

const expressionSQL = `CREATE FUNCTION %s(%s) RETURNS %s
LANGUAGE sql %s BEGIN ATOMIC SELECT %s%s; END`

// function is one of an expression's: there may be one of an earlier expression, with other arguments.
func (c Column) function(name, volatility string, inputs []Input, returns, body string) Step {
	arguments := make([]string, len(inputs))
	for i, in := range inputs {
		arguments[i] = pg.Ident(in.Name) + " " + c.typeOf(in.Name)
	}
	drop := fmt.Sprintf("DROP FUNCTION IF EXISTS %s", name)
	return Step{
		Do: []string{drop, fmt.Sprintf(expressionSQL, name, strings.Join(arguments, ", "), returns, volatility, body, collated("", inputs)),
			fmt.Sprintf("GRANT EXECUTE ON FUNCTION %s TO PUBLIC", name)},
		Undo: []string{drop},
	}
}

// collated is where a body reads its columns: an argument has its type's collation, so one of another collation is read
// through a row that has it. Without one nothing is needed.
func collated(alias string, inputs []Input) string {
	if !slices.ContainsFunc(inputs, func(i Input) bool { return i.Collation != "" }) && alias == "" {
		return ""
	}
	list := make([]string, len(inputs))
	for i, in := range inputs {
		list[i] = alias + pg.Ident(in.Name)
		if in.Collation != "" {
			list[i] += " COLLATE " + in.Collation
		}
		list[i] += " AS " + pg.Ident(in.Name)
	}
	if len(list) == 0 {
		return ""
	}
	return " FROM (SELECT " + strings.Join(list, ", ") + ") r"
}

// digest changes with everything that the expression says.
func (e *Expression) digest() string { return digest(e) }

func digest(of any) string {
	text, _ := json.Marshal(of) // strings and numbers
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}
