package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// standing is how a job stands.
type standing struct {
	state     work.State
	stoppedBy string
	rows      int64 // written
	workers   map[string]share
}

// share is a worker's part in a job, in ranges.
type share struct{ held, closed int }

const standingSQL = `SELECT j.state, coalesce(j.stopped_by, ''), coalesce(r.worker, ''), coalesce(sum(r.rows), 0)::bigint,
 count(*) FILTER (WHERE r.state = 'pending' AND r.owner IS NOT NULL AND r.lease_until > clock_timestamp()),
 count(*) FILTER (WHERE r.state = 'done')
 FROM cipherfleet.jobs j LEFT JOIN cipherfleet.ranges r ON r.job_id = j.id WHERE j.id::text = $1 GROUP BY 1, 2, 3`

func (s *stage) standing(ctx context.Context, job string) (standing, error) {
	now := standing{workers: map[string]share{}}
	rows, err := s.db.Query(ctx, standingSQL, job)
	if err != nil {
		return now, fmt.Errorf("see how the job stands: %w", err)
	}
	var worker string
	var written int64
	var one share
	_, err = pgx.ForEachRow(rows, []any{&now.state, &now.stoppedBy, &worker, &written, &one.held, &one.closed}, func() error {
		now.rows += written
		now.workers[worker] = one
		return nil
	})
	if err != nil {
		return now, fmt.Errorf("see how the job stands: %w", pg.Safe(err))
	}
	return now, nil
}

const lookEvery = 20 * time.Millisecond // a small table is done in a fraction of a second

// follow looks at a job until it has ended, and lets each do something about what it sees. A job that did not end as
// done is an error.
func (p *play) follow(ctx context.Context, job string, each func(standing) error) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		now, err := p.stage.standing(ctx, job)
		if err != nil {
			return err
		}
		if now.state == work.Done {
			return nil
		}
		if now.state.Ended() {
			return &app.Fail{Code: app.CodeUnproven, Err: fmt.Errorf("the job %s: %s", now.state, now.stoppedBy)}
		}
		if err := each(now); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// chunkRows lets even a small table be two hundred chunks, so that a worker can be killed between them.
func (p *play) chunkRows() int { return min(max(p.Config.DemoRows/200, 5), 5000) }

// request asks the coordinator over NATS to encrypt users.email, as any client of any language may. Asking again, when
// the job has ended, starts one that finds what is uncovered now.
func (p *play) request(ctx context.Context) (messages.Job, error) {
	job, err := p.stage.bus.Start(ctx, messages.StartRequest{RequestID: uuid.NewString(), Schema: "public", Table: "users",
		Columns: []messages.ColumnRequest{{Source: "email", Target: "email_encrypted"}}, Prepare: true, ChunkRows: p.chunkRows(), Actor: "demo"})
	if err != nil {
		return job, fmt.Errorf("start the job: %w", err)
	}
	return job, nil
}

// encrypt runs the job while the application writes, and kills a worker when half of it is done.
func (p *play) encrypt(ctx context.Context) error {
	p.traffic = &application{db: p.stage.db, rows: int64(p.Config.DemoRows), closing: make(chan struct{})}
	p.stage.closing(func() error { p.traffic.stop(); return nil })
	p.traffic.run(ctx, p.fail, &p.traffic.old, p.traffic.writeOld)
	p.screen.event("an application writes; its old version knows nothing of a new column")
	job, err := p.request(ctx)
	if err != nil {
		return err
	}
	p.job, p.asked, p.figures.TraceID = job, time.Now(), job.TraceID
	p.screen.event("job " + job.ID + " started over NATS")
	if err := p.openColumn(ctx); err != nil {
		return err
	}
	p.traffic.run(ctx, p.fail, &p.traffic.sealing, p.traffic.writeNew(p.seal))
	p.screen.event("its new version joins in, and writes email and email_encrypted")
	return p.watch(ctx)
}

const columnSQL = `SELECT id FROM cipherfleet.columns WHERE table_name = 'users' AND source = 'email' AND retired_at IS NULL`

// openColumn finds what the coordinator has made for the column.
func (p *play) openColumn(ctx context.Context) (err error) {
	if err := p.stage.db.QueryRow(ctx, columnSQL).Scan(&p.column); err != nil {
		return fmt.Errorf("find the column's id: %w", err)
	}
	p.seal, err = p.stage.openSealer(ctx, p.column)
	return err
}

// watch follows the first job.
func (p *play) watch(ctx context.Context) error {
	meter := newMeter(p.emails)
	err := p.follow(ctx, p.job.ID, func(now standing) error {
		missed, err := p.missed(ctx)
		if err != nil {
			return err
		}
		p.screen.progress(func() view { return p.view(meter, now, missed) })
		if p.figures.Killed != "" || 2*now.rows < p.emails {
			return nil
		}
		_, err = p.strike(ctx, p.job.ID, now)
		return err
	})
	if err != nil {
		return err
	}
	return p.backfilled(ctx)
}

// missed is how many cells the application has made stale so far, and capture has cleared.
func (p *play) missed(ctx context.Context) (n int64, err error) {
	err = p.stage.db.QueryRow(ctx, ddl.Missed(p.column)).Scan(&n)
	return n, err
}

// lateWrites of the old version come after the job has ended, so that there is something to catch up with.
const lateWrites = 40

const uncoveredSQL = `SELECT count(*) FROM public.users WHERE (email IS NULL) <> (email_encrypted IS NULL)`

// catchUp ends the traffic, and covers what it uncovered after the sweep had passed: the same request once more.
func (p *play) catchUp(ctx context.Context) error {
	until := p.traffic.old.Load() + lateWrites
	if err := eventually(ctx, "the application's last writes", func() (bool, error) { return p.traffic.old.Load() >= until, nil }); err != nil {
		return err
	}
	p.traffic.stop()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	uncovered := int64(0)
	if err := p.stage.db.QueryRow(ctx, uncoveredSQL).Scan(&uncovered); err != nil {
		return fmt.Errorf("count uncovered rows: %w", err)
	}
	p.screen.event(fmt.Sprintf("the application ends, %s uncovered since: the same request again", plural(uncovered, "row")))
	job, err := p.request(ctx)
	if err != nil {
		return err
	}
	if job.ID == p.job.ID {
		return errors.New("the job that has ended was started again, instead of a new one")
	}
	meter := newMeter(uncovered)
	err = p.follow(ctx, job.ID, func(now standing) error {
		p.screen.progress(func() view {
			v := p.view(meter, now, -1)
			return view{lines: v.lines} // too short a matter for lines that stay
		})
		return nil
	})
	if err != nil {
		return err
	}
	return p.caughtUp(ctx, job.ID)
}
