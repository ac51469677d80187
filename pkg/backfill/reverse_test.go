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
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// cutOver gives the cells their sources' names, as a cutover does; from then on the kit's jobs run in reverse.
func (k *kit) cutOver() {
	k.t.Helper()
	for i, spec := range k.columns {
		c := ddl.Column{ID: spec.ID, Table: k.table, Source: spec.Source, Target: spec.Target, Key: k.key().Names()}
		statements := append(c.Capture().Undo,
			fmt.Sprintf("ALTER TABLE %s RENAME %s TO %s", k.table.SQL(), pg.Ident(c.Source), pg.Ident(c.Source+"_plaintext")),
			fmt.Sprintf("ALTER TABLE %s RENAME %s TO %s", k.table.SQL(), pg.Ident(c.Target), pg.Ident(c.Source)))
		c.Source, c.Target = spec.Source+"_plaintext", spec.Source
		for _, statement := range append(statements, c.ReverseCapture().Do...) {
			k.db.Run(k.t, statement)
		}
		k.columns[i].Source, k.columns[i].Target, k.columns[i].Reverse = c.Source, c.Target, true
		event := lifecycle.Event{Table: spec.LogTable, Column: spec.LogColumn, Kind: lifecycle.KindCutOver}
		check(k.t, k.db.InTx(k.t.Context(), func(tx pg.Tx) error {
			_, err := (&lifecycle.Log{}).Append(k.t.Context(), tx, event)
			return err
		}))
	}
	k.relation = k.inspect(k.t.Context())
}

// fewCutOver are fifty items, encrypted and cut over.
func fewCutOver(t *testing.T, more string) *kit {
	t.Helper()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems+more)
	k.start(ctx, 10)
	if job := k.finish(ctx); job.State != work.Done {
		t.Fatalf("the first job ended %s", job.State)
	}
	k.cutOver()
	return k
}

// seal is the cell of a text in the row of public.items with that id.
func (k *kit) seal(ctx context.Context, id int64, text string) []byte {
	k.t.Helper()
	keys := must(cell.NewKeyEncoder([]cell.TypeInfo{{OID: 20, Name: "int8", Kind: 'b', Category: 'N'}}))(k.t)
	address := must(keys.Append(nil, [][]byte{binary.BigEndian.AppendUint64(nil, uint64(id))}))(k.t)
	scheme, _ := k.keyring.Scheme(k.columns[0].ID, k.columns[0].Scheme)
	return must(k.keyring.Seal(nil, scheme, cell.Address{Column: scheme.Column, Key: address}, []byte(text)))(k.t)
}

// applicationWrites are cells that an application writes after a cutover: changed, new, emptied, of a deleted row.
func (k *kit) applicationWrites(ctx context.Context) {
	k.t.Helper()
	exec := func(sql string, args ...any) { must(k.db.Exec(ctx, sql, args...))(k.t) }
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
	k.start(ctx, 10)
	if job := k.finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.proven(ctx, 51)
	for id, want := range map[int]string{1: "changed 1", 5: "changed 5", 100: "new", 101: ""} {
		if got := testenv.One[*string](t, k.db, "SELECT secret_plaintext FROM public.items WHERE id = $1", id); got == nil || *got != want {
			t.Errorf("row %d is not %q", id, want)
		}
	}
	if testenv.One[bool](t, k.db, "SELECT secret_plaintext IS NOT NULL FROM public.items WHERE id = 6") {
		t.Error("what was emptied is back")
	}
	state := must(lifecycle.Latest(ctx, k.db, k.columns[0].LogTable, k.columns[0].LogColumn))(t)
	if state.Phase != lifecycle.PhaseCutOver || state.Run.State != lifecycle.RunDone || state.Run.Rows != 7 || state.Run.Job != k.job.ID {
		t.Errorf("the log folds to %+v", state)
	}
	if n := testenv.One[int](t, k.db, "SELECT count(*) FROM cipherfleet.events WHERE job_id = $1 AND phase <> 'cut-over'", k.job.ID); n != 0 {
		t.Errorf("%d events of the job are of another phase", n)
	}
}

func TestAJobInReverseHasNothingToDoAfterACutover(t *testing.T) {
	t.Parallel()
	k := fewCutOver(t, "")
	k.start(t.Context(), 10)
	job := k.finish(t.Context())
	if n := testenv.One[int](t, k.db, "SELECT coalesce(sum(rows), 0)::int FROM cipherfleet.ranges WHERE job_id = $1", job.ID); job.State != work.Done || n != 0 {
		t.Errorf("the job ended %s and wrote %d rows", job.State, n)
	}
}

// A plaintext that has no cell may be all that is left of a value.
func TestAJobInReverseNeverEmptiesAPlaintext(t *testing.T) {
	t.Parallel()
	k := fewCutOver(t, "")
	k.db.Run(t, "INSERT INTO public.items (id, secret_plaintext) VALUES (100, 'of code that knows no cells')")
	k.start(t.Context(), 10)
	if job := k.finish(t.Context()); job.State != work.Done {
		t.Fatalf("the job ended %s", job.State)
	}
	if testenv.One[int](t, k.db, "SELECT count(*) FROM public.items WHERE id = 100 AND secret_plaintext IS NOT NULL") != 1 {
		t.Error("the plaintext is gone")
	}
}

