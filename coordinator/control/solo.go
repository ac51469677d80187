package control

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Solo does whole jobs inside one's own program: coordinator and workers in one, with Postgres and nothing else. It
// leads the installation while a job goes on, so that no coordinator does at the same time. DB needs two connections
// for each worker and two more.
type Solo struct {
	DB      *pg.DB
	KEK     cell.KEK
	Foreign *foreign.Keys // of other systems whose values are re-encrypted; nil: none
	Workers int           // ranges that are worked on at once; 0: one
	// Progress is told of every chunk after its commit, by several goroutines if there are several workers. May be nil.
	Progress func(Progress)
	// Before changes values of a source column, by its name, before they are sealed; see [transform.Hook]. May be nil.
	Before map[string]transform.Hook
	Log    *slog.Logger // nil: none
	Tracer trace.Tracer // nil: none

	plane *Plane
}

// Progress is one committed chunk of a job.
type Progress struct {
	Job   string
	Rows  int64 // written by this chunk
	Total int64 // rows of the whole table, estimated
}

const (
	soloLease    = 30 * time.Second // renewed by each chunk
	soloWait     = time.Second      // most that passes until ranges are looked at again
	soloAttempts = 5                // of a range, until its job fails or this program gives up
)

// Backfill starts the job that is asked for, or goes on with one over the same columns that has not ended, and returns
// when it has ended: done, or failed with a reason. The end of ctx leaves it where it stands: the same call resumes. It
// is [ErrLed] while a coordinator leads, and a *messages.Problem if the table cannot be done; then nothing was changed.
func (s *Solo) Backfill(ctx context.Context, r messages.StartRequest) (messages.Job, error) {
	if r.RequestID == "" {
		r.RequestID = uuid.NewString()
	}
	if err := r.Validate(); err != nil {
		return messages.Job{}, err
	}
	s.open()
	lead, err := s.plane.campaign(ctx)
	if err != nil {
		return messages.Job{}, err
	}
	defer abdicate(ctx, lead)
	started, err := s.plane.Start(ctx, r)
	if err != nil {
		return messages.Job{}, err
	}
	for {
		job, err := s.plane.jobs().Load(ctx, started.ID)
		if err != nil {
			return messages.Job{}, err
		}
		if job.State.Ended() || job.State == work.Paused {
			return s.plane.describe(ctx, job)
		}
		if err := s.step(ctx, job); err != nil {
			return messages.Job{}, fmt.Errorf("carry job %s on: %w", job.ID, err)
		}
	}
}

func (s *Solo) open() {
	p := Plane{DB: s.DB, KEK: s.KEK, Foreign: s.Foreign, Log: s.Log, Tracer: s.Tracer}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	if p.Tracer == nil {
		p.Tracer = noop.NewTracerProvider().Tracer("")
	}
	s.plane = New(p)
}

// step takes the job on: its plan, then its ranges, then, when all of them are closed, its next sweep or its end.
func (s *Solo) step(ctx context.Context, job work.Job) error {
	if job.State == work.Planning {
		relation, err := pg.Inspect(ctx, s.DB, job.Spec.Schema, job.Spec.Table)
		if err != nil {
			return err
		}
		_, err = (&work.Planner{Jobs: s.plane.jobs()}).Plan(ctx, job.ID, relation)
		return err
	}
	open, _, err := s.plane.open(ctx, job)
	if err != nil {
		return err
	}
	if open == 0 {
		leaves, err := s.plane.leaves(ctx, job)
		if err == nil {
			_, err = s.plane.jobs().Step(ctx, job.ID, leaves)
		}
		return err
	}
	ids, err := pg.Values[int64](ctx, s.DB, claimableSQL, job.ID)
	if err != nil {
		return fmt.Errorf("find ranges: %w", err)
	}
	if len(ids) == 0 { // somebody holds what is left, or a sweep is to begin later
		wait(ctx, soloWait)
		return ctx.Err()
	}
	return s.work(ctx, job, ids)
}
