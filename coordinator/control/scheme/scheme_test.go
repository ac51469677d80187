package scheme_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// office is a table of ten rows whose cells are of the first of two schemes; the second one is written with.
type office struct {
	*testenv.DB
	t      *testing.T
	r      *scheme.Registry
	column ddl.Column
	name   standing.Name
}

func open(t *testing.T) *office {
	t.Helper()
	db := testenv.Database(t)
	path := t.TempDir() + "/kek.json"
	check(t, kms.CreateFile(path))
	kek, err := kms.Open(t.Context(), "file:"+path, "")
	check(t, err)
	db.Run(t, `CREATE TABLE users (id int PRIMARY KEY, email text, sealed bytea)`)
	o := &office{DB: db, t: t, r: &scheme.Registry{DB: db.DB, KEK: kek, Actor: "ada", Reason: "a test"}, name: standing.Name{Schema: "public", Table: "users", Column: "email"},
		column: ddl.Column{Table: pg.Table{Schema: "public", Name: "users"}, Source: "email", Target: "sealed"}}
	check(t, db.InTx(t.Context(), func(tx pg.Tx) error {
		c, err := lifecycle.RegisterColumn(t.Context(), tx, lifecycle.Column{Relid: testenv.One[uint32](t, tx, `SELECT 'users'::regclass::oid`),
			SourceNum: 2, TargetNum: 3, Table: o.column.Table, Source: "email", Target: "sealed", Type: "text"})
		o.column.ID = c.ID
		return err
	}))
	first, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, cell.Scheme{Column: o.column.ID, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, RowBound: true})
	check(t, err)
	db.Run(t, `INSERT INTO users SELECT i, 'x', $1 FROM generate_series(1, 10) i`, o.cell(first.Number))
	p, err := o.r.PlanNew(t.Context(), o.name, scheme.Wanted{})
	check(t, err)
	second, err := o.r.New(t.Context(), p)
	check(t, err)
	o.activate(second.Number)
	return o
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (o *office) activate(number uint16) {
	o.t.Helper()
	p, err := o.r.PlanActivate(o.t.Context(), o.name, number)
	check(o.t, err)
	_, err = o.r.Activate(o.t.Context(), p, 0)
	check(o.t, err)
}

// cell looks like one of a scheme.
func (o *office) cell(number uint16) []byte {
	c := cell.Prefix(o.column.ID)
	return append(binary.BigEndian.AppendUint16(c[:], number), make([]byte, cell.Overhead)...)
}

// write has every row carry a cell of a scheme, or some rows.
func (o *office) write(number uint16, where string) error {
	_, err := o.Exec(o.t.Context(), "UPDATE users SET sealed = $1 WHERE "+where, o.cell(number))
	return err
}

func (o *office) retire(ctx context.Context, number uint16) error {
	p, err := o.r.PlanRetire(ctx, o.name, number)
	if err != nil {
		return err
	}
	_, err = o.r.Retire(ctx, p)
	return err
}

func (o *office) states() string {
	o.t.Helper()
	l, err := o.r.List(o.t.Context(), o.name, false)
	check(o.t, err)
	var all []string
	for _, s := range l.Schemes {
		word := string(s.State)
		if s.Fenced {
			word += " fenced"
		}
		all = append(all, word)
	}
	return strings.Join(all, ", ")
}

const constraints = `SELECT coalesce(string_agg(conname || ' ' || convalidated, ', ' ORDER BY conname), '') FROM pg_constraint WHERE conrelid = 'users'::regclass AND contype = 'c'`

// However often and by however many at once, a scheme retires once, and the fence is one.
func TestTwoOperatorsRetireAtOnce(t *testing.T) {
	t.Parallel()
	o := open(t)
	check(t, o.write(2, "true"))
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			var refusal *standing.Refusal
			if err := o.retire(t.Context(), 1); err != nil && !errors.As(err, &refusal) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	check(t, o.retire(t.Context(), 1))
	if got := o.states(); got != "retired fenced, active" {
		t.Error(got)
	}
	if got := testenv.One[string](t, o, constraints); got != "cipherfleet_1_schemes true" {
		t.Errorf("constraints: %s", got)
	}
	if n := testenv.One[int](t, o, `SELECT count(*) FROM cipherfleet.events WHERE details->>'to' = 'retired'`); n != 1 {
		t.Errorf("%d events", n)
	}
}