func TestACellThatDoesNotOpenIsQuarantined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := fewCutOver(t, "")
	must(k.db.Exec(ctx, `UPDATE public.items SET secret = $1 WHERE id IN (2, 3)`, k.seal(ctx, 3, "of row 3")))(t)
	k.start(ctx, 10)
	if job := k.finish(ctx); job.State != work.Failed || quarantined(t, k) != 1 {
		t.Fatalf("the job ended %s with %d rows in quarantine", job.State, quarantined(t, k))
	}
	if reason := testenv.One[string](t, k.db, "SELECT min(reason) FROM cipherfleet.quarantine WHERE key = '{2}'"); reason != "the value cannot be transformed" {
		t.Errorf("its reason is %q", reason)
	}
	if got := testenv.One[string](t, k.db, "SELECT secret_plaintext FROM public.items WHERE id = 3"); got != "of row 3" {
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
			k.db.Run(t, `CREATE FUNCTION public.shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.secret_plaintext := upper(new.secret_plaintext); RETURN new; END';
				CREATE TRIGGER shout BEFORE UPDATE ON public.items FOR EACH ROW WHEN (new.id = 2) EXECUTE FUNCTION public.shout()`)
			k.start(ctx, 10)
			if pass == "alone" {
				k.db.Run(t, "UPDATE cipherfleet.ranges SET pass = 5")
			}
			if job := k.finish(ctx); job.State != work.Failed || quarantined(t, k) != 1 {
				t.Fatalf("the job ended %s with %d rows in quarantine", job.State, quarantined(t, k))
			}
			reason := testenv.One[string](t, k.db, "SELECT min(reason) FROM cipherfleet.quarantine WHERE key = '{2}'")
			if reason != "the column's type, or a trigger, alters the value" {
				t.Errorf("its reason is %q", reason)
			}
			if got := testenv.One[string](t, k.db, "SELECT secret_plaintext FROM public.items WHERE id = 3"); got != "changed 3" {
				t.Errorf("its neighbour became %q", got)
			}
		})
	}
}

