package control

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Jobs is what can be done about jobs with Postgres alone, without the coordinator. To look needs no more than the
// right to read the tables of schema cipherfleet. To change is refused while a coordinator leads: that one must know.
type Jobs struct{ DB *pg.DB }

// List says how the newest jobs stand, at most limit.
func (s *Jobs) List(ctx context.Context, limit int) ([]messages.Job, error) {
	if err := standing.CheckInstalled(ctx, s.DB); err != nil {
		return nil, err
	}
	jobs, err := (&work.Jobs{DB: s.DB}).List(ctx, limit)
	if err != nil {
		return nil, err
	}
	list := make([]messages.Job, len(jobs))
	for i, job := range jobs {
		if list[i], err = status.DescribeJob(ctx, s.DB, job); err != nil {
			return nil, err
		}
	}
	return list, nil
}

var idPrefix = regexp.MustCompile(`^[0-9a-f-]{1,36}$`)

// Find is the one job whose id begins with prefix.
func (s *Jobs) Find(ctx context.Context, prefix string) (work.Job, error) {
	const hint = "cipherfleet job ls lists the jobs"
	if err := standing.CheckInstalled(ctx, s.DB); err != nil {
		return work.Job{}, err
	}
	if prefix = strings.ToLower(prefix); !idPrefix.MatchString(prefix) {
		return work.Job{}, standing.Reject("job", hint, "was %.40q; accepted is the id of a job, or its beginning", prefix)
	}
	ids, err := pg.Values[string](ctx, s.DB, `SELECT id::text FROM cipherfleet.jobs WHERE starts_with(id::text, $1) ORDER BY id LIMIT 3`, prefix)
	switch {
	case err != nil:
		return work.Job{}, fmt.Errorf("find a job: %w", err)
	case len(ids) == 0:
		return work.Job{}, standing.Lack("job", hint, "there is no job whose id begins with %s", prefix)
	case len(ids) > 1:
		return work.Job{}, standing.Reject("job", "give more of it; "+hint, "several jobs begin with %s: %s and %s", prefix, ids[0], ids[1])
	}
	job, err := (&work.Jobs{DB: s.DB}).Load(ctx, ids[0])
	if err != nil {
		return work.Job{}, problem(err)
	}
	return job, nil
}

// Actor is who asks, as the event log names them: the database role of this program's session.
func (s *Jobs) Actor(ctx context.Context) (actor string, err error) {
	err = s.DB.QueryRow(ctx, `SELECT session_user::text`).Scan(&actor)
	return actor, err
}

// Quarantined is one row that a job left aside. Reason holds no value.
type Quarantined struct {
	Hash    string    `json:"key_hash"`
	Table   string    `json:"table"` // the partition it is in
	Columns []string  `json:"columns"`
	Failed  []string  `json:"failed"` // of these, those that the reason is about; the others wait
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
	Key     []string  `json:"key,omitempty"` // data; only when it was asked for by name
}

// quarantineSQL reads the key only if $2 says so: who may not see that column may see the rest.
const quarantineSQL = `SELECT q.key_hash, coalesce(min(n.nspname || '.' || t.relname), 'a table that is gone'), array_agg(coalesce(c.source, '') ORDER BY c.id),
  coalesce(array_agg(coalesce(c.source, '') ORDER BY c.id) FILTER (WHERE q.reason <> $3), '{}'), coalesce(min(q.reason) FILTER (WHERE q.reason <> $3), $3), min(q.at), %s
  FROM cipherfleet.quarantine q LEFT JOIN cipherfleet.columns c ON c.id = q.column_id
  LEFT JOIN pg_catalog.pg_class t ON t.oid = q.relid LEFT JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
 WHERE q.job_id = $1 AND q.resolved_at IS NULL GROUP BY q.relid, q.key_hash ORDER BY min(q.at), q.key_hash LIMIT $2`

// Quarantine lists the rows that a job has in quarantine, the oldest first, at most limit; with their keys if wanted.
func (s *Jobs) Quarantine(ctx context.Context, job string, keys bool, limit int) ([]Quarantined, error) {
	key := `NULL::text[]`
	if keys {
		key = `min(q.key)`
	}
	rows, err := s.DB.Query(ctx, fmt.Sprintf(quarantineSQL, key), job, limit, work.ReasonBeside)
	if err != nil {
		return nil, fmt.Errorf("read the quarantine: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (q Quarantined, err error) {
		err = row.Scan(&q.Hash, &q.Table, &q.Columns, &q.Failed, &q.Reason, &q.At, &q.Key)
		return q, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the quarantine: %w", pg.Safe(err))
	}
	return list, nil
}

// Pause, Resume and Cancel are [Plane]'s, while no coordinator leads.
func (s *Jobs) Pause(ctx context.Context, r messages.JobRequest) (messages.Job, error) {
	return s.change(ctx, r, s.alone().Pause)
}

// Resume lets a paused job go on, as soon as a coordinator leads.
func (s *Jobs) Resume(ctx context.Context, r messages.JobRequest) (messages.Job, error) {
	return s.change(ctx, r, s.alone().Resume)
}

// Cancel ends a job for good.
func (s *Jobs) Cancel(ctx context.Context, r messages.JobRequest) (messages.Job, error) {
	return s.change(ctx, r, s.alone().Cancel)
}

// alone is the projection, changed only while nobody leads: until the end of the transaction nobody can begin to.
func (s *Jobs) alone() *work.Jobs {
	return &work.Jobs{DB: s.DB, Log: &lifecycle.Log{}, Fence: func(ctx context.Context, tx pg.Tx) error {
		won := false
		if err := tx.QueryRow(ctx, `SELECT pg_catalog.pg_try_advisory_xact_lock($1, $2)`, lockSpace, lockLead).Scan(&won); err != nil {
			return fmt.Errorf("check who leads: %w", err)
		}
		if !won {
			return ErrLed
		}
		return nil
	}}
}

func (s *Jobs) change(ctx context.Context, r messages.JobRequest, verb func(context.Context, string, string) (work.Job, error)) (messages.Job, error) {
	job, err := verb(ctx, r.Job, r.Actor)
	if err != nil {
		return messages.Job{}, problem(ledElsewhere(err))
	}
	return status.DescribeJob(ctx, s.DB, job)
}

// Rehearse says whether the job's state admits what this kind of event stands for; for a job that starts again, whether
// its quarantine can be tried again; and, if it is to be done alone, whether nobody leads. Nothing is changed.
func (s *Jobs) Rehearse(ctx context.Context, job work.Job, kind lifecycle.Kind, alone bool) error {
	if alone {
		err := s.DB.InTx(ctx, func(tx pg.Tx) error { return s.alone().Fence(ctx, tx) })
		if err != nil {
			return ledElsewhere(err)
		}
	}
	if kind == lifecycle.KindBackfillStarted {
		_, err := (&work.Jobs{DB: s.DB}).Retriable(ctx, job.ID)
		return problem(err)
	}
	if !job.State.Admits(kind) {
		return problem(&work.StateError{State: job.State})
	}
	return nil
}

// ledElsewhere says what to do when a coordinator leads that this program does not know.
func ledElsewhere(err error) error {
	if errors.Is(err, ErrLed) {
		return standing.Clash("", "set NATS_URL to the NATS of that coordinator: it does what is asked", "a coordinator leads this installation")
	}
	return err
}
