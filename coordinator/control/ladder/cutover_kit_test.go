package ladder_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// ripe is a column that is backfilled and verified: every value has what looks like its cell.
type ripe struct {
	*testenv.DB
	ddl.Column
	name standing.Name
}

// ripen takes a column there by the same steps as a job, but without one.
func ripen(t *testing.T, db *testenv.DB, name standing.Name, key ...string) ripe {
	t.Helper()
	table := pg.Table{Schema: name.Schema, Name: name.Table}
	c := ddl.Column{Table: table, Source: name.Column, Target: name.Column + "_encrypted", Key: key}
	inOne(t, db, func(tx pg.Tx) error {
		do(t, tx, c.AddTarget().Do)
		registered := lifecycle.Column{Table: table, Source: c.Source, Target: c.Target, Type: "text", Relid: testenv.One[uint32](t, tx, `SELECT $1::regclass::oid`, table.SQL())}
		const numberSQL = `SELECT attnum FROM pg_attribute WHERE attrelid = $1 AND attname = $2`
		registered.SourceNum = testenv.One[int16](t, tx, numberSQL, registered.Relid, c.Source)
		registered.TargetNum = testenv.One[int16](t, tx, numberSQL, registered.Relid, c.Target)
		registered, err := lifecycle.RegisterColumn(t.Context(), tx, registered)
		c.ID = registered.ID
		return err
	})
	r := ripe{db, c, name}
	inOne(t, db, func(tx pg.Tx) error {
		for _, step := range []ddl.Step{c.Check(), c.Validate(), c.Capture()} {
			do(t, tx, step.Do)
		}
		_, err := tx.Exec(t.Context(), "SELECT set_config('cipherfleet.writer', 'client', true)")
		return err
	})
	r.seal(t)
	const job = "00000000-0000-0000-0000-000000000001"
	r.log(t, lifecycle.Event{Kind: lifecycle.KindSchemaAdded}, lifecycle.Event{Kind: lifecycle.KindDualWriting},
		lifecycle.Event{Kind: lifecycle.KindBackfillStarted, Job: job}, lifecycle.Event{Kind: lifecycle.KindBackfilled, Job: job})
	r.log(t, verified("100", true))
	return r
}

// verified is a verification of so many percent that began now.
func verified(percent string, proven bool) lifecycle.Event {
	sample := ""
	if percent != "100" {
		sample = `"sample": ` + percent + ", "
	}
	return lifecycle.Event{Kind: lifecycle.KindVerified, Detail: fmt.Appendf(nil, `{%s"proven": %t}`, sample, proven)}
}

// log appends events, each in its own transaction.
func (r ripe) log(t *testing.T, events ...lifecycle.Event) {
	t.Helper()
	for _, e := range events {
		e.Table, e.Column = r.Table.String(), r.Source
		inOne(t, r.DB, func(tx pg.Tx) error {
			_, err := (&lifecycle.Log{}).Append(t.Context(), tx, e)
			return err
		})
	}
}

// seal does what the fleet would: every uncovered row gets its cell.
func (r ripe) seal(t *testing.T) {
	t.Helper()
	inOne(t, r.DB, func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), "SELECT set_config('cipherfleet.writer', 'client', true)"); err != nil {
			return err
		}
		source, target := pg.Ident(r.Source), pg.Ident(r.Target)
		_, err := tx.Exec(t.Context(), fmt.Sprintf("UPDATE %s SET %s = CASE WHEN %s IS NOT NULL THEN $1::bytea END", r.Table.SQL(), target, source), r.cell())
		return err
	})
}

// cell passes the column's check.
func (r ripe) cell() []byte {
	prefix := cell.Prefix(r.ID)
	return append(prefix[:], bytes.Repeat([]byte{1}, cell.MinLength-len(prefix))...)
}

// request asks for a swap without a soak; nothing seals.
func (r ripe) request() ladder.CutoverRequest {
	return ladder.CutoverRequest{Column: r.name, Strategy: standing.StrategySwap, Sweep: func(context.Context, messages.StartRequest) error {
		return errors.New("nobody seals in this test")
	}}
}

func (r ripe) ladder() *ladder.Ladder { return &ladder.Ladder{DB: r.DB.DB, Actor: "tester"} }

// cut cuts over, and must.
func (r ripe) cut(t *testing.T, change ...func(*ladder.CutoverRequest)) ladder.CutoverResult {
	t.Helper()
	request := r.request()
	for _, f := range change {
		f(&request)
	}
	result, err := r.ladder().Cutover(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// refusedCut asks for a cutover that is refused with this text, and leaves everything as it is.
func (r ripe) refusedCut(t *testing.T, code int, message, hint string, change ...func(*ladder.CutoverRequest)) {
	t.Helper()
	request := r.request()
	for _, f := range change {
		f(&request)
	}
	before := testenv.Catalog(t, r)
	_, err := r.ladder().Cutover(t.Context(), request)
	if testenv.Catalog(t, r) != before {
		t.Error("the database was changed")
	}
	var have *standing.Refusal
	if !errors.As(err, &have) || have.Code != code || !strings.Contains(have.Message, message) || !strings.Contains(have.Hint, hint) {
		t.Errorf("have %v (%+v), want code %d, %q, hint %q", err, have, code, message, hint)
	}
}

func (r ripe) state(t *testing.T) lifecycle.State {
	t.Helper()
	state, err := lifecycle.Latest(t.Context(), r, r.Table.String(), r.Source)
	if err != nil {
		t.Error(err)
	}
	return state
}

// inOne runs f in one transaction.
func inOne(t *testing.T, db *testenv.DB, f func(pg.Tx) error) {
	t.Helper()
	if err := db.InTx(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// holding is a transaction that ran a statement and has not ended; it ends with the test at the latest.
func holding(t *testing.T, db *testenv.DB, sql string, args ...any) pg.Tx {
	t.Helper()
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
	return tx
}

func do(t *testing.T, tx pg.Tx, statements []string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func inPublic(table, column string) standing.Name {
	return standing.Name{Schema: "public", Table: table, Column: column}
}
