package status

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Survey is one look at all registered columns, and at all tables that a manifest names: the same few statements
// however many there are.
type Survey struct {
	Manifest  manifest.Manifest
	only      string // name of a table, or schema.name; "": all
	At        time.Time
	Installed bool
	named     map[pg.Table]uint32    // the manifest's tables that are there
	Relations map[uint32]pg.Relation // by oid
	live      map[uint32]activity    // of a table, by oid
	eql       eqlState
	registry
}

// registry is what the tables of schema cipherfleet say, by the ids of columns.
type registry struct {
	Columns     []lifecycle.Column
	States      map[uint32]lifecycle.Standing
	found       map[uint32]Finding // of the last full verification
	cutovers    map[uint32]standing.Cutover
	cut         map[uint32]time.Time // when the last cutover was
	captured    map[uint32]time.Time // when capture was first installed
	Jobs        map[uint32]work.Job
	described   map[string]messages.Job // by job
	passed      map[string]passed       // by job
	quarantined map[uint32]int64        // by the last job
	Schemes     map[uint32]Scheme       // that a column is written with
	AllSchemes  map[uint32][]Scheme     // that it ever had, in the order of their numbers
	missed      map[uint32]missedWrites
	blind       map[uint32][]blindIndex // that are not dropped, by name and generation
	workers     int                     // that have been heard of lately
}

// TakeSurvey looks at everything but rows of users' tables.
func TakeSurvey(ctx context.Context, q pg.Querier, m manifest.Manifest, only string) (*Survey, error) {
	v := &Survey{Manifest: m, only: only}
	version, err := lifecycle.Installed(ctx, q)
	if err != nil {
		return nil, err
	}
	v.Installed = version > 0
	if err := q.QueryRow(ctx, `SELECT now()`).Scan(&v.At); err != nil {
		return nil, err
	}
	if v.Installed {
		if err := v.registry.read(ctx, q); err != nil {
			return nil, err
		}
	}
	if err := v.inspect(ctx, q); err != nil {
		return nil, err
	}
	v.eql, err = readEQL(ctx, q)
	return v, err
}

// inspect reads the catalog.
func (v *Survey) inspect(ctx context.Context, q pg.Querier) (err error) {
	var names []pg.Table
	for _, t := range v.Manifest.Tables {
		names = append(names, pg.Table{Schema: t.Schema, Name: t.Name})
	}
	if v.named, err = pg.FindTables(ctx, q, names); err != nil {
		return err
	}
	wanted := slices.Collect(maps.Values(v.named))
	for _, c := range v.Columns {
		wanted = append(wanted, c.Relid)
	}
	slices.Sort(wanted)
	if v.Relations, err = pg.InspectAll(ctx, q, slices.Compact(wanted)); err != nil {
		return err
	}
	v.live, err = liveRows(ctx, q, v.Relations)
	return err
}

// activity is what the server has counted of a table's rows.
type activity struct {
	rows     int64      // as they come and go
	grown    bool       // pages were added or taken since statistics were taken of all of it
	analyzed *time.Time // when statistics were last taken of a part of it; null: never, or a crash forgot it
}

const liveSQL = `SELECT w.relation, coalesce(sum(pg_stat_get_live_tuples(w.leaf)), 0)::bigint,
 bool_or(c.reltuples IS NULL OR c.reltuples < 0 OR c.relpages <> pg_relation_size(w.leaf) / current_setting('block_size')::int8),
 max(greatest(pg_stat_get_last_analyze_time(w.leaf), pg_stat_get_last_autoanalyze_time(w.leaf), pg_stat_get_last_vacuum_time(w.leaf), pg_stat_get_last_autovacuum_time(w.leaf)))
 FROM unnest($1::oid[], $2::oid[]) AS w (relation, leaf) LEFT JOIN pg_class c ON c.oid = w.leaf GROUP BY 1`

func liveRows(ctx context.Context, q pg.Querier, relations map[uint32]pg.Relation) (map[uint32]activity, error) {
	var tables, leaves []uint32
	for oid, r := range relations {
		for _, leaf := range r.Leaves {
			tables, leaves = append(tables, oid), append(leaves, leaf.OID)
		}
	}
	live := map[uint32]activity{}
	_, err := pg.Collect(ctx, q, liveSQL, func(row pgx.CollectableRow) (oid uint32, err error) {
		var a activity
		err = row.Scan(&oid, &a.rows, &a.grown, &a.analyzed)
		live[oid] = a
		return oid, err
	}, tables, leaves)
	if err != nil {
		return nil, fmt.Errorf("read the server's count of rows: %w", err)
	}
	return live, nil
}

