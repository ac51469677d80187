package roadmap

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// facts are what a roadmap needs to know beside a survey.
type facts struct {
	server  serverFacts
	rate    float64 // rows a second of the last job; 0: none was large enough to tell
	widths  map[standing.Place]width
	holders map[uint32][]holder // who has held a lock for long, by the table that it is on
	depends map[standing.Place][]standing.Dependent
	follow  standing.Followers
}

// width is what the statistics say of a column's values.
type width struct{ bytes, nulls float64 }

// serverFacts are settings and slots that bear on how much may be written.
type serverFacts struct {
	block          int64
	fullPages      bool
	seesSessions   bool  // others' transactions can be seen
	keepsWAL       int64 // max_slot_wal_keep_size in bytes; -1: without limit
	slots          []slot
	idle, prepared int64 // the oldest transaction, and prepared transaction, in seconds
}

// slot is a replication slot that holds WAL back.
type slot struct {
	name   string
	active bool
	behind int64 // bytes
}

// holder is a transaction that holds a lock.
type holder struct {
	pid      int32
	age      time.Duration
	user     string
	app      string
	prepared bool
}

const (
	factsSQL = `SELECT current_setting('block_size')::bigint, current_setting('full_page_writes')::bool, pg_has_role('pg_read_all_stats', 'USAGE'),
 CASE WHEN current_setting('max_slot_wal_keep_size') = '-1' THEN -1 ELSE pg_size_bytes(current_setting('max_slot_wal_keep_size')) END,
 coalesce((SELECT max(extract(epoch FROM clock_timestamp() - xact_start)) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()), 0)::bigint,
 coalesce((SELECT max(extract(epoch FROM clock_timestamp() - prepared)) FROM pg_prepared_xacts), 0)::bigint`
	holdingSlotsSQL = `SELECT slot_name::text, active, pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::bigint
 FROM pg_replication_slots WHERE restart_lsn IS NOT NULL AND NOT temporary ORDER BY 1`
	// rateSQL: a job of few rows says nothing about a long one.
	rateSQL = `SELECT r.rate FROM (SELECT id, created_at, spec->'columns'->0->>'log_table' AS table_name, spec->'columns'->0->>'log_column' AS column_name
  FROM cipherfleet.jobs WHERE state = 'done' ORDER BY created_at DESC LIMIT 10) j
 CROSS JOIN LATERAL (SELECT sum(e.rows_processed) AS rows, sum(e.rows_processed)::float8 / nullif(extract(epoch FROM max(e.created_at) FILTER (WHERE e.event = 'backfill_checkpoint')
   - min(e.created_at) FILTER (WHERE e.event = 'backfill_started')), 0)::float8 AS rate
  FROM cipherfleet.events e WHERE e.table_name = j.table_name AND e.column_name = j.column_name AND e.job_id = j.id) r
 WHERE r.rows >= 1000 AND r.rate > 0 ORDER BY j.created_at DESC LIMIT 1`
	widthsSQL = `SELECT DISTINCT ON (w.relation, w.attnum) w.relation, w.attnum, s.avg_width, s.null_frac
 FROM unnest($1::oid[], $2::int2[], $3::text[], $4::text[], $5::text[]) AS w (relation, attnum, schema, name, attname)
 JOIN pg_stats s ON s.schemaname = w.schema AND s.tablename = w.name AND s.attname = w.attname ORDER BY w.relation, w.attnum, s.inherited DESC`
	// holdersSQL: a vacuum gives way by itself.
	holdersSQL = `SELECT w.relation, coalesce(l.pid, 0), extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::bigint, coalesce(a.usename::text, p.owner::text, ''),
 coalesce(a.application_name, p.gid, ''), l.pid IS NULL
 FROM unnest($1::oid[], $2::oid[]) AS w (relation, leaf)
 JOIN pg_locks l ON l.relation = w.leaf AND l.granted AND l.locktype = 'relation' AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 LEFT JOIN pg_prepared_xacts p ON l.pid IS NULL AND '-1/' || p.transaction::text = l.virtualtransaction
 WHERE coalesce(a.backend_type, '') <> 'autovacuum worker' AND clock_timestamp() - coalesce(a.xact_start, p.prepared) > $3::interval
 GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 3 DESC`
)