func TestATypeThatRoundsIsNoticed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, "CREATE TABLE public.items (id bigint PRIMARY KEY, secret numeric); INSERT INTO public.items VALUES (1, 1.25), (2, 3)")
	k.start(ctx, 10)
	k.finish(ctx)
	k.cutOver()
	k.db.Run(t, `ALTER TABLE public.items DROP COLUMN secret_plaintext CASCADE; ALTER TABLE public.items ADD COLUMN secret_plaintext numeric(5, 1)`)
	c := ddl.Column{ID: k.columns[0].ID, Table: k.table, Source: "secret_plaintext", Target: "secret", Key: []string{"id"}}
	for _, statement := range c.ReverseCapture().Do {
		k.db.Run(t, statement)
	}
	k.relation = k.inspect(ctx)
	column, _ := k.relation.Column("secret_plaintext")
	k.columns[0].SourceAttnum = column.Attnum
	k.start(ctx, 10)
	if job := k.finish(ctx); job.State != work.Failed || quarantined(t, k) != 2 {
		t.Errorf("the job ended %s with %d rows in quarantine", job.State, quarantined(t, k)) // 3 is stored as 3.0
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
	k.wrap = func(inner transform.Transform) transform.Transform {
		return &meanwhile{Transform: inner, write: func() {
			must(k.db.Exec(ctx, `UPDATE public.items SET secret = $1 WHERE id = 3`, k.seal(ctx, 3, "later")))(t)
			must(k.db.Exec(ctx, `UPDATE public.items SET secret = NULL WHERE id = 4`))(t)
		}}
	}
	k.start(ctx, 1000)
	if job := k.finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.proven(ctx, 51)
	if got := testenv.One[string](t, k.db, "SELECT secret_plaintext FROM public.items WHERE id = 3"); got != "later" {
		t.Errorf("row 3 became %q", got)
	}
	if testenv.One[bool](t, k.db, "SELECT secret_plaintext IS NOT NULL FROM public.items WHERE id = 4") {
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
	k.start(ctx, 10)
	k.finish(ctx)
	k.cutOver()
	k.applicationWrites(ctx)
	k.start(ctx, 10)
	if job := k.finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.proven(ctx, 100)
}

func TestReverseCaptureIsWatched(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := fewCutOver(t, "")
	k.applicationWrites(ctx)
	k.start(ctx, 1000)
	k.wrap = func(inner transform.Transform) transform.Transform {
		return &meanwhile{Transform: inner, write: func() {
			k.db.Run(t, fmt.Sprintf(`ALTER TABLE public.items DISABLE TRIGGER "~cipherfleet_%d_reverse_update"`, k.columns[0].ID))
		}}
	}
	if err := k.work(ctx); backfill.ErrorClass(err) != "shape" {
		t.Errorf("the range ended with %v", err)
	}
}

// within carries what is uncovered in one transaction, as a rollback does under its lock.
func (k *kit) within(ctx context.Context, most int) (rows int64, err error) {
	k.t.Helper()
	k.job = work.Job{Relation: k.relation.OID, Spec: work.Spec{Schema: k.table.Schema, Table: k.table.Name, Key: k.key().Names(), Columns: k.columns}}
	shape := k.shape(ctx, k.relation.OID)
	err = k.db.InTx(ctx, func(tx pg.Tx) (err error) {
		rows, err = backfill.Within(ctx, tx, shape, k.keyring, most)
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
	k.proven(ctx, 51)
}

func TestWithinATransactionNothingIsGuessed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := fewCutOver(t, "")
	must(k.db.Exec(ctx, `UPDATE public.items SET secret = $1 WHERE id = 2`, k.seal(ctx, 3, "of row 3")))(t)
	if _, err := k.within(ctx, 10); !backfill.Resists(err) {
		t.Errorf("a cell of another row gave %v", err)
	}
	must(k.db.Exec(ctx, `UPDATE public.items SET secret = $1 WHERE id = 2`, k.seal(ctx, 2, "of row 2")))(t)
	k.db.Run(t, `CREATE FUNCTION public.shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.secret_plaintext := upper(new.secret_plaintext); RETURN new; END';
		CREATE TRIGGER shout BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.shout()`)
	if _, err := k.within(ctx, 10); !backfill.Resists(err) {
		t.Errorf("a value that a trigger alters gave %v", err)
	}
	k.db.Run(t, `ALTER TABLE public.items DISABLE TRIGGER shout;
		CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER no BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.no()`)
	if _, err := k.within(ctx, 10); !backfill.Resists(err) {
		t.Errorf("a write that a trigger suppresses gave %v", err)
	}
}

// rollBack gives the sources their names back, as a rollback does; from then on the kit's jobs go forward again.
func (k *kit) rollBack() {
	k.t.Helper()
	for i, spec := range k.columns {
		c := ddl.Column{ID: spec.ID, Table: k.table, Source: spec.Source, Target: spec.Target, Key: k.key().Names()}
		statements := append(c.ReverseCapture().Undo,
			fmt.Sprintf("ALTER TABLE %s RENAME %s TO %s", k.table.SQL(), pg.Ident(c.Target), pg.Ident(k.target(spec.LogColumn))),
			fmt.Sprintf("ALTER TABLE %s RENAME %s TO %s", k.table.SQL(), pg.Ident(c.Source), pg.Ident(spec.LogColumn)))
		c.Source, c.Target = spec.LogColumn, k.target(spec.LogColumn)
		for _, statement := range append(statements, c.Capture().Do...) {
			k.db.Run(k.t, statement)
		}
		k.columns[i].Source, k.columns[i].Target, k.columns[i].Reverse = c.Source, c.Target, false
		event := lifecycle.Event{Table: spec.LogTable, Column: spec.LogColumn, Kind: lifecycle.KindRolledBack}
		check(k.t, k.db.InTx(k.t.Context(), func(tx pg.Tx) error {
			_, err := (&lifecycle.Log{}).Append(k.t.Context(), tx, event)
			return err
		}))
	}
	k.relation = k.inspect(k.t.Context())
}

// After a rollback the job that sealed looks after the column again, although one in reverse came later.
func TestAfterARollbackTheJobForwardSweepsAgain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := fewCutOver(t, "")
	forward := testenv.One[string](t, k.db, "SELECT id::text FROM cipherfleet.jobs")
	k.applicationWrites(ctx)
	k.start(ctx, 10)
	reverse := k.finish(ctx)
	if reverse.State != work.Done {
		t.Fatalf("the job in reverse ended %s", reverse.State)
	}
	if _, err := k.jobs.CatchUp(ctx, forward, []uint32{k.relation.OID}, nil); !errors.Is(err, work.ErrNotReady) {
		t.Errorf("a column that is cut over is swept again: %v", err)
	}
	k.rollBack()
	if idle := must(k.jobs.Idle(ctx))(t); len(idle) != 1 || idle[0].ID != forward {
		t.Errorf("%d jobs are to be looked after, want the one forward", len(idle))
	}
	if _, err := k.jobs.CatchUp(ctx, reverse.ID, []uint32{k.relation.OID}, nil); !errors.Is(err, work.ErrNotReady) {
		t.Errorf("the job in reverse sweeps again: %v", err)
	}
	k.db.Run(t, "UPDATE public.items SET secret = 'after the rollback' WHERE id = 20")
	k.job = must(k.jobs.CatchUp(ctx, forward, []uint32{k.relation.OID}, nil))(t)
	if job := k.finish(ctx); job.State != work.Done {
		t.Fatalf("the sweep ended %s: %s", job.State, job.StoppedBy)
	}
	k.proven(ctx, 51)
}
