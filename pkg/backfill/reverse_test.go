package backfill_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// fewCutOver are fifty items, encrypted and cut over.
func fewCutOver(t *testing.T, more string) *kit {
	t.Helper()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems+more)
	k.Start(ctx, 10)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the first job ended %s", job.State)
	}
	k.CutOver()
	return k
}

// seal is the cell of a text in the row of public.items with that id.
func (k *kit) seal(ctx context.Context, id int64, text string) []byte {
	k.T.Helper()
	keys := must(cell.NewKeyEncoder([]cell.TypeInfo{{OID: 20, Name: "int8", Kind: 'b', Category: 'N'}}))(k.T)
	address := must(keys.Append(nil, [][]byte{binary.BigEndian.AppendUint64(nil, uint64(id))}))(k.T)
	scheme, _ := k.Keyring.Scheme(k.Columns[0].ID, k.Columns[0].Scheme)
	return must(k.Keyring.Seal(nil, scheme, cell.Address{Column: scheme.Column, Key: address}, []byte(text)))(k.T)
}

// applicationWrites are cells that an application writes after a cutover: changed, new, emptied, of a deleted row.
func (k *kit) applicationWrites(ctx context.Context) {
	k.T.Helper()
	exec := func(sql string, args ...any) { must(k.DB.Exec(ctx, sql, args...))(k.T) }
	for id := int64(1); id <= 5; id++ {
		exec(`UPDATE public.items SET secret = $2 WHERE id = $1`, id, k.seal(ctx, id, fmt.Sprintf("changed %d", id)))
	}
	exec(`INSERT INTO public.items (id, secret) VALUES (100, $1)`, k.seal(ctx, 100, "new"))
	exec(`INSERT INTO public.items (id, secret, secret_plaintext) VALUES (101, $1, 'not what is sealed')`, k.seal(ctx, 101, ""))
	exec(`UPDATE public.items SET secret = NULL WHERE id = 6`)
	exec(`DELETE FROM public.items WHERE id = 7`)
}

func TestAJobInReverseBringsThePlaintextUpToDate(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := fewCutOver(t, "")
	k.applicationWrites(ctx)
	k.Start(ctx, 10)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 51)
	for id, want := range map[int]string{1: "changed 1", 5: "changed 5", 100: "new", 101: ""} {
		if got := testenv.One[*string](t, k.DB, "SELECT secret_plaintext FROM public.items WHERE id = $1", id); got == nil || *got != want {
			t.Errorf("row %d is not %q", id, want)
		}
	}
	if testenv.One[bool](t, k.DB, "SELECT secret_plaintext IS NOT NULL FROM public.items WHERE id = 6") {
		t.Error("what was emptied is back")
	}
	state := must(lifecycle.Latest(ctx, k.DB, k.Columns[0].LogTable, k.Columns[0].LogColumn))(t)
	if state.Phase != lifecycle.PhaseCutOver || state.Run.State != lifecycle.RunDone || state.Run.Rows != 7 || state.Run.Job != k.Job.ID {
		t.Errorf("the log folds to %+v", state)
	}
	if n := testenv.One[int](t, k.DB, "SELECT count(*) FROM cipherfleet.events WHERE job_id = $1 AND phase <> 'cut-over'", k.Job.ID); n != 0 {
		t.Errorf("%d events of the job are of another phase", n)
	}
}

func TestAJobInReverseHasNothingToDoAfterACutover(t *testing.T) {
	t.Parallel()
	k := fewCutOver(t, "")
	k.Start(t.Context(), 10)
	job := k.Finish(t.Context())
	if n := testenv.One[int](t, k.DB, "SELECT coalesce(sum(rows), 0)::int FROM cipherfleet.ranges WHERE job_id = $1", job.ID); job.State != work.Done || n != 0 {
		t.Errorf("the job ended %s and wrote %d rows", job.State, n)
	}
}