// Who began before another one was done leaves nothing behind: neither with the same scheme nor with another one, whose
// fence would not name what retired meanwhile.
func TestAnOvertakenRetirementLeavesNoFence(t *testing.T) {
	t.Parallel()
	o := open(t)
	p, err := o.r.PlanNew(t.Context(), o.name, scheme.Wanted{})
	check(t, err)
	third, err := o.r.New(t.Context(), p)
	check(t, err)
	o.activate(third.Number)
	check(t, o.write(3, "true"))
	same, err := o.r.PlanRetire(t.Context(), o.name, 1)
	check(t, err)
	other, err := o.r.PlanRetire(t.Context(), o.name, 2)
	check(t, err)
	check(t, o.retire(t.Context(), 1))
	if _, err := o.r.Retire(t.Context(), same); err != nil {
		t.Errorf("the same again: %v", err)
	}
	var refusal *standing.Refusal
	if _, err := o.r.Retire(t.Context(), other); !errors.As(err, &refusal) {
		t.Errorf("another one: %v", err)
	}
	if got := testenv.One[string](t, o, constraints); got != "cipherfleet_1_schemes true" {
		t.Errorf("constraints: %s", got)
	}
	check(t, o.retire(t.Context(), 2))
	if got := o.states(); got != "retired fenced, retired fenced, active" {
		t.Error(got)
	}
}

// Between any two statements the process may die: then the next call goes on, and at no time is a scheme retired without
// its proof.
func TestARetirementThatIsKilledGoesOn(t *testing.T) {
	t.Parallel()
	for _, left := range []string{"the next fence", "a proven next fence", "a raised fence", "a fence of another meaning"} {
		t.Run(left, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			check(t, o.write(2, "true"))
			steps := o.column.Fence([]uint16{1}).Do
			switch left {
			case "a proven next fence":
				steps = append(steps, o.column.ValidateFence().Do...)
			case "a raised fence":
				steps = append(append(steps, o.column.ValidateFence().Do...), o.column.RaiseFence().Do...)
			case "a fence of another meaning":
				steps = []string{"ALTER TABLE users ADD CONSTRAINT " + ddl.FenceName(o.column.ID) + " CHECK (sealed IS NULL OR true)"}
			}
			for _, sql := range steps {
				o.Run(t, sql)
			}
			if got := o.states(); got != "readable, active" {
				t.Errorf("before: %s", got)
			}
			check(t, o.retire(t.Context(), 1))
			if got := o.states(); got != "retired fenced, active" {
				t.Error(got)
			}
			if err := o.write(1, "id = 1"); pg.Code(err) != "23514" {
				t.Errorf("a stale writer: %v", err)
			}
			check(t, o.write(2, "id = 1"))
		})
	}
}

// A cell that a stale writer wrote between the look and the proof ends the retirement; the constraint goes again, for it
// would refuse every update of that row.
func TestACellThatTurnsUpEndsARetirement(t *testing.T) {
	t.Parallel()
	o := open(t)
	check(t, o.write(2, "true"))
	p, err := o.r.PlanRetire(t.Context(), o.name, 1)
	check(t, err)
	check(t, o.write(1, "id = 7"))
	_, err = o.r.Retire(t.Context(), p)
	var fail *app.Fail
	if !errors.As(err, &fail) || fail.Code != app.CodeUnproven || !strings.Contains(err.Error(), "sealed of public.users: 1") {
		t.Errorf("it said %v", err)
	}
	if got := testenv.One[string](t, o, constraints); got != "" {
		t.Errorf("constraints: %s", got)
	}
	if got := o.states(); got != "readable, active" {
		t.Error(got)
	}
	check(t, o.write(2, "true"))
	check(t, o.retire(t.Context(), 1))
}

