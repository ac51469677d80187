-- What a column's whole life needs beyond its first run. The new list of kinds holds the old one, so nothing is
-- validated: that would read the log under a lock that stops the fleet.
ALTER TABLE cipherfleet.events DROP CONSTRAINT events_event_check;
ALTER TABLE cipherfleet.events ADD CONSTRAINT events_event_check CHECK (event IN ('schema_added','dual_writing','backfill_started',
  'backfill_checkpoint','backfilled','cut_over','dropped','error','range_split','row_quarantined','job_paused','job_resumed','job_cancelled',
  'verified','rolled_back','advanced','drop_planned','cleaned')) NOT VALID;

CREATE TABLE cipherfleet.missed_writes (
  column_id bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  application text NOT NULL,
  role text NOT NULL,
  writes bigint NOT NULL DEFAULT 1 CHECK (writes > 0)) WITH (vacuum_truncate = off); -- truncating locks, and a writer does not wait
CREATE INDEX missed_writes_by_column ON cipherfleet.missed_writes (column_id, at);
COMMENT ON TABLE cipherfleet.missed_writes IS 'Who wrote a source without its cell, and when. Only ever inserted into by writers, so that none waits for another; the coordinator adds up what is older than a minute.';
COMMENT ON COLUMN cipherfleet.missed_writes.application IS 'application_name of the session that wrote.';
COMMENT ON COLUMN cipherfleet.missed_writes.role IS 'session_user of the session that wrote.';

CREATE VIEW cipherfleet.cs_migrations AS
SELECT e.id, e.table_name, e.column_name, e.event, e.phase, e.cursor_value,
  (pg_catalog.sum(e.rows_processed) OVER run)::pg_catalog.int8 AS rows_processed,
  pg_catalog.max(e.rows_total) OVER run AS rows_total,
  e.details, e.created_at
 FROM cipherfleet.events e
WINDOW run AS (PARTITION BY e.table_name, e.column_name, e.job_id ORDER BY e.id);
COMMENT ON VIEW cipherfleet.cs_migrations IS 'The log with running sums per job, in the columns that people of other tools know.';

REVOKE ALL ON cipherfleet.missed_writes, cipherfleet.cs_migrations FROM PUBLIC;