// holdsLong is how old a transaction is that may hold a lock for hours.
const holdsLong = time.Minute

func readFacts(ctx context.Context, q pg.Querier, v *status.Survey, looks []*status.Look, holds time.Duration) (f facts, err error) {
	s := &f.server
	if err := q.QueryRow(ctx, factsSQL).Scan(&s.block, &s.fullPages, &s.seesSessions, &s.keepsWAL, &s.idle, &s.prepared); err != nil {
		return f, fmt.Errorf("read the server's settings: %w", err)
	}
	if s.slots, err = pg.Collect(ctx, q, holdingSlotsSQL, func(row pgx.CollectableRow) (x slot, err error) {
		return x, row.Scan(&x.name, &x.active, &x.behind)
	}); err != nil {
		return f, fmt.Errorf("read replication slots: %w", err)
	}
	if v.Installed {
		rates, err := pg.Values[float64](ctx, q, rateSQL)
		if err != nil {
			return f, fmt.Errorf("read the rate of the last job: %w", err)
		}
		for _, rate := range rates {
			f.rate = rate
		}
		var relations []uint32
		for _, l := range looks {
			relations = append(relations, l.Relation.OID)
		}
		if f.follow, err = standing.ReadFollowers(ctx, q, relations...); err != nil {
			return f, err
		}
	}
	return f, f.readTables(ctx, q, looks, holds)
}

// readTables reads what is about the tables that have work.
func (f *facts) readTables(ctx context.Context, q pg.Querier, looks []*status.Look, holds time.Duration) error {
	var relations, trees, leaves []uint32
	var attnums []int16
	var schemas, names, columns []string
	for _, l := range looks {
		if l.Gone || l.Plain.Attnum == 0 {
			continue
		}
		relations, attnums = append(relations, l.Relation.OID), append(attnums, l.Plain.Attnum)
		schemas, names, columns = append(schemas, l.Table.Schema), append(names, l.Table.Name), append(columns, l.Plain.Name)
		if slices.Contains(trees, l.Relation.OID) {
			continue
		}
		trees, leaves = append(trees, l.Relation.OID), append(leaves, l.Relation.OID)
		for _, leaf := range l.Relation.Leaves {
			if leaf.OID != l.Relation.OID {
				trees, leaves = append(trees, l.Relation.OID), append(leaves, leaf.OID)
			}
		}
	}
	f.widths, f.holders = map[standing.Place]width{}, map[uint32][]holder{}
	_, err := pg.Collect(ctx, q, widthsSQL, func(row pgx.CollectableRow) (p standing.Place, err error) {
		var w width
		err = row.Scan(&p.Relation, &p.Attnum, &w.bytes, &w.nulls)
		f.widths[p] = w
		return p, err
	}, relations, attnums, schemas, names, columns)
	if err != nil {
		return fmt.Errorf("read the widths of columns: %w", err)
	}
	_, err = pg.Collect(ctx, q, holdersSQL, func(row pgx.CollectableRow) (relation uint32, err error) {
		var h holder
		var seconds int64
		err = row.Scan(&relation, &h.pid, &seconds, &h.user, &h.app, &h.prepared)
		h.age = time.Duration(seconds) * time.Second
		f.holders[relation] = append(f.holders[relation], h)
		return relation, err
	}, trees, leaves, holds)
	if err != nil {
		return fmt.Errorf("look for long transactions: %w", err)
	}
	f.depends, err = standing.DependentsOf(ctx, q, relations, attnums, columns)
	if err != nil {
		return fmt.Errorf("look for dependents: %w", err)
	}
	return nil
}
