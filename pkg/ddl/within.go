package ddl

import (
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Condition says which rows of a table need a cell: those for which it is true. Its text is as Postgres printed it when it
// had read it, and immutable: a row comes in or goes out by being written, and in no other way. A row outside keeps the
// cell that it has.
type Condition struct {
	SQL   string  `json:"sql"`
	Reads []Input `json:"reads"`
	Text  string  `json:"text,omitempty"` // as somebody wrote it; two texts may be one condition
}

// Same says that two conditions, each of which may be nil, let the same rows in, however they were written.
func (w *Condition) Same(o *Condition) bool {
	if w == nil || o == nil {
		return w == o
	}
	return w.SQL == o.SQL && slices.Equal(w.Reads, o.Reads)
}

// Stands says that each column that the condition reads is still there under its name; of nil it is true.
func (w *Condition) Stands(r pg.Relation) bool {
	return w == nil || !slices.ContainsFunc(w.Reads, func(in Input) bool {
		c, found := r.Column(in.Name)
		return !found || c.Attnum != in.Attnum
	})
}

// digest changes with the condition, and not with how it was written.
func (w *Condition) digest() string { return digest(Condition{SQL: w.SQL, Reads: w.Reads}) }

// withinFunction is made as those of an expression are. Its answer is never NULL.
func withinFunction(id uint32) string { return fmt.Sprintf("cipherfleet.within_%d", id) }

func dropWithin(id uint32) string { return "DROP FUNCTION IF EXISTS " + withinFunction(id) }

// Names are the columns that the condition reads; none of nil.
func (w *Condition) Names() (list []string) {
	if w == nil {
		return nil
	}
	for _, in := range w.Reads {
		list = append(list, in.Name)
	}
	return list
}

// Within is the condition on a row of this alias, which may be "", that it needs a cell.
func (c Column) Within(alias string) string {
	if c.Where == nil {
		return "true"
	}
	return withinFunction(c.ID) + "(" + fields(alias, c.Where.Reads) + ")"
}

// Conditions is the query for what [Column.Within] calls: of each column that has such a function, its id and the types of
// what is handed over, as bigint and bigint[].
func Conditions() string {
	return `SELECT pg_catalog.substring(f.proname::pg_catalog.text, '[0-9]+')::pg_catalog.int8, (f.proargtypes::pg_catalog.oid[])[0:]::pg_catalog.int8[]` +
		` FROM pg_catalog.pg_proc f WHERE f.pronamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('cipherfleet')::pg_catalog.oid` +
		` AND f.proname::pg_catalog.text OPERATOR(pg_catalog.~) '^within_[0-9]{1,10}$'`
}

// WithinFunction makes what [Column.Within] calls, under [pg.Home].
func (c Column) WithinFunction() Step {
	return c.function(withinFunction(c.ID), "IMMUTABLE", c.Where.Reads, "boolean", "("+c.Where.SQL+") IS TRUE")
}

// withinBody is the part of a capture that lets a write go, uncounted, of a row that needs no cell. What cannot be judged
// is counted, and the write goes on. The names of columns stand in it: once one has another name, every write is counted.
const withinBody = `  BEGIN -- %s
    IF NOT %s THEN
      RETURN NEW;
    END IF;
  EXCEPTION WHEN OTHERS THEN
    NULL;
  END;
`

// captureBody is [CaptureBody], as far as the condition lets it count.
func (c Column) captureBody() string {
	within := ""
	if c.Where != nil {
		within = fmt.Sprintf(withinBody, c.Where.digest(), c.Within("NEW"))
	}
	return captureBodyOf(c.ID, within)
}

// EnteringTrigger is the name of the trigger that counts rows which come to need a cell. It asks about the columns of a
// condition, as the others do about those of the key.
func EnteringTrigger(id uint32) string { return fmt.Sprintf("%s%d_%s", TriggerPrefix, id, entering) }

const entering = "missed_update"

// enters is the guard of rows that come to need a cell by a write to a column of the condition alone.
func (c Column) enters() guard {
	bound := c.bound()
	names := slices.DeleteFunc(c.Where.Names(), func(name string) bool { return slices.Contains(bound, name) })
	if len(names) == 0 {
		names = bound // whatever changes those is noticed by the other guards
	}
	image := func(version string) string {
		inputs := make([]Input, len(names))
		for i, name := range names {
			inputs[i].Name = name
		}
		return fields(version, inputs)
	}
	return guard{entering, "UPDATE", fmt.Sprintf("NOT (new.%s IS DISTINCT FROM NULL)%s"+
		" AND pg_catalog.record_image_ne(ROW(%s), ROW(%s)) AND pg_catalog.record_image_eq(ROW(%s), ROW(%s))",
		pg.Ident(c.Target), c.hasSource(), image("new"), image("old"), c.image("new"), c.image("old")), false}
}
