package control

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Plane is the control plane of one installation. Every field but RangeRows, CatchUp, Private, Proxied and Foreign is required.
type Plane struct {
	DB        *pg.DB
	Bus       *bus.Bus
	KEK       cell.KEK
	AckWait   time.Duration // of the consumer
	Reconcile time.Duration // how often queue and Postgres are compared
	RangeRows int64         // rows a range should have; 0: by the table's size
	CatchUp   time.Duration // how soon a table is swept again whose rows became uncovered after its job; 0: never
	Private   bool          // nobody outside this process can reach its NATS
	Proxied   bool          // an encrypting proxy is configured, for its workers too
	Foreign   *foreign.Keys // of other systems whose values are re-encrypted; nil: none
	Log       *slog.Logger
	Tracer    trace.Tracer

	lead *leadership
}

// New prepares a plane; fields as in [Plane].
func New(p Plane) *Plane {
	p.lead = &leadership{woken: make(chan struct{}, 1)}
	return &p
}

// jobs is the projection, fenced by this plane's leadership.
func (p *Plane) jobs() *work.Jobs {
	return &work.Jobs{DB: p.DB, Log: &lifecycle.Log{}, Fence: p.lead.fence}
}

// Start prepares what is missing and starts a job, or answers with the job that the same request started before.
// A refusal is a *messages.Problem and has changed nothing.
func (p *Plane) Start(ctx context.Context, r messages.StartRequest) (messages.Job, error) {
	return p.start(ctx, r, false)
}

// start is [Plane.Start], of a job that somebody asked for or, unasked, that the fleet begins by itself.
func (p *Plane) start(ctx context.Context, r messages.StartRequest, unasked bool) (messages.Job, error) {
	job, err := p.jobs().ByRequest(ctx, r.RequestID)
	if err == nil {
		return p.describe(ctx, job)
	}
	if !errors.Is(err, work.ErrNoJob) {
		return messages.Job{}, err
	}
	ctx, span := p.Tracer.Start(ctx, "job", trace.WithNewRoot())
	defer span.End()
	prepare := p.Prepare
	switch r.Direction {
	case messages.DirectionReverse:
		prepare = p.prepareReverse
	case messages.DirectionRotate:
		prepare = p.prepareRotation
	case messages.DirectionIndex:
		prepare = p.prepareIndex
	}
	prepared, err := prepare(ctx, r)
	if err != nil {
		return messages.Job{}, problem(err)
	}
	if job, err := p.adopt(ctx, prepared); err == nil || !errors.Is(err, work.ErrNoJob) {
		return job, err
	}
	spec := prepared.spec(r)
	spec.Unasked = unasked
	job, err = p.jobs().Create(ctx, work.Job{RequestID: r.RequestID, Relation: prepared.Relation.OID, Spec: spec, TraceParent: traceParent(ctx)})
	if errors.Is(err, work.ErrBusy) { // somebody was quicker
		return messages.Job{}, p.busy(ctx, prepared.Relation.OID)
	}
	if err != nil {
		return messages.Job{}, problem(err)
	}
	p.lead.wake()
	return p.describe(ctx, job)
}

// adopt answers with the job over the same columns that has not ended, and lets it go on if it was paused: starting is
// the same act as resuming. ErrNoJob if there is none; another job over the table is in the way.
func (p *Plane) adopt(ctx context.Context, prepared Prepared) (messages.Job, error) {
	job, err := p.jobs().Live(ctx, prepared.Relation.OID)
	if err != nil {
		return messages.Job{}, err
	}
	if !prepared.isOf(job) {
		return messages.Job{}, occupied(job)
	}
	if job.State == work.Paused {
		if job, err = p.jobs().Resume(ctx, job.ID, ""); err != nil {
			return messages.Job{}, problem(err)
		}
		p.lead.wake()
	}
	return p.describe(ctx, job)
}

// isOf says that the job goes over the very columns that were prepared, in the same way.
func (p Prepared) isOf(job work.Job) bool {
	columns := slices.Clone(p.columns)
	for i, c := range job.Spec.Columns {
		if i >= len(columns) {
			return false
		}
		columns[i].Compare = columns[i].Compare || c.Compare // that were verified since it began
		if c.Where.Same(columns[i].Where) {                  // whose text may be another
			columns[i].Where = c.Where
		}
		if c.Index != nil && columns[i].Index != nil && c.Index.ID == columns[i].Index.ID {
			columns[i].Index = c.Index // how many rows lacked a token when it began is the job's to know
		}
	}
	return reflect.DeepEqual(job.Spec.Columns, columns)
}