// The next retirement keeps the proof of the one before, and no later scheme needs the table altered.
func TestSchemesRetireOneAfterTheOther(t *testing.T) {
	t.Parallel()
	o := open(t)
	check(t, o.write(2, "true"))
	check(t, o.retire(t.Context(), 1))
	before := testenv.One[string](t, o, constraints)
	p, err := o.r.PlanNew(t.Context(), o.name, scheme.Wanted{})
	check(t, err)
	third, err := o.r.New(t.Context(), p)
	check(t, err)
	o.activate(third.Number)
	check(t, o.write(3, "true"))
	if testenv.One[string](t, o, constraints) != before {
		t.Error("a new scheme altered the table")
	}
	check(t, o.write(2, "id = 1"))
	if err := o.retire(t.Context(), 2); err == nil {
		t.Error("retired while a cell is left")
	}
	if got := o.states(); got != "retired fenced, readable, active" {
		t.Errorf("after a refusal: %s", got)
	}
	check(t, o.write(3, "true"))
	check(t, o.retire(t.Context(), 2))
	if got := o.states(); got != "retired fenced, retired fenced, active" {
		t.Error(got)
	}
}

// A client that comes to know the scheme while an operator waits is enough.
func TestActivationWaitsForASlowClient(t *testing.T) {
	t.Parallel()
	o := open(t)
	p, err := o.r.PlanNew(t.Context(), o.name, scheme.Wanted{})
	check(t, err)
	old, err := lifecycle.ReadInstallation(t.Context(), o)
	check(t, err)
	made, err := o.r.New(t.Context(), p)
	check(t, err)
	lease := lifecycle.Lease{ID: "shop", Kind: lifecycle.LeaseClient, Revision: old.Revision, For: time.Minute}
	check(t, lifecycle.Present(t.Context(), o, lease))
	change, err := o.r.PlanActivate(t.Context(), o.name, made.Number)
	check(t, err)
	var late *lifecycle.NotReadyError
	if _, err := o.r.Activate(t.Context(), change, 0); !errors.As(err, &late) {
		t.Errorf("a client cannot read it: %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := o.r.Activate(t.Context(), change, time.Minute)
		ended <- err
	}()
	lease.Revision = made.Revision
	check(t, lifecycle.Present(t.Context(), o, lease))
	check(t, <-ended)
	if got := o.states(); got != "readable, readable, active" {
		t.Error(got)
	}
}

// Nothing is deleted without its proof: a fence that goes, or is altered, between the look and the deletion ends it.
func TestKeysStayWhereTheFenceGoes(t *testing.T) {
	t.Parallel()
	o := open(t)
	check(t, o.write(2, "true"))
	check(t, o.retire(t.Context(), 1))
	o.Run(t, `ALTER TABLE cipherfleet.schemes DISABLE TRIGGER immutable; UPDATE cipherfleet.schemes SET retired_at = retired_at - interval '31 days' WHERE number = 1;
ALTER TABLE cipherfleet.schemes ENABLE ALWAYS TRIGGER immutable`)
	p, err := o.r.PlanDestroy(t.Context(), o.name, 1)
	check(t, err)
	fence := fmt.Sprintf("cipherfleet_%d_schemes", o.column.ID)
	o.Run(t, "ALTER TABLE users DROP CONSTRAINT "+fence)
	var refusal *standing.Refusal
	if _, err := o.r.Destroy(t.Context(), p); !errors.As(err, &refusal) || !strings.Contains(err.Error(), "the fence of column") {
		t.Errorf("without a fence: %v", err)
	}
	if n := testenv.One[int](t, o, `SELECT count(*) FROM cipherfleet.deks WHERE scheme = 1 AND wrapped IS NOT NULL`); n != 1 {
		t.Errorf("%d keys are left", n)
	}
	check(t, o.retire(t.Context(), 1))
	_, err = o.r.Destroy(t.Context(), p)
	check(t, err)
	if n := testenv.One[int](t, o, `SELECT count(*) FROM cipherfleet.deks WHERE scheme = 1 AND wrapped IS NOT NULL`); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}
