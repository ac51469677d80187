package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// desk keeps what the ranges of the present jobs need, so that it is looked up once per job and leaf.
type desk struct {
	db    *pg.DB
	proxy *pg.DB // nil: there is none
	keys  *keys
	bus   *bus.Bus

	foreign *foreign.Keys // of other systems; nil: none

	mu   sync.Mutex
	open map[string]*folder
}

// folder is one job on the desk.
type folder struct {
	job      work.Job
	pass     int                 // in which the job was looked up
	chain    *lifecycle.Keychain // nil: the job needs no keys
	revision int64               // of the keys that the job was looked up with
	timeouts backfill.Timeouts
	size     *backfill.Sizer
	shapes   map[uint32]*shape.Shape
}

const mostFolders = 8 // jobs a worker remembers; the rest is looked up again

// executor prepares one for the claim's leaf; done is to be called when it has ended.
func (d *desk) executor(ctx context.Context, claim work.Claim) (x *backfill.Executor, done func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.folder(ctx, claim)
	if err != nil {
		return nil, nil, err
	}
	open := f.shapes[claim.Leaf]
	if open == nil {
		open, err = shape.Open(ctx, d.db, f.job, claim.Leaf, f.keyring())
		if f.chain != nil && f.chain.Learn(ctx, err) {
			open, err = shape.Open(ctx, d.db, f.job, claim.Leaf, f.keyring())
		}
		if err != nil {
			return nil, nil, err
		}
		f.shapes[claim.Leaf] = open
	}
	done = func() {}
	if f.chain != nil {
		done = d.keys.begin(f.revision)
	}
	x = &backfill.Executor{
		DB: d.db, Shape: open, Limits: f.job.Spec.Limits, Size: f.size, Timeouts: f.timeouts, Budget: f.job.Spec.Budget,
		Log: &lifecycle.Log{}, Columns: f.job.Events(),
		Transform: func(c shape.Column) (transform.Transform, error) {
			if c.External.Subject != "" {
				return c.Encrypter(d.encrypter(c.External.Subject)), nil
			}
			t, err := c.Transform(f.keyring())
			if err == nil && f.chain != nil {
				t = backfill.WithKeys(t, f.chain, d.db)
			}
			return t, err
		},
	}
	if d.proxy != nil {
		x.Proxy = d.proxy.Acquire
	}
	return x, done, nil
}

// keyring is where the job's keys are; empty if it needs none.
func (f *folder) keyring() *cell.Keyring {
	if f.chain == nil {
		return cell.NewKeyring([16]byte{})
	}
	return f.chain.Keyring()
}

// stale says that the job's columns may have other schemes by now.
func (f *folder) stale(claim work.Claim) bool {
	return f.pass < claim.Pass || f.chain != nil && f.revision != f.chain.Revision()
}

// folder looks a job up, and again when it sweeps, which may be long after, or when the registry moved.
func (d *desk) folder(ctx context.Context, claim work.Claim) (*folder, error) {
	if f := d.open[claim.Job]; f != nil {
		d.refresh(ctx, f.chain)
		if !f.stale(claim) {
			return f, nil
		}
	}
	job, err := (&work.Jobs{DB: d.db}).Load(ctx, claim.Job)
	if err != nil {
		return nil, err
	}
	if err := work.MayReverse(ctx, d.db, job); err != nil {
		return nil, err
	}
	f := &folder{pass: claim.Pass, size: backfill.NewSizer(job.Spec.Limits), shapes: map[uint32]*shape.Shape{}}
	if job, err = d.withKeys(ctx, f, job); err != nil {
		return nil, err
	}
	if err := shape.Readable(ctx, d.db, job); err != nil {
		return nil, err
	}
	server, err := pg.InspectServer(ctx, d.db)
	if err != nil {
		return nil, err
	}
	if len(d.open) >= mostFolders || d.open == nil {
		d.open = map[string]*folder{}
	}
	f.job, f.timeouts = job, backfill.TimeoutsFor(server.DeadlockTimeout)
	d.open[claim.Job] = f
	return f, nil
}

// withKeys gives the folder the keys that its job needs, if any, and has the job write the schemes that are written now.
func (d *desk) withKeys(ctx context.Context, f *folder, job work.Job) (work.Job, error) {
	if !slices.ContainsFunc(job.Spec.Columns, func(c work.Column) bool { return c.Sealed() }) {
		return job, nil
	}
	chain, err := d.keys.open(ctx)
	if err != nil {
		return job, err
	}
	d.refresh(ctx, chain)
	f.chain, f.revision = chain, chain.Revision() // before the schemes: who has newer ones says less than he could
	return job.Following(chain).Reading(ctx, d.foreign)
}

// refresh looks which keys there are: with one that was taken away nothing is opened or sealed any more.
func (d *desk) refresh(ctx context.Context, chain *lifecycle.Keychain) {
	if chain == nil {
		return
	}
	if err := chain.Refresh(ctx); err != nil { // what was taken away is gone all the same
		d.keys.Log.WarnContext(ctx, "the keys could not be refreshed", "error", err)
	}
}

// encrypter asks a user's own encrypter. One that does not answer may do so later; one that answers what nobody can
// read does not keep its contract.
func (d *desk) encrypter(subject string) shape.Ask {
	return func(ctx context.Context, request messages.ExternalRequest) (messages.ExternalAnswer, error) {
		answer, err := d.bus.External(ctx, subject, request)
		switch {
		case errors.Is(err, messages.ErrMalformed), errors.Is(err, messages.ErrVersion):
			return answer, fmt.Errorf("%w: %w", transform.ErrAnswer, err)
		case err != nil && ctx.Err() == nil:
			return answer, fmt.Errorf("%w: %w", transform.ErrEncrypter, err)
		}
		return answer, err
	}
}

// forget drops a job, so that the next range of it looks everything up again.
func (d *desk) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, id)
}

// reason says for people why a job cannot go on.
func (d *desk) reason(ctx context.Context, claim work.Claim, cause error) string {
	if !errors.Is(cause, keyspace.ErrChanged) {
		return cause.Error()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.open[claim.Job]
	if f == nil || f.shapes[claim.Leaf] == nil {
		return cause.Error()
	}
	what, err := f.shapes[claim.Leaf].Changed(ctx, d.db)
	if err != nil || what == "" {
		return cause.Error()
	}
	return fmt.Sprintf("%v: %s", keyspace.ErrChanged, what)
}
