package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
)

// operator is who wants the table encrypted. A request that is not answered is repeated until it is.
type operator struct {
	w *world
	r *rand.Rand

	mu      sync.Mutex
	job     string // the last one started
	started int
}

const answerTime = 5 * time.Second // then nobody will answer any more: whoever took the request was killed

// insist asks until there is an answer. A coordinator that is not there, or that failed meanwhile, is asked again.
func (o *operator) insist(ctx context.Context, ask func(context.Context) (messages.Job, error)) (job messages.Job, err error) {
	asked := eventually(ctx, func() error {
		once, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		job, err = ask(once)
		var problem *messages.Problem
		if errors.As(err, &problem) && problem.Code != messages.CodeInternal && problem.Code != messages.CodeBusy && problem.Code != messages.CodeUnavailable {
			return nil // an answer, though not the one that was hoped for
		}
		return err
	})
	return job, errors.Join(asked, err)
}

func (o *operator) request() messages.StartRequest {
	p := o.w.plan
	o.mu.Lock()
	defer o.mu.Unlock()
	o.started++
	r := messages.StartRequest{V: messages.Version, RequestID: fmt.Sprintf("seed-%d-job-%d", p.seed, o.started), Schema: p.layout.table.Schema, Table: p.layout.table.Name,
		ChunkRows: p.chunk, Prepare: p.prepare, UserTriggers: messages.TriggersFire, Actor: "chaos"}
	for _, source := range p.sources() {
		r.Columns = append(r.Columns, messages.ColumnRequest{Source: source})
	}
	return r
}

// start starts a job, or goes on with the one there is; sometimes the request is sent twice at once.
func (o *operator) start(ctx context.Context) (messages.Job, error) {
	request := o.request()
	ask := func(ctx context.Context) (messages.Job, error) { return o.w.bus.Start(ctx, request) }
	twin := make(chan struct{})
	go func() {
		defer close(twin)
		if o.started%2 == 0 {
			_, _ = o.insist(ctx, ask) // the other one's answer counts
		}
	}()
	job, err := o.insist(ctx, ask)
	<-twin
	if err != nil {
		return job, fmt.Errorf("start a job: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.job = job.ID
	return job, nil
}

// begin starts the first job, while the application writes.
func (o *operator) begin(ctx context.Context) error {
	job, err := o.start(ctx)
	if err == nil {
		o.w.note("job %s has begun", job.ID)
	}
	return err
}

// follow waits for the job's end; a failed job is an error.
func (o *operator) follow(ctx context.Context, id string) (messages.Job, error) {
	for {
		job, err := o.insist(ctx, func(ctx context.Context) (messages.Job, error) { return o.w.bus.Job(ctx, messages.JobRequest{Job: id}) })
		if err != nil {
			return job, fmt.Errorf("follow job %s: %w", id, err)
		}
		switch work.State(job.State) {
		case work.Done:
			o.w.note("job %s is done: %d rows, %d conflicts, %d ranges", id, job.Rows, job.Conflicts, job.Ranges.Done)
			return job, nil
		case work.Failed, work.Cancelled:
			return job, fmt.Errorf("job %s ended %s: %s", id, job.State, job.StoppedBy)
		}
		if !rest(ctx, 50*time.Millisecond) {
			return job, fmt.Errorf("follow job %s, which is %s with %+v, %d skipped: %w", id, job.State, job.Ranges, job.Skipped, context.Cause(ctx))
		}
	}
}

// keepGoing starts a job whenever the last one is done, until ctx ends.
func (o *operator) keepGoing(ctx context.Context) error {
	for ctx.Err() == nil {
		o.mu.Lock()
		id := o.job
		o.mu.Unlock()
		if _, err := o.follow(ctx, id); err != nil {
			return unless(ctx, err)
		}
		if _, err := o.start(ctx); err != nil {
			return unless(ctx, err)
		}
	}
	return nil
}

// unless forgives an error that is only the end that was wanted.
func unless(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// pause halts the job in hand for a while. A job that has just ended cannot be paused, and that is fine.
func (o *operator) pause(ctx context.Context, d time.Duration) error {
	o.mu.Lock()
	request := messages.JobRequest{Job: o.job}
	o.mu.Unlock()
	_, err := o.insist(ctx, func(ctx context.Context) (messages.Job, error) { return o.w.bus.Pause(ctx, request) })
	if err != nil {
		return forgiven(err)
	}
	rest(ctx, d)
	_, err = o.insist(ctx, func(ctx context.Context) (messages.Job, error) { return o.w.bus.Resume(ctx, request) })
	return forgiven(err)
}

// forgiven lets the answer pass that the job's state does not allow it: it has ended, or somebody was faster.
func forgiven(err error) error {
	var problem *messages.Problem
	if errors.As(err, &problem) && problem.Code == messages.CodeConflict {
		return nil
	}
	return err
}

// finish lets the job in hand end, and then one more that begins when nobody writes: it must leave nothing uncovered.
func (o *operator) finish(ctx context.Context) error {
	for range 2 {
		job, err := o.start(ctx)
		if err != nil {
			return err
		}
		if _, err := o.follow(ctx, job.ID); err != nil {
			return err
		}
		if job.RequestID == fmt.Sprintf("seed-%d-job-%d", o.w.plan.seed, o.started) {
			return nil
		}
	}
	return errors.New("a job that had ended was taken for one that goes on")
}