// A plaintext that has no cell may be all that is left of a value.
func TestAJobInReverseNeverEmptiesAPlaintext(t *testing.T) {
	t.Parallel()
	k := fewCutOver(t, "")
	k.DB.Run(t, "INSERT INTO public.items (id, secret_plaintext) VALUES (100, 'of code that knows no cells')")
	k.Start(t.Context(), 10)
	if job := k.Finish(t.Context()); job.State != work.Done {
		t.Fatalf("the job ended %s", job.State)
	}
	if testenv.One[int](t, k.DB, "SELECT count(*) FROM public.items WHERE id = 100 AND secret_plaintext IS NOT NULL") != 1 {
		t.Error("the plaintext is gone")
	}
}

func TestACellThatDoesNotOpenIsQuarantined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := fewCutOver(t, "")
	must(k.DB.Exec(ctx, `UPDATE public.items SET secret = $1 WHERE id IN (2, 3)`, k.seal(ctx, 3, "of row 3")))(t)
	k.Start(ctx, 10)
	if job := k.Finish(ctx); job.State != work.Failed || k.Quarantined(t) != 1 {
		t.Fatalf("the job ended %s with %d rows in quarantine", job.State, k.Quarantined(t))
	}
	if reason := testenv.One[string](t, k.DB, "SELECT min(reason) FROM cipherfleet.quarantine WHERE key = '{2}'"); reason != "the value cannot be transformed" {
		t.Errorf("its reason is %q", reason)
	}
	if got := testenv.One[string](t, k.DB, "SELECT secret_plaintext FROM public.items WHERE id = 3"); got != "of row 3" {
		t.Errorf("its neighbour became %q", got)
	}
}

// What is stored is read back: whatever alters a value on its way must not go unnoticed.
func TestAPlaintextThatATriggerAltersIsQuarantined(t *testing.T) {
	t.Parallel()
	for _, pass := range []string{"in a chunk", "alone"} {
		t.Run(pass, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := fewCutOver(t, "")
			k.applicationWrites(ctx)
			k.DB.Run(t, `CREATE FUNCTION public.shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.secret_plaintext := upper(new.secret_plaintext); RETURN new; END';
				CREATE TRIGGER shout BEFORE UPDATE ON public.items FOR EACH ROW WHEN (new.id = 2) EXECUTE FUNCTION public.shout()`)
			k.Start(ctx, 10)
			if pass == "alone" {
				k.DB.Run(t, "UPDATE cipherfleet.ranges SET pass = 5")
			}
			if job := k.Finish(ctx); job.State != work.Failed || k.Quarantined(t) != 1 {
				t.Fatalf("the job ended %s with %d rows in quarantine", job.State, k.Quarantined(t))
			}
			reason := testenv.One[string](t, k.DB, "SELECT min(reason) FROM cipherfleet.quarantine WHERE key = '{2}'")
			if reason != "the column's type, or a trigger, alters the value" {
				t.Errorf("its reason is %q", reason)
			}
			if got := testenv.One[string](t, k.DB, "SELECT secret_plaintext FROM public.items WHERE id = 3"); got != "changed 3" {
				t.Errorf("its neighbour became %q", got)
			}
		})
	}
}

func TestATypeThatRoundsIsNoticed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, "CREATE TABLE public.items (id bigint PRIMARY KEY, secret numeric); INSERT INTO public.items VALUES (1, 1.25), (2, 3)")
	k.Start(ctx, 10)
	k.Finish(ctx)
	k.CutOver()
	k.DB.Run(t, `ALTER TABLE public.items DROP COLUMN secret_plaintext CASCADE; ALTER TABLE public.items ADD COLUMN secret_plaintext numeric(5, 1)`)
	c := ddl.Column{ID: k.Columns[0].ID, Table: k.Table, Source: "secret_plaintext", Target: "secret", Key: []string{"id"}}
	for _, statement := range c.ReverseCapture().Do {
		k.DB.Run(t, statement)
	}
	k.Relation = k.Inspect(ctx)
	column, _ := k.Relation.Column("secret_plaintext")
	k.Columns[0].SourceAttnum = column.Attnum
	k.Start(ctx, 10)
	if job := k.Finish(ctx); job.State != work.Failed || k.Quarantined(t) != 2 {
		t.Errorf("the job ended %s with %d rows in quarantine", job.State, k.Quarantined(t)) // 3 is stored as 3.0
	}
}

