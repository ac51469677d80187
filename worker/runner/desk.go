package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// desk keeps what the ranges of the present jobs need, so that it is looked up once per job and leaf.
type desk struct {
	db  *pg.DB
	kek cell.KEK
	bus *bus.Bus

	mu   sync.Mutex
	open map[string]*folder
}

// folder is one job on the desk.
type folder struct {
	job      backfill.Job
	pass     int // in which the job was looked up
	keyring  *cell.Keyring
	timeouts backfill.Timeouts
	size     *backfill.Sizer
	shapes   map[uint32]*backfill.Shape
}

const mostFolders = 8 // jobs a worker remembers; the rest is looked up again

// executor prepares one for the claim's leaf.
func (d *desk) executor(ctx context.Context, claim backfill.Claim) (*backfill.Executor, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.folder(ctx, claim)
	if err != nil {
		return nil, err
	}
	shape := f.shapes[claim.Leaf]
	if shape == nil {
		if shape, err = backfill.OpenShape(ctx, d.db, f.job, claim.Leaf, f.keyring); err != nil {
			return nil, err
		}
		f.shapes[claim.Leaf] = shape
	}
	return &backfill.Executor{
		DB: d.db, Shape: shape, Limits: f.job.Spec.Limits, Size: f.size, Timeouts: f.timeouts, Budget: f.job.Spec.Budget,
		Log: &lifecycle.Log{}, Columns: f.job.Events(),
		Transform: func(c backfill.Column) (transform.Transform, error) {
			if c.Foreign() {
				return c.Encrypter(d.encrypter(c.External.Subject)), nil
			}
			return c.Transform(f.keyring)
		},
	}, nil
}

// folder looks a job up, and again when it sweeps: that may be long after, and its columns have other schemes by then.
func (d *desk) folder(ctx context.Context, claim backfill.Claim) (*folder, error) {
	if f := d.open[claim.Job]; f != nil && f.pass >= claim.Pass {
		return f, nil
	}
	job, err := (&backfill.Jobs{DB: d.db}).Load(ctx, claim.Job)
	if err != nil {
		return nil, err
	}
	keys, err := d.keys(ctx, job)
	if err != nil {
		return nil, err
	}
	server, err := pg.InspectServer(ctx, d.db)
	if err != nil {
		return nil, err
	}
	if len(d.open) >= mostFolders || d.open == nil {
		d.open = map[string]*folder{}
	}
	f := &folder{job: job.Under(keys.Active), pass: claim.Pass, keyring: keys.Keyring, timeouts: backfill.TimeoutsFor(server.DeadlockTimeout),
		size: backfill.NewSizer(job.Spec.Limits), shapes: map[uint32]*backfill.Shape{}}
	d.open[claim.Job] = f
	return f, nil
}

// keys are those of the job's columns that hold cells; there may be none.
func (d *desk) keys(ctx context.Context, job backfill.Job) (*lifecycle.Keys, error) {
	var ids []uint32
	for _, c := range job.Spec.Columns {
		if !c.Foreign() {
			ids = append(ids, c.ID)
		}
	}
	if len(ids) == 0 {
		return &lifecycle.Keys{Keyring: cell.NewKeyring([16]byte{})}, nil
	}
	return lifecycle.LoadKeys(ctx, d.db, d.kek, ids...)
}

// encrypter asks a user's own encrypter. One that does not answer may do so later; one that answers what nobody can
// read does not keep its contract.
func (d *desk) encrypter(subject string) backfill.Ask {
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
func (d *desk) reason(ctx context.Context, claim backfill.Claim, cause error) string {
	if !errors.Is(cause, backfill.ErrShape) {
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
	return fmt.Sprintf("%v: %s", backfill.ErrShape, what)
}
