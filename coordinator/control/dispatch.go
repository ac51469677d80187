package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// window is how many ranges of a job are offered and unfinished at once: enough for every slot of a large fleet,
// little enough that a pause, or the loss of the queue, concerns a moment's work.
const window = 256

// open counts the job's ranges that are not closed, and those of them that are offered.
func (p *Plane) open(ctx context.Context, job work.Job) (open, offered int64, err error) {
	err = p.DB.QueryRow(ctx, `SELECT count(*), count(published_at) FROM cipherfleet.ranges WHERE job_id = $1 AND state = 'pending'`, job.ID).Scan(&open, &offered)
	return open, offered, err
}

// nextSQL are the ranges to offer: in no order of the key space, so that the fleet does not crowd one end of an index.
const nextSQL = `SELECT id, relid, epoch FROM cipherfleet.ranges
 WHERE job_id = $1 AND state = 'pending' AND published_at IS NULL AND (lease_until IS NULL OR lease_until < clock_timestamp())
 ORDER BY md5(id::text) LIMIT greatest(0, $2 - (SELECT count(*) FROM cipherfleet.ranges
  WHERE job_id = $1 AND state = 'pending' AND published_at IS NOT NULL))`

// refill offers ranges until the window is full. It publishes first and notes it afterwards: a crash in between
// offers a range twice, and the second offer finds it claimed or closed.
func (p *Plane) refill(ctx context.Context, job work.Job) error {
	rows, err := p.DB.Query(ctx, nextSQL, job.ID, window)
	if err != nil {
		return fmt.Errorf("find ranges to offer: %w", err)
	}
	var ids []int64
	tasks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (messages.Task, error) {
		task := messages.Task{V: messages.Version, Job: job.ID}
		var leaf uint32
		err := row.Scan(&task.Range, &leaf, &task.Epoch)
		task.Table = messages.TableToken(leaf)
		ids = append(ids, task.Range)
		return task, err
	})
	if err != nil {
		return fmt.Errorf("find ranges to offer: %w", pg.Safe(err))
	}
	if len(tasks) == 0 {
		return nil
	}
	ctx, span := p.Tracer.Start(ctx, "refill")
	defer span.End()
	span.SetAttributes(attribute.String("cipherfleet.job.id", job.ID), attribute.Int("cipherfleet.ranges", len(tasks)))
	if err := p.Bus.Publish(ctx, tasks); err != nil {
		return fmt.Errorf("offer ranges: %w", err)
	}
	return p.fenced(ctx, `UPDATE cipherfleet.ranges SET published_at = clock_timestamp() WHERE id = ANY($1) AND state = 'pending'`, ids)
}

// fenced runs one statement in a transaction that proves that this coordinator still leads.
func (p *Plane) fenced(ctx context.Context, sql string, args ...any) error {
	return p.DB.InTx(ctx, func(tx pg.Tx) error {
		if err := p.lead.fence(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
}

// queue is what the installation remembers of the stream it filled.
type queue struct {
	Created time.Time `json:"created"`
	LastSeq uint64    `json:"last_seq"`
}

// openQueue makes streams and consumer, or brings them up to date.
func (p *Plane) openQueue(ctx context.Context) error {
	installation, err := lifecycle.ReadInstallation(ctx, p.DB)
	if err != nil {
		return err
	}
	_, err = p.Bus.Ensure(ctx, bus.Settings{Installation: fmt.Sprintf("%x", installation.Registry), AckWait: p.AckWait})
	if err != nil {
		return fmt.Errorf("open the queue: %w", err)
	}
	return nil
}

// reconcile compares the queue with Postgres, which is right: a queue that was lost is made and filled again; a range
// whose lease ran out, or whose message nobody holds, is offered again.
func (p *Plane) reconcile(ctx context.Context) error {
	now, err := p.Bus.Identity(ctx)
	if errors.Is(err, bus.ErrNoQueue) {
		if err := p.openQueue(ctx); err != nil {
			return err
		}
		now, err = p.Bus.Identity(ctx)
	}
	if err != nil {
		return fmt.Errorf("look at the queue: %w", err)
	}
	if err := p.compare(ctx, queue{Created: now.Created, LastSeq: now.LastSeq}); err != nil {
		return err
	}
	if err := p.fenced(ctx, expiredSQL); err != nil {
		return fmt.Errorf("offer ranges again whose lease ran out: %w", err)
	}
	return p.findOrphans(ctx)
}

// compare notices that the queue is not the one that was filled, or lost its end, and takes all offers back.
func (p *Plane) compare(ctx context.Context, now queue) error {
	var stored []byte
	if err := p.DB.QueryRow(ctx, `SELECT queue FROM cipherfleet.installation`).Scan(&stored); err != nil {
		return fmt.Errorf("recall the queue: %w", err)
	}
	var before queue
	if err := json.Unmarshal(stored, &before); err != nil {
		return fmt.Errorf("recall the queue: %w", err)
	}
	if before.Created.Equal(now.Created) && now.LastSeq == before.LastSeq {
		return nil
	}
	lost := !before.Created.IsZero() && (!before.Created.Equal(now.Created) || now.LastSeq < before.LastSeq)
	if lost {
		level := slog.LevelInfo
		if p.Private {
			level = slog.LevelDebug // each command brings a queue of its own
		}
		p.Log.Log(ctx, level, "the queue is not the one that was filled; its tasks are offered again")
		if err := p.fenced(ctx, lostSQL); err != nil {
			return fmt.Errorf("take back the lost queue's tasks: %w", err)
		}
	}
	body, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return p.fenced(ctx, `UPDATE cipherfleet.installation SET queue = $1`, body)
}

// lostSQL leaves a range alone that a worker holds: it needs no message to be finished, and if the worker dies its
// lease runs out.
const lostSQL = `UPDATE cipherfleet.ranges SET published_at = NULL
 WHERE state = 'pending' AND published_at IS NOT NULL AND (lease_until IS NULL OR lease_until < clock_timestamp())`

// expiredSQL finds ranges whose worker fell silent after they were offered last.
const expiredSQL = `UPDATE cipherfleet.ranges SET published_at = NULL
 WHERE state = 'pending' AND published_at < lease_until AND lease_until < clock_timestamp()`

// orphansSQL takes back offers that no message stands for. The epoch grows, because the queue would take the same
// message again for a repetition and drop it.
const orphansSQL = `UPDATE cipherfleet.ranges SET published_at = NULL, epoch = epoch + 1, owner = NULL
 WHERE state = 'pending' AND published_at < clock_timestamp() - $1::interval AND (lease_until IS NULL OR lease_until < clock_timestamp())`

// findOrphans looks for offers whose message was lost one by one: an idle queue tells at once, a busy one after a
// time in which every task was handed out. An offer that was not lost is made twice then, which does no harm.
func (p *Plane) findOrphans(ctx context.Context) error {
	waiting, held, err := p.Bus.Pending(ctx)
	if errors.Is(err, bus.ErrNoQueue) { // the consumer alone is gone
		return p.openQueue(ctx)
	}
	if err != nil {
		return fmt.Errorf("look at the queue: %w", err)
	}
	age := 2 * p.Reconcile
	if waiting > 0 || held > 0 {
		age = orphanAge * p.AckWait
	}
	if err := p.fenced(ctx, orphansSQL, age); err != nil {
		return fmt.Errorf("offer ranges again whose message was lost: %w", err)
	}
	return nil
}

const orphanAge = 10 // ack waits after which an offer that nobody took is made again