// pairs is a query of two columns as a map.
func pairs[K comparable, V any](ctx context.Context, q pg.Querier, sql string, args ...any) (map[K]V, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	found := map[K]V{}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (none struct{}, err error) {
		var key K
		var value V
		err = row.Scan(&key, &value)
		found[key] = value
		return none, err
	})
	return found, pg.Safe(err)
}

func (r *registry) read(ctx context.Context, q pg.Querier) (err error) {
	if r.Columns, err = lifecycle.Registered(ctx, q); err != nil {
		return err
	}
	if r.States, err = lifecycle.LatestOf(ctx, q, r.Columns); err != nil {
		return err
	}
	for _, part := range []func(context.Context, pg.Querier) error{r.readHistory, r.readJobs, r.readSchemes, r.readBlind, r.readMissed} {
		if err := part(ctx, q); err != nil {
			return err
		}
	}
	const workersSQL = `SELECT count(*) FROM cipherfleet.workers WHERE expires_at > clock_timestamp()`
	if err := q.QueryRow(ctx, workersSQL).Scan(&r.workers); err != nil {
		return fmt.Errorf("count workers: %w", err)
	}
	return nil
}

func (r *registry) ids() (ids []int64, tables, names []string) {
	for _, c := range r.Columns {
		ids, tables, names = append(ids, int64(c.ID)), append(tables, c.Table.String()), append(names, c.Source)
	}
	return ids, tables, names
}

// milestonesSQL is the last full verification of each column, its last cutover, and its first capture.
const milestonesSQL = `SELECT w.id, k.kind, e.created_at, e.details
 FROM unnest($1::bigint[], $2::text[], $3::text[]) AS w (id, table_name, column_name)
 CROSS JOIN (VALUES ('verified', -1), ('cut_over', -1), ('dual_writing', 1)) AS k (kind, direction)
 CROSS JOIN LATERAL (SELECT created_at, details FROM cipherfleet.events e
  WHERE e.table_name = w.table_name AND e.column_name = w.column_name AND e.event = k.kind AND e.event <> 'backfill_checkpoint'
   AND coalesce((e.details->>'sample')::float8, 0) = 0 ORDER BY e.id * k.direction LIMIT 1) AS e`

func (r *registry) readHistory(ctx context.Context, q pg.Querier) error {
	r.found, r.cutovers, r.captured, r.cut = map[uint32]Finding{}, map[uint32]standing.Cutover{}, map[uint32]time.Time{}, map[uint32]time.Time{}
	ids, tables, names := r.ids()
	_, err := pg.Collect(ctx, q, milestonesSQL, func(row pgx.CollectableRow) (id uint32, err error) {
		var kind lifecycle.Kind
		var at time.Time
		var details []byte
		if err := row.Scan(&id, &kind, &at, &details); err != nil {
			return id, err
		}
		if len(details) == 0 {
			details = []byte("{}")
		}
		switch kind {
		case lifecycle.KindVerified:
			f := Finding{at: at}
			err = json.Unmarshal(details, &f)
			r.found[id] = f
		case lifecycle.KindCutOver:
			var c standing.Cutover
			err = json.Unmarshal(details, &c)
			r.cutovers[id], r.cut[id] = c, at
		default:
			r.captured[id] = at
		}
		return id, err
	}, ids, tables, names)
	if err != nil {
		return fmt.Errorf("read verifications and cutovers: %w", err)
	}
	return nil
}

// Finding is a verification as the event log keeps it: counts, no keys.
type Finding struct {
	lifecycle.Verification
	Rows          int64            `json:"rows"`
	Covered       int64            `json:"covered"`
	Uncovered     int64            `json:"uncovered"`
	Stale         int64            `json:"stale"`
	Broken        int64            `json:"broken"`
	Unknown       int64            `json:"unknown,omitempty"`
	Schemes       map[uint16]int64 `json:"schemes,omitempty"`
	Keys          map[uint32]int64 `json:"keys,omitempty"`
	Repeated      int64            `json:"repeated_nonces,omitempty"`
	Digest        string           `json:"digest,omitempty"`
	PlaintextGone bool             `json:"plaintext_gone,omitempty"`
	Unproven      []string         `json:"unproven_indexes,omitempty"` // names of blind indexes
	Missed        int64            `json:"missed"`                     // writes that capture had caught when it began
	Seconds       float64          `json:"seconds"`

	at time.Time
}
