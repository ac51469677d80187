package index_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/messages"
)

const liveJobSQL = `INSERT INTO cipherfleet.jobs (relid, spec, state) VALUES ('users'::regclass, '{"columns": []}', 'running')`

// TestWhatIsNoIndexIsRefused: by its name, its form, or where its column stands.
func TestWhatIsNoIndexIsRefused(t *testing.T) {
	t.Parallel()
	o := backfilled(t)
	o.make(wanted())
	o.Run(t, `INSERT INTO users SELECT i, 'the same' FROM generate_series(1000, 1500) i`)
	plan := func(change func(*index.Wanted)) func() error {
		return func() error {
			w := wanted()
			w.Name = "other"
			change(&w)
			_, err := o.r.PlanNew(t.Context(), o.name, w)
			return err
		}
	}
	for what, change := range map[string]func(*index.Wanted){
		"no name":                    func(w *index.Wanted) { w.Name = "" },
		"a name that is too long":    func(w *index.Wanted) { w.Name = strings.Repeat("é", 32) },
		"a dollar sign":              func(w *index.Wanted) { w.Name = "$token$" },
		"no such normaliser":         func(w *index.Wanted) { w.Normalise = "lower" },
		"no bytes":                   func(w *index.Wanted) { w.Bytes, w.Unique = 0, false },
		"too many bytes":             func(w *index.Wanted) { w.Bytes = 33 },
		"unique by chance":           func(w *index.Wanted) { w.Bytes = 15 },
		"a column of that name":      func(w *index.Wanted) { w.Name = "note" },
		"the next of none":           func(w *index.Wanted) { w.Next = true },
		"few values":                 func(w *index.Wanted) { w.Few = false },
		"another one of that name":   func(w *index.Wanted) { w.Name, w.Normalise = "bidx", "lower-trim" },
		"a shorter one of that name": func(w *index.Wanted) { w.Name, w.Bytes, w.Unique = "bidx", 8, false },
	} {
		o.refuses(what, plan(change))
	}
	o.make(index.Wanted{Name: "bidx", Next: true, Few: true})
	o.refuses("another index's column", plan(func(w *index.Wanted) { w.Name = "bidx_2" }))
	o.refuses("a third generation", plan(func(w *index.Wanted) { w.Name, w.Next = "bidx", true }))
	o.Run(t, liveJobSQL)
	o.refuses("a job is at work", plan(func(*index.Wanted) {}))
}

// TestALongNameHasNoNextGeneration: Postgres would cut the name of its column, and a key would be left over.
func TestALongNameHasNoNextGeneration(t *testing.T) {
	t.Parallel()
	o := backfilled(t)
	w := wanted()
	w.Name = strings.Repeat("é", 31)
	o.make(w)
	w.Next = true
	o.refuses("64 bytes", func() error { _, err := o.r.PlanNew(t.Context(), o.name, w); return err })
	p, err := o.r.PlanDrop(t.Context(), o.name, w.Name, 0)
	check(t, err)
	_, err = o.r.Drop(t.Context(), p, time.Minute)
	check(t, err)
	w.Next = false
	o.refuses("the same name again", func() error { _, err := o.r.PlanNew(t.Context(), o.name, w); return err })
	w.Name = w.Name[2:]
	o.make(w)
	w.Next = true
	o.make(w)
}

// TestNothingIsMadeOfNoCells: before its rung has cells a column gets no index, and none is built before every row has its own.
func TestNothingIsMadeOfNoCells(t *testing.T) {
	t.Parallel()
	o := open(t)
	o.make(wanted()) // dual-writing: there are cells
	o.refuses("not backfilled", func() error {
		_, err := o.r.PlanBuild(t.Context(), o.name, "bidx", 0)
		return err
	})
	o.Run(t, `ALTER TABLE users DROP COLUMN email_encrypted CASCADE`)
	o.refuses("no cells", func() error {
		w := wanted()
		w.Name = "other"
		_, err := o.r.PlanNew(t.Context(), o.name, w)
		return err
	})
}

// TestOnlyWhatIsThereIsBuiltFilledAndDropped: names, generations and states.
func TestOnlyWhatIsThereIsBuiltFilledAndDropped(t *testing.T) {
	t.Parallel()
	o := backfilled(t)
	o.make(wanted())
	o.token("bidx")
	o.build(0)
	build := func(name string, generation int) func() error {
		return func() error { _, err := o.r.PlanBuild(t.Context(), o.name, name, generation); return err }
	}
	drop := func(name string, generation int) func() error {
		return func() error { _, err := o.r.PlanDrop(t.Context(), o.name, name, generation); return err }
	}
	fill := func(tokens string) func() error {
		return func() error {
			_, err := index.PlanFill(t.Context(), o.DB.DB, messages.StartRequest{V: messages.Version, RequestID: "r", Table: "users", Columns: []messages.ColumnRequest{{Source: "email"}},
				Direction: messages.DirectionIndex, Index: tokens})
			return err
		}
	}
	o.refuses("build another", build("other", 0))
	o.refuses("drop another", drop("other", 0))
	o.refuses("fill another", fill("other"))
	o.refuses("build a generation to come", build("bidx", 2))
	o.make(index.Wanted{Name: "bidx", Next: true, Few: true})
	o.refuses("build either", build("bidx", 0))
	o.refuses("drop either", drop("bidx", 0))
	o.refuses("drop the one that finds every row", drop("bidx", 1))
	o.Run(t, `ALTER TABLE users DROP COLUMN bidx_2 CASCADE`)
	o.refuses("build what is gone", build("bidx", 2))
	_, err := o.r.Drop(t.Context(), o.planDrop(2), time.Minute)
	check(t, err)
	o.refuses("build what was dropped", build("bidx", 2))
	o.refuses("fill what was dropped", fill("bidx_2"))
	o.Run(t, liveJobSQL)
	o.refuses("drop while a job is at work", drop("bidx", 1))
	o.stands("bidx/1 ready, valid, tokens, key; bidx/2 dropped, no index, no tokens, no key")
}

// TestAUniqueIndexSaysWhoShares: as many rows as share a token, their keys in groups on request, and nothing is left of
// the index that could not be.
func TestAUniqueIndexSaysWhoShares(t *testing.T) {
	t.Parallel()
	o := backfilled(t)
	o.make(wanted())
	o.Run(t, `UPDATE users SET bidx = '\x01'::bytea || decode(md5(least(id, 18)::text), 'hex')`)
	for _, keys := range []bool{false, true} {
		o.refusesDoubled(keys, 1, 3)
		o.stands("bidx/1 filling, no index, tokens, key")
	}
	o.token("bidx")
	o.build(0)
	o.stands("bidx/1 ready, valid, tokens, key")
}

func (o *office) refusesDoubled(keys bool, tokens, rows int64) {
	o.t.Helper()
	_, err := o.r.Build(o.t.Context(), o.planBuild(0), keys)
	doubled := asDoubled(err)
	if doubled == nil || doubled.Tokens != tokens || doubled.Rows != rows || keys != (len(doubled.Groups) == int(rows)) {
		o.t.Fatalf("with keys %t: %v, %+v", keys, err, doubled)
	}
	if said := fmt.Sprint(err); strings.Contains(said, "value ") {
		o.t.Errorf("a value is told: %s", said)
	}
}
