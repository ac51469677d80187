package residue

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// slotsSQL: a slot that has moved past the moment when the table was last rewritten keeps nothing of before.
const slotsSQL = `SELECT s.slot_name::text, s.active, coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn), 0)::bigint
 FROM pg_catalog.pg_replication_slots s WHERE NOT s.temporary AND s.restart_lsn IS NOT NULL AND NOT pg_catalog.pg_is_in_recovery()
  AND (s.slot_type = 'physical' OR s.database = pg_catalog.current_database()) AND ($1 = '' OR s.restart_lsn < nullif($1, '')::pg_catalog.pg_lsn) ORDER BY 1`

func (x *search) slots(ctx context.Context) error {
	return x.gather(ctx, slotsSQL, func(row pgx.CollectableRow) (Finding, error) {
		f, active, behind := Finding{Kind: Slot, Then: "let its reader catch up, or drop the slot if nobody reads it"}, false, int64(0)
		err := row.Scan(&f.Where, &active, &behind)
		f.Says = fmt.Sprintf("it keeps %s of the server's log, with what was written meanwhile", bytesWords(behind))
		if !active {
			f.Says += "; nobody reads it"
		}
		return f, err
	}, x.clean.LSN)
}

// loggingSQL are settings by which values of statements reach a file or a view: of the server as this session sees
// them, and those that a role or database has of its own.
const loggingSQL = `WITH worry (name, harmless, kind) AS (VALUES
  ('log_statement', ARRAY['none', 'ddl'], 'logging'), ('log_min_duration_statement', ARRAY['-1'], 'logging'), ('log_min_duration_sample', ARRAY['-1'], 'logging'),
  ('log_transaction_sample_rate', ARRAY['0'], 'logging'), ('log_parameter_max_length_on_error', ARRAY['0'], 'logging'),
  ('debug_print_parse', ARRAY['off'], 'logging'), ('debug_print_rewritten', ARRAY['off'], 'logging'), ('debug_print_plan', ARRAY['off'], 'logging'),
  ('auto_explain.log_min_duration', ARRAY['-1'], 'extension'), ('pgaudit.log', ARRAY['none', ''], 'extension')),
 setting (name, value, of) AS (
  SELECT s.name, s.setting, '' FROM pg_catalog.pg_settings s
  UNION ALL SELECT pg_catalog.split_part(c, '=', 1), pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1),
   pg_catalog.concat(' of', ' role ' || r.rolname, ' database ' || d.datname)
   FROM pg_catalog.pg_db_role_setting o CROSS JOIN pg_catalog.unnest(o.setconfig) c
   LEFT JOIN pg_catalog.pg_roles r ON r.oid = o.setrole LEFT JOIN pg_catalog.pg_database d ON d.oid = o.setdatabase
   WHERE o.setdatabase = 0 OR d.datname = pg_catalog.current_database())
SELECT DISTINCT w.kind, w.name || s.of, s.value FROM worry w JOIN setting s USING (name) WHERE s.value <> ALL (w.harmless)
UNION ALL SELECT 'extension', e.extname, '' FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_stat_statements'
ORDER BY 1 DESC, 2`

func (x *search) logging(ctx context.Context) error {
	return x.gather(ctx, loggingSQL, func(row pgx.CollectableRow) (f Finding, err error) {
		value := ""
		err = row.Scan(&f.Kind, &f.Where, &value)
		f.Says = fmt.Sprintf("it is %q: statements, or their parameters, are written to the server's log", value)
		f.Then = "see who keeps those logs and for how long, and remove what is there from before the cutover; change the setting while plaintext is written"
		if value == "" {
			f.Says = "it keeps the texts of statements; those it cannot normalize keep their constants"
			f.Then = "SELECT pg_stat_statements_reset()"
		}
		return f, err
	})
}

const surroundingsSQL = `SELECT coalesce((SELECT setting FROM pg_catalog.pg_settings WHERE name = 'archive_mode'), 'unknown'),
 (SELECT count(*) FROM pg_catalog.pg_stat_replication)`

// checklist is what lies outside of the database. It is the same for every column, but for what the server knows.
func (x *search) checklist(ctx context.Context) error {
	archive, replicas := "", int64(0)
	if err := x.q.QueryRow(ctx, surroundingsSQL).Scan(&archive, &replicas); err != nil {
		return fmt.Errorf("look at the server's surroundings: %w", err)
	}
	x.r.Checklist = []Check{
		{"the write-ahead log", fmt.Sprintf("archive_mode is %s: archived segments hold what was written before the cutover, and whole pages of the table until it was rewritten; delete those that no backup needs", archive)},
		{"backups and snapshots", "each from before the drop holds the plaintext, pg_dump files too; make a new one, and let the old ones expire"},
		{"replicas", fmt.Sprintf("%d are connected now: physical ones follow by themselves; delayed, detached and promoted ones do not", replicas)},
		{"subscribers and other copies of the data", "logical subscribers, change data capture, warehouses, search indexes, caches, exports and spreadsheets"},
		{"logs", "server logs (statements that failed stand there with their texts, by default), poolers and proxies, application logs and error trackers from before the cutover"},
		{"disks", "files that were rewritten are deleted, not erased: that is the storage's matter"},
	}
	return nil
}
