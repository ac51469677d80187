package demo

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestWhatAKilledWorkerHeldIsCounted whether its lease ended, or its range was split while that lasted.
func TestWhatAKilledWorkerHeldIsCounted(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	job := testenv.One[string](t, db, `INSERT INTO cipherfleet.jobs (relid, spec, state) VALUES (1, '{}', 'done') RETURNING id::text`)
	db.Run(t, `INSERT INTO cipherfleet.ranges (job_id, relid, state, worker, attempts) SELECT $1::uuid, 1, state, worker, attempts
 FROM (VALUES ('done', 'w2', 1), ('split', 'w2', 1), ('split', 'w1', 1), ('done', 'w3', 2)) v(state, worker, attempts)`, job)
	p := &play{stage: stage{db: db.DB}}
	for _, id := range []string{"w1", "w2"} {
		w := &worker{killed: id == "w1"}
		w.id = id
		p.fleet.workers = append(p.fleet.workers, w)
	}
	if _, _, err := p.account(t.Context(), job); err != nil || p.figures.Redelivered != 2 {
		t.Errorf("%d ranges were taken up again, want the split one of w1 and the one that was claimed twice: %v", p.figures.Redelivered, err)
	}
}
