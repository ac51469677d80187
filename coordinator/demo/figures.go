package demo

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/proof"
)

// Figures are what a demo measured.
type Figures struct {
	Rows           int64        `json:"rows"`            // encrypted by the first job
	Seconds        float64      `json:"seconds"`         // it took, from its plan to the proof of its sweep
	RowsPerSecond  float64      `json:"rows_per_second"` // over all of that time
	UntilKill      float64      `json:"rows_per_second_until_kill"`
	Chunks         int64        `json:"chunks"`            // committed by both jobs, each with its checkpoint
	Redelivered    int64        `json:"redelivered_tasks"` // ranges that were claimed again, or taken from the killed worker by a split
	ReadAgain      int64        `json:"rows_read_again"`   // because the application wrote first
	Missed         int64        `json:"missed_writes"`     // past the new column, caught by the trigger
	CaughtUp       int64        `json:"rows_caught_up"`    // encrypted by the second job
	Killed         string       `json:"killed"`            // the worker
	KilledHolding  int          `json:"killed_holding"`    // ranges
	Writes         int64        `json:"application_writes"`
	SlowestWriteMS float64      `json:"slowest_application_write_ms"`
	TraceID        string       `json:"trace_id"`
	Verified       proof.Report `json:"verified"`
}

// What a killed worker held is claimed again when its lease ends, unless it was split among the others before.
const figuresSQL = `SELECT coalesce(sum(rows_processed) FILTER (WHERE event = 'backfill_checkpoint'), 0)::bigint,
 count(*) FILTER (WHERE event = 'backfill_checkpoint'),
 coalesce(extract(epoch FROM max(created_at) FILTER (WHERE event = 'backfilled') - min(created_at) FILTER (WHERE event = 'backfill_started')), 0)::float8,
 (SELECT coalesce(sum(greatest(attempts - 1, 0)) + count(*) FILTER (WHERE state = 'split' AND worker = $2), 0)::bigint FROM cipherfleet.ranges WHERE job_id::text = $1),
 (SELECT coalesce(sum(conflicts), 0)::bigint FROM cipherfleet.ranges WHERE job_id::text = $1)
 FROM cipherfleet.events WHERE job_id::text = $1`

// account adds up what a job has left in the log and the work list.
func (p *play) account(ctx context.Context, job string) (rows int64, seconds float64, err error) {
	var chunks, redelivered, again int64
	if err := p.stage.db.QueryRow(ctx, figuresSQL, job, p.fleet.victim()).Scan(&rows, &chunks, &seconds, &redelivered, &again); err != nil {
		return 0, 0, fmt.Errorf("add up the job's figures: %w", err)
	}
	p.figures.Chunks += chunks
	p.figures.Redelivered += redelivered
	p.figures.ReadAgain += again
	return rows, seconds, nil
}

// backfilled notes the figures of the first job.
func (p *play) backfilled(ctx context.Context) (err error) {
	f := &p.figures
	if f.Rows, f.Seconds, err = p.account(ctx, p.job.ID); err != nil {
		return err
	}
	f.RowsPerSecond = float64(f.Rows) / max(f.Seconds, 0.001)
	p.screen.clear()
	p.screen.good(fmt.Sprintf("backfilled: %s rows in %.1f s, swept for what came meanwhile", grouped(f.Rows), f.Seconds))
	return nil
}

// caughtUp notes those of the second.
func (p *play) caughtUp(ctx context.Context, job string) (err error) {
	f := &p.figures
	if f.CaughtUp, _, err = p.account(ctx, job); err != nil {
		return err
	}
	if f.Missed, err = p.missed(ctx); err != nil {
		return fmt.Errorf("count missed writes: %w", err)
	}
	f.Writes, f.SlowestWriteMS = p.traffic.writes(), float64(p.traffic.slowest.Load())/float64(time.Millisecond)
	p.screen.clear()
	p.screen.good(fmt.Sprintf("caught up: %s", plural(f.CaughtUp, "row")))
	return nil
}

// showFigures prints them.
func (p *play) showFigures() {
	f := p.figures
	rows := [][2]string{
		{"rows", fmt.Sprintf("%s in %.1f s: %s rows/s, and %s until the kill", grouped(f.Rows), f.Seconds, grouped(int64(f.RowsPerSecond)), grouped(int64(f.UntilKill)))},
		{"chunks", grouped(f.Chunks) + ", each committed together with its checkpoint"},
		{"redelivered tasks", fmt.Sprintf("%s; %s died with %s in hand", grouped(f.Redelivered), f.Killed, plural(f.KilledHolding, "range"))},
		{"rows read again", grouped(f.ReadAgain) + ", because the application had written first"},
		{"missed writes", grouped(f.Missed) + " past the new column, all caught and covered"},
		{"application", fmt.Sprintf("%s writes, none refused, the slowest took %.0f ms", grouped(f.Writes), f.SlowestWriteMS)},
		{"trace", cmp.Or(f.TraceID, "switched off by the environment")},
		{"", p.traced()},
		{"verified", grouped(f.Verified.Rows) + " rows: every cell opens to its source"},
	}
	p.screen.line("")
	for _, row := range rows {
		if row[1] != "" {
			p.screen.line(fmt.Sprintf("  %-18s %s", row[0], row[1]))
		}
	}
	p.screen.line("")
}

// traced is what is known of the job's trace.
func (p *play) traced() string {
	switch {
	case p.stage.spans != nil:
		own, linked, theirs := p.stage.spans.of(p.figures.TraceID)
		return fmt.Sprintf("%s of the job, and %s linked to it with %s", plural(own, "span"), plural(linked, "task"), plural(theirs, "span"))
	case p.figures.TraceID != "":
		return "sent to the receiver that the environment names"
	}
	return ""
}
