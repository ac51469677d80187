package control

import (
	"path/filepath"
	"testing"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestAlteringTakesItsTimeWhateverTheDatabasesDefaultIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := testenv.Database(t)
	db.Run(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''2s''', current_database()); END $$`)
	p := New(Plane{DB: testenv.Open(t, db.URL).DB})
	conn, err := p.campaign(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Discard(ctx)
	err = p.alter(ctx, func(tx pg.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_sleep(2.2)`)
		return err
	})
	if err != nil {
		t.Errorf("a statement that took its time: %v", err)
	}
}

func TestAPausedJobThatWasNotWatchedIsFollowedByOneThatCompares(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id int PRIMARY KEY, email text)`)
	path := filepath.Join(t.TempDir(), "kek.json")
	if err := kms.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	kek, err := kms.Open(ctx, "file:"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	p := New(Plane{DB: db.DB, KEK: kek, Tracer: noop.NewTracerProvider().Tracer("")})
	conn, err := p.campaign(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Discard(ctx)
	r := messages.StartRequest{Schema: "public", Table: "users", Columns: []messages.ColumnRequest{{Source: "email"}}, Prepare: true}
	prepared, err := p.Prepare(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	job, err := p.jobs().Create(ctx, work.Job{RequestID: "r", Relation: prepared.Relation.OID, Spec: prepared.spec(r)})
	if err == nil {
		_, err = (&work.Planner{Jobs: p.jobs()}).Plan(ctx, job.ID, prepared.Relation)
	}
	if err == nil {
		_, err = p.jobs().Pause(ctx, job.ID, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	db.Run(t, `DROP TRIGGER "~cipherfleet_1_update" ON users`)
	if prepared, err = p.Prepare(ctx, r); err != nil {
		t.Fatal(err)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM pg_trigger WHERE tgname = '~cipherfleet_1_update'`); n != 1 {
		t.Error("capture was not put back")
	}
	state, err := lifecycle.Latest(ctx, db, "public.users", "email")
	if err != nil || state.Run.State != lifecycle.RunStopped || state.Phase != lifecycle.PhaseDualWriting || !prepared.columns[0].Compare {
		t.Errorf("the column is %+v, to be compared %t: %v", state, prepared.columns[0].Compare, err)
	}
	if job, err = p.jobs().Load(ctx, job.ID); err != nil || job.State != work.Failed || job.StoppedBy == "" {
		t.Errorf("the job from before is %+v: %v", job, err)
	}
}

func TestAJobWhoseTableWasDroppedIsNotDone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := testenv.Database(t)
	p := New(Plane{DB: db.DB, Tracer: noop.NewTracerProvider().Tracer("")})
	conn, err := p.campaign(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Discard(ctx)
	job, err := p.jobs().Create(ctx, work.Job{RequestID: "r", Relation: 4_000_000_000, Spec: work.Spec{Schema: "public", Table: "gone"}})
	if err != nil {
		t.Fatal(err)
	}
	db.Run(t, `UPDATE cipherfleet.jobs SET state = 'sweeping', pass = 1`)
	if err := p.step(ctx, job); err != nil {
		t.Fatal(err)
	}
	if job, err = p.jobs().Load(ctx, job.ID); err != nil || job.State != work.Failed || job.StoppedBy != "the table was dropped" {
		t.Errorf("the job is %s, stopped by %q: %v", job.State, job.StoppedBy, err)
	}
}