// busy is that another job is in the way. It may have ended meanwhile.
func (p *Plane) busy(ctx context.Context, relation uint32) error {
	job, err := p.jobs().Live(ctx, relation)
	if err != nil && !errors.Is(err, work.ErrNoJob) {
		return err
	}
	return occupied(job)
}

// occupied is that this job is in the way. One that the fleet began by itself is named to whoever asks: he may wait for it.
func occupied(job work.Job) error {
	refusal := &messages.Problem{Code: messages.CodeConflict, Field: "table", Message: work.ErrBusy.Error(), Hint: "resume, follow or cancel it first"}
	if job.Passing() {
		refusal.Job, refusal.Hint = job.ID, "the fleet began it by itself, for rows that were left behind: ask again when it has ended; cipherfleet job ls shows it"
	}
	return refusal
}

// Get says how a job stands.
func (p *Plane) Get(ctx context.Context, r messages.JobRequest) (messages.Job, error) {
	job, err := p.find(ctx, r)
	if err != nil {
		return messages.Job{}, err
	}
	return p.describe(ctx, job)
}

const mostListed = 100

// List says how the newest jobs stand.
func (p *Plane) List(ctx context.Context) ([]messages.Job, error) {
	jobs, err := p.jobs().List(ctx, mostListed)
	if err != nil {
		return nil, err
	}
	list := make([]messages.Job, len(jobs))
	for i, job := range jobs {
		if list[i], err = p.describe(ctx, job); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Pause lets no more chunks of a job commit.
func (p *Plane) Pause(ctx context.Context, r messages.JobRequest) (messages.Job, error) {
	return p.change(ctx, r, p.jobs().Pause)
}

// Resume lets a paused job go on.
func (p *Plane) Resume(ctx context.Context, r messages.JobRequest) (messages.Job, error) {
	return p.change(ctx, r, p.jobs().Resume)
}

// Cancel ends a job for good.
func (p *Plane) Cancel(ctx context.Context, r messages.JobRequest) (messages.Job, error) {
	return p.change(ctx, r, p.jobs().Cancel)
}

// Retry lets a job that ended with rows in quarantine try them again.
func (p *Plane) Retry(ctx context.Context, r messages.RetryRequest) (messages.Job, error) {
	return p.change(ctx, messages.JobRequest{Job: r.Job, Actor: r.Actor}, func(ctx context.Context, id, actor string) (work.Job, error) {
		job, err := p.jobs().Load(ctx, id)
		if err != nil {
			return work.Job{}, err
		}
		leaves, err := p.leaves(ctx, job)
		if err != nil {
			return work.Job{}, err
		}
		again, err := p.jobs().Retry(ctx, id, actor, leaves)
		if errors.Is(err, work.ErrBusy) {
			err = p.busy(ctx, job.Relation)
		}
		return again, err
	})
}

func (p *Plane) change(ctx context.Context, r messages.JobRequest, verb func(context.Context, string, string) (work.Job, error)) (messages.Job, error) {
	job, err := p.find(ctx, r)
	if err != nil {
		return messages.Job{}, err
	}
	if job, err = verb(ctx, job.ID, r.Actor); err != nil {
		return messages.Job{}, problem(err)
	}
	p.lead.wake()
	return p.describe(ctx, job)
}

func (p *Plane) find(ctx context.Context, r messages.JobRequest) (work.Job, error) {
	if _, err := uuid.Parse(r.Job); err != nil {
		return work.Job{}, &messages.Problem{Code: messages.CodeInvalid, Field: "job", Message: "is not a job's id", Hint: "a job's id is a UUID; list the jobs to find it"}
	}
	job, err := p.jobs().Load(ctx, r.Job)
	if err != nil {
		return work.Job{}, problem(err)
	}
	return job, nil
}

// describe says how a job stands.
func (p *Plane) describe(ctx context.Context, j work.Job) (messages.Job, error) {
	return status.DescribeJob(ctx, p.DB, j)
}

// problem turns the refusals that a requester can do something about into problems.
func problem(err error) error {
	var refusal *standing.Refusal
	var damage *lifecycle.DamageError
	var key *cell.KEKError
	var early *lifecycle.NotReadyError
	var state *work.StateError
	switch {
	case errors.As(err, &refusal):
		return refusal.Problem()
	case errors.As(err, &damage):
		return &messages.Problem{Code: messages.CodeRefused, Message: damage.Error(), Hint: damage.Hint()}
	case errors.As(err, &key):
		return &keyError{key, err}
	case errors.As(err, &early):
		return &messages.Problem{Code: messages.CodeWaiting, Field: "scheme", Message: early.Error(), Hint: early.Hint()}
	case errors.Is(err, work.ErrNoJob):
		return &messages.Problem{Code: messages.CodeNotFound, Field: "job", Message: "there is no such job", Hint: "list the jobs to find it"}
	case errors.Is(err, work.ErrNothingQuarantined):
		return &messages.Problem{Code: messages.CodeConflict, Field: "job", Message: "no row of the job is in quarantine", Hint: "there is nothing to try again; a job that failed for another reason is followed by a new one: cipherfleet backfill"}
	case errors.Is(err, work.ErrSuperseded):
		return &messages.Problem{Code: messages.CodeConflict, Field: "job", Message: "a later job went over the same columns", Hint: "try the quarantine of that one again; cipherfleet job ls names it"}
	case errors.Is(err, work.ErrNotReady):
		return &messages.Problem{Code: messages.CodeConflict, Field: "job", Message: "a column of the job was moved since and is not ready to be written", Hint: "cipherfleet status says where it stands; cipherfleet backfill makes it ready and starts a new job"}
	case errors.As(err, &state):
		return &messages.Problem{Code: messages.CodeConflict, Field: "job", Message: state.Error(), Hint: "a job that has ended stays so: cipherfleet backfill begins another one"}
	case errors.Is(err, ErrDeposed):
		return &messages.Problem{Code: messages.CodeUnavailable, Message: "this coordinator no longer leads", Hint: "repeat the request; the one that leads now will answer"}
	}
	return err
}

// troubled is that the coordinator's Postgres did not let it carry out a request, and may do so when it is repeated.
type troubled struct{ error }

// Unwrap is for the coordinator's log.
func (e *troubled) Unwrap() error { return e.error }

// Problem is for who asks.
func (e *troubled) Problem() *messages.Problem {
	return &messages.Problem{Code: messages.CodeUnavailable, Message: "the coordinator lost its connection to Postgres, or waited too long for a lock", Hint: "repeat the request; the coordinator's log says more"}
}

// answering tells who asks over NATS whether to repeat a request.
func answering[Q, A any](handle func(context.Context, Q) (A, error)) func(context.Context, Q) (A, error) {
	return func(ctx context.Context, q Q) (A, error) {
		a, err := handle(ctx, q)
		var told bus.Told
		if err == nil || errors.As(err, &told) {
			return a, err
		}
		switch pg.ClassOf(err) {
		case pg.ClassUnavailable, pg.ClassLock, pg.ClassConflict:
			return a, &troubled{err}
		}
		return a, err
	}
}

// keyError is that the coordinator's key-encryption key does not do. Who runs the coordinator reads all of it, who asks
// from elsewhere what it comes to.
type keyError struct {
	key *cell.KEKError
	error
}

// Unwrap is for who runs it.
func (e *keyError) Unwrap() error { return e.error }

// Problem is for who asks; it shows neither the key's place nor the cause.
func (e *keyError) Problem() *messages.Problem {
	return &messages.Problem{Code: keyCode(e.key.Class), Message: "the coordinator cannot use the column's keys: its key-encryption key is " + string(e.key.Class),
		Hint: "cipherfleet key ls names the one that each key was wrapped under: CIPHERFLEET_KEK, or kek in the manifest, must name it where the coordinator runs; its log says more"}
}

// keyCode says whether the key may come back by itself.
func keyCode(class cell.KEKClass) string {
	switch class {
	case cell.KEKUnavailable:
		return messages.CodeUnavailable
	case cell.KEKDenied:
		return messages.CodeDenied
	}
	return messages.CodeRefused
}