// meanwhile runs an application's write once, between a chunk's read and its own write.
type meanwhile struct {
	transform.Transform
	write func()
	done  bool
}

func (m *meanwhile) Apply(ctx context.Context, values []transform.Value) error {
	err := m.Transform.Apply(ctx, values)
	if !m.done && len(values) > 0 {
		m.done = true
		m.write()
	}
	return err
}

func TestTheApplicationsCellWinsInReverse(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := fewCutOver(t, "")
	k.applicationWrites(ctx)
	k.Wrap = func(inner transform.Transform) transform.Transform {
		return &meanwhile{Transform: inner, write: func() {
			must(k.DB.Exec(ctx, `UPDATE public.items SET secret = $1 WHERE id = 3`, k.seal(ctx, 3, "later")))(t)
			must(k.DB.Exec(ctx, `UPDATE public.items SET secret = NULL WHERE id = 4`))(t)
		}}
	}
	k.Start(ctx, 1000)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 51)
	if got := testenv.One[string](t, k.DB, "SELECT secret_plaintext FROM public.items WHERE id = 3"); got != "later" {
		t.Errorf("row 3 became %q", got)
	}
	if testenv.One[bool](t, k.DB, "SELECT secret_plaintext IS NOT NULL FROM public.items WHERE id = 4") {
		t.Error("what was emptied is back")
	}
}

