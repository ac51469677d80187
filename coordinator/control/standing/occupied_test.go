package standing_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// occupy has a job at work on a table, and returns its id and what asks whether the table is free.
func occupy(t *testing.T, spec string) (db *testenv.DB, job string, ask func() error) {
	t.Helper()
	db = testenv.Database(t)
	if err := lifecycle.Install(t.Context(), db.DB); err != nil {
		t.Fatal(err)
	}
	db.Run(t, `CREATE TABLE busy (id int)`)
	job = testenv.One[string](t, db, `INSERT INTO cipherfleet.jobs (relid, spec, state, total) VALUES ('busy'::regclass, $1::jsonb, 'sweeping', 1) RETURNING id::text`, spec)
	relation := testenv.One[uint32](t, db, `SELECT 'busy'::regclass::oid`)
	return db, job, func() error {
		return standing.CheckFree(t.Context(), db, relation, pg.Table{Schema: "public", Name: "busy"})
	}
}

const unasked = `{"unasked": true}`

// What is in the way is waited for when the fleet began it by itself, however often that happens, and each is told of once.
func TestWhatTheFleetBeganByItselfIsWaitedFor(t *testing.T) {
	t.Parallel()
	db, first, free := occupy(t, unasked)
	var told []string
	p := &standing.Patience{DB: db.DB, Left: time.Minute}
	second := ""
	p.Tell = func(job string) {
		if told = append(told, job); job == first {
			db.Run(t, `UPDATE cipherfleet.jobs SET state = 'done'`)
			second = testenv.One[string](t, db, `INSERT INTO cipherfleet.jobs (relid, spec, state, total) SELECT relid, spec, 'planning', 1 FROM cipherfleet.jobs RETURNING id::text`)
			return
		}
		db.Run(t, `UPDATE cipherfleet.jobs SET state = 'failed'`)
	}
	if err := p.Through(t.Context(), free); err != nil || !slices.Equal(told, []string{first, second}) || p.Left >= time.Minute {
		t.Errorf("%v; told of %v; %v are left", err, told, p.Left)
	}
}

func TestNobodyWaitsForWhatSomebodyAskedForOrPaused(t *testing.T) {
	t.Parallel()
	for spec, state := range map[string]string{`{}`: "running", unasked: "paused"} {
		db, _, free := occupy(t, spec)
		db.Run(t, `UPDATE cipherfleet.jobs SET state = $1`, state)
		p := &standing.Patience{DB: db.DB, Left: time.Hour, Tell: func(string) { t.Error("waits") }}
		busy(t, p.Through(t.Context(), free))
	}
	db, _, free := occupy(t, unasked)
	p := &standing.Patience{DB: db.DB, Left: time.Hour, Tell: func(string) { db.Run(t, `UPDATE cipherfleet.jobs SET state = 'paused'`) }}
	busy(t, p.Through(t.Context(), free))
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	db, job, free := occupy(t, unasked)
	p := &standing.Patience{DB: db.DB, Left: time.Second}
	err := p.Through(t.Context(), free)
	busy(t, err)
	var problem *messages.Problem
	if !errors.As(err, &problem) || problem.Job != job || p.Left > 0 {
		t.Errorf("%+v; %v are left", problem, p.Left)
	}
	busy(t, (&standing.Patience{DB: db.DB, Tell: func(string) { t.Error("waits without patience") }}).Through(t.Context(), free))
	why := errors.New("called off")
	ctx, stop := context.WithCancelCause(t.Context())
	p = &standing.Patience{DB: db.DB, Left: time.Hour, Tell: func(string) { stop(why) }}
	if err := p.Through(ctx, free); !errors.Is(err, why) {
		t.Errorf("called off it said %v", err)
	}
}

func busy(t *testing.T, err error) {
	t.Helper()
	if code, _ := app.Explain(err); code != app.CodeRefused || !strings.Contains(err.Error(), "a job over public.busy has not ended") {
		t.Errorf("exit code %d: %v", code, err)
	}
}
