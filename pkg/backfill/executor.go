package backfill

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Executor carries ranges of one shape from one form to the other. It may be used for one range at a time.
type Executor struct {
	DB        *pg.DB
	Shape     *shape.Shape
	Transform func(shape.Column) (transform.Transform, error) // a fresh one per goroutine
	Proxy     Proxy                                           // of columns that are written through one
	Limits    work.Limits
	Size      *Sizer // shared by the executors of a job; nil: the range learns by itself
	Timeouts  Timeouts
	Budget    int           // rows a job may have in quarantine
	Lease     time.Duration // how long each chunk renews the claim for
	Log       *lifecycle.Log
	Columns   []lifecycle.Event // per column: Table and Column as the log names them
	Worker    string
	Tracer    trace.Tracer
	Drain     <-chan struct{} // closed: finish the chunk in hand and return ErrDrained
}

// ErrDrained says that the executor was asked to stop and did so between two chunks.
var ErrDrained = errors.New("drained between two chunks")

// Execute carries the claim's range to its end, or returns why it stopped: [work.ErrLost], [keyspace.ErrChanged],
// ErrDrained, ErrQuarantineFull, or an error of Postgres or of a transform. Whatever was reported is committed and
// stays.
func (x *Executor) Execute(ctx context.Context, claim work.Claim, report func(Checkpoint)) error {
	for _, key := range []keyspace.Key{claim.After, claim.Through, claim.Cursor} {
		if key != nil && len(key) != len(x.Shape.Key) {
			return fmt.Errorf("the bounds of range %d do not fit the key of %s: %w", claim.ID, x.Shape.Table, keyspace.ErrChanged)
		}
	}
	reading, err := x.DB.Acquire(ctx)
	if err != nil {
		return err
	}
	defer reading.Release()
	writing, err := x.DB.Acquire(ctx)
	if err != nil {
		return err
	}
	defer writing.Release()

	limits := x.Limits.WithDefaults()
	size := x.Size
	if size == nil {
		size = NewSizer(limits)
	}
	w, err := x.writer(claim, writing, limits, size, report)
	if err != nil {
		return err
	}
	if x.Shape.Proxied() {
		if w.proxy, err = x.dial(ctx); err != nil {
			return err
		}
		defer w.proxy.Release()
	}
	p, err := x.producer(claim, reading, limits, size)
	if err != nil {
		return err
	}
	err = x.pipe(ctx, p, w)
	if pg.ClassOf(err) == pg.ClassSchema {
		return fmt.Errorf("%w: %w", keyspace.ErrChanged, err)
	}
	return err
}

// pipe lets the next chunk be read and sealed while the last one is written.
func (x *Executor) pipe(ctx context.Context, p *producer, w *writer) error {
	group, ctx := errgroup.WithContext(ctx)
	ready := make(chan *batch)
	group.Go(func() error {
		defer close(ready)
		return p.run(ctx, ready)
	})
	group.Go(func() error {
		for b := range ready {
			if err := x.carry(trace.ContextWithSpan(ctx, b.trace), w, b); err != nil {
				return err
			}
			p.free <- b
			if b.end {
				return nil
			}
			select {
			case <-x.Drain:
				return ErrDrained
			default:
			}
		}
		return ctx.Err()
	})
	return group.Wait()
}

// carry writes one batch and ends its span.
func (x *Executor) carry(ctx context.Context, w *writer, b *batch) error {
	defer b.trace.End()
	return spanned(ctx, x.Tracer, "write", func(ctx context.Context) error { return w.chunk(ctx, b.span) }, rowsKey.Int(len(b.rows)))
}

func (x *Executor) transforms() ([]transform.Transform, error) {
	list := make([]transform.Transform, len(x.Shape.Columns))
	for i, c := range x.Shape.Columns {
		t, err := x.Transform(c)
		if err != nil {
			return nil, fmt.Errorf("prepare the transform of column %d: %w", c.ID, err)
		}
		list[i] = t
	}
	return list, nil
}

func (x *Executor) writer(claim work.Claim, conn *pg.Conn, limits work.Limits, size *Sizer, report func(Checkpoint)) (*writer, error) {
	transforms, err := x.transforms()
	if err != nil {
		return nil, err
	}
	w := &writer{shape: x.Shape, conn: conn, claim: claim, lease: x.Lease, size: size, log: x.Log, transforms: transforms,
		reader: newReader(conn, x.Shape, limits, x.Timeouts.Read, x.sparse(claim)), budget: x.Budget, report: report, renewed: time.Now()}
	w.settings = w.writeSettings(x.Timeouts)
	for _, c := range x.Columns {
		c.Job, c.Range, c.Worker = claim.Job, strconv.FormatInt(claim.ID, 10), x.Worker
		w.columns = append(w.columns, c)
	}
	return w, nil
}

// producer reads and seals a range's chunks, in order.
type producer struct {
	reader     *reader
	transforms []transform.Transform
	size       *Sizer
	from, to   keyspace.Bound
	free       chan *batch
	tracer     trace.Tracer
}

const batchesInFlight = 2 // one being written, one being read and sealed

func (x *Executor) producer(claim work.Claim, conn *pg.Conn, limits work.Limits, size *Sizer) (*producer, error) {
	transforms, err := x.transforms()
	if err != nil {
		return nil, err
	}
	p := &producer{reader: newReader(conn, x.Shape, limits, x.Timeouts.Read, x.sparse(claim)), transforms: transforms, size: size, tracer: x.Tracer,
		from: keyspace.TextBound(claim.Start()), to: keyspace.TextBound(claim.Through), free: make(chan *batch, batchesInFlight)}
	for range batchesInFlight {
		p.free <- &batch{}
	}
	return p, nil
}

func (p *producer) run(ctx context.Context, ready chan<- *batch) error {
	at := p.from
	for {
		var b *batch
		select {
		case b = <-p.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := p.fill(ctx, b, at); err != nil {
			return err
		}
		at = b.last.Clone() // the batch's memory may be used again before the next read
		end := b.end
		select {
		case ready <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
		if end {
			return nil
		}
	}
}

// fill reads and seals one chunk under a span of its own, which the writer ends.
func (p *producer) fill(ctx context.Context, b *batch, at keyspace.Bound) error {
	ctx, span := p.tracer.Start(ctx, "chunk")
	b.trace = span
	err := spanned(ctx, p.tracer, "read", func(ctx context.Context) error {
		return p.readSmaller(ctx, b, at)
	})
	if err == nil {
		p.size.read(b.scanned, b.bytes)
		span.SetAttributes(rowsKey.Int(len(b.rows)))
		err = spanned(ctx, p.tracer, "seal", func(ctx context.Context) (err error) {
			b.span, err = sealOrIsolate(ctx, p.transforms, b.span)
			return err
		})
	}
	if err != nil {
		span.End()
	}
	return err
}

const maxReads = 5 // of one chunk that take too long, before the range is given back

// readSmaller reads the next chunk; one that takes too long is read again in smaller parts, and row by row instead of
// looking for uncovered ones far away.
func (p *producer) readSmaller(ctx context.Context, b *batch, at keyspace.Bound) error {
	for reads := 1; ; reads++ {
		err := p.reader.readJudged(ctx, b, at, p.to, p.size.next())
		if pg.ClassOf(err) != pg.ClassLock || reads == maxReads {
			return err
		}
		p.reader.sparse = false
		p.size.shrink()
	}
}