func TestAJobInReverseWalksPartitions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text) PARTITION BY RANGE (id);
		CREATE TABLE public.items_a (gone int, secret text, id bigint NOT NULL); ALTER TABLE public.items_a DROP COLUMN gone;
		ALTER TABLE public.items ATTACH PARTITION public.items_a FOR VALUES FROM (0) TO (50);
		CREATE TABLE public.items_b PARTITION OF public.items FOR VALUES FROM (50) TO (1000);
		INSERT INTO public.items SELECT i, 'value ' || i FROM generate_series(1, 99) i`)
	k.Start(ctx, 10)
	k.Finish(ctx)
	k.CutOver()
	k.applicationWrites(ctx)
	k.Start(ctx, 10)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 100)
}

func TestReverseCaptureIsWatched(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := fewCutOver(t, "")
	k.applicationWrites(ctx)
	k.Start(ctx, 1000)
	k.Wrap = func(inner transform.Transform) transform.Transform {
		return &meanwhile{Transform: inner, write: func() {
			k.DB.Run(t, fmt.Sprintf(`ALTER TABLE public.items DISABLE TRIGGER "~cipherfleet_%d_reverse_update"`, k.Columns[0].ID))
		}}
	}
	if err := k.Work(ctx); backfill.ErrorClass(err) != "shape" {
		t.Errorf("the range ended with %v", err)
	}
}

// within carries what is uncovered in one transaction, as a rollback does under its lock.
func (k *kit) within(ctx context.Context, most int) (rows int64, err error) {
	k.T.Helper()
	k.Job = work.Job{Relation: k.Relation.OID, Spec: work.Spec{Schema: k.Table.Schema, Table: k.Table.Name, Key: k.Key().Names(), Columns: k.Columns}}
	shape := k.Shape(ctx, k.Relation.OID)
	err = k.DB.InTx(ctx, func(tx pg.Tx) (err error) {
		rows, err = backfill.Within(ctx, tx, shape, k.Keyring, most)
		return err
	})
	return rows, err
}

func TestAFewRowsAreCarriedWithinATransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := fewCutOver(t, "")
	if rows, err := k.within(ctx, 10); rows != 0 || err != nil {
		t.Errorf("with nothing to do: %d rows, %v", rows, err)
	}
	k.applicationWrites(ctx)
	if _, err := k.within(ctx, 6); !errors.Is(err, backfill.ErrMany) {
		t.Errorf("with room for 6 of 7 rows: %v", err)
	}
	if rows, err := k.within(ctx, 7); rows != 7 || err != nil {
		t.Errorf("with room for 7 rows: %d rows, %v", rows, err)
	}
	k.Proven(ctx, 51)
}

func TestWithinATransactionNothingIsGuessed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := fewCutOver(t, "")
	must(k.DB.Exec(ctx, `UPDATE public.items SET secret = $1 WHERE id = 2`, k.seal(ctx, 3, "of row 3")))(t)
	if _, err := k.within(ctx, 10); !backfill.Resists(err) {
		t.Errorf("a cell of another row gave %v", err)
	}
	must(k.DB.Exec(ctx, `UPDATE public.items SET secret = $1 WHERE id = 2`, k.seal(ctx, 2, "of row 2")))(t)
	k.DB.Run(t, `CREATE FUNCTION public.shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.secret_plaintext := upper(new.secret_plaintext); RETURN new; END';
		CREATE TRIGGER shout BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.shout()`)
	if _, err := k.within(ctx, 10); !backfill.Resists(err) {
		t.Errorf("a value that a trigger alters gave %v", err)
	}
	k.DB.Run(t, `ALTER TABLE public.items DISABLE TRIGGER shout;
		CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER no BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.no()`)
	if _, err := k.within(ctx, 10); !backfill.Resists(err) {
		t.Errorf("a write that a trigger suppresses gave %v", err)
	}
}

// rollBack gives the sources their names back, as a rollback does; from then on the kit's jobs go forward again.
func (k *kit) rollBack() {
	k.T.Helper()
	for i, spec := range k.Columns {
		c := ddl.Column{ID: spec.ID, Table: k.Table, Source: spec.Source, Target: spec.Target, Key: k.Key().Names()}
		statements := append(c.ReverseCapture().Undo,
			fmt.Sprintf("ALTER TABLE %s RENAME %s TO %s", k.Table.SQL(), pg.Ident(c.Target), pg.Ident(k.Target(spec.LogColumn))),
			fmt.Sprintf("ALTER TABLE %s RENAME %s TO %s", k.Table.SQL(), pg.Ident(c.Source), pg.Ident(spec.LogColumn)))
		c.Source, c.Target = spec.LogColumn, k.Target(spec.LogColumn)
		for _, statement := range append(statements, c.Capture().Do...) {
			k.DB.Run(k.T, statement)
		}
		k.Columns[i].Source, k.Columns[i].Target, k.Columns[i].Reverse = c.Source, c.Target, false
		event := lifecycle.Event{Table: spec.LogTable, Column: spec.LogColumn, Kind: lifecycle.KindRolledBack}
		check(k.T, k.DB.InTx(k.T.Context(), func(tx pg.Tx) error {
			_, err := (&lifecycle.Log{}).Append(k.T.Context(), tx, event)
			return err
		}))
	}
	k.Relation = k.Inspect(k.T.Context())
}

// After a rollback the job that sealed looks after the column again, although one in reverse came later.
func TestAfterARollbackTheJobForwardSweepsAgain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := fewCutOver(t, "")
	forward := testenv.One[string](t, k.DB, "SELECT id::text FROM cipherfleet.jobs")
	k.applicationWrites(ctx)
	k.Start(ctx, 10)
	reverse := k.Finish(ctx)
	if reverse.State != work.Done {
		t.Fatalf("the job in reverse ended %s", reverse.State)
	}
	if _, err := k.Jobs.CatchUp(ctx, forward, []uint32{k.Relation.OID}, nil); !errors.Is(err, work.ErrNotReady) {
		t.Errorf("a column that is cut over is swept again: %v", err)
	}
	k.rollBack()
	if idle := must(k.Jobs.Idle(ctx))(t); len(idle) != 1 || idle[0].ID != forward {
		t.Errorf("%d jobs are to be looked after, want the one forward", len(idle))
	}
	if _, err := k.Jobs.CatchUp(ctx, reverse.ID, []uint32{k.Relation.OID}, nil); !errors.Is(err, work.ErrNotReady) {
		t.Errorf("the job in reverse sweeps again: %v", err)
	}
	k.DB.Run(t, "UPDATE public.items SET secret = 'after the rollback' WHERE id = 20")
	k.Job = must(k.Jobs.CatchUp(ctx, forward, []uint32{k.Relation.OID}, nil))(t)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the sweep ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 51)
}
