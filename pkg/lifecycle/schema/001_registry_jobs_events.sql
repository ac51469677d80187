-- The tables of cipherfleet. Everything is qualified and works on Postgres 14 and later.
DO $$
BEGIN  -- not IF NOT EXISTS: that asks for CREATE on the database even where a DBA has made the schema already
  IF pg_catalog.to_regnamespace('cipherfleet') IS NULL THEN
    CREATE SCHEMA cipherfleet;
  END IF;
END $$;
COMMENT ON SCHEMA cipherfleet IS 'Cipherfleet: what is encrypted, under which keys, who works on it, and what has happened.';

CREATE TABLE cipherfleet.installation (
  one bool PRIMARY KEY DEFAULT true CHECK (one),
  id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
  schema_version int NOT NULL,
  coordinator_epoch bigint NOT NULL DEFAULT 0,
  revision bigint NOT NULL DEFAULT 0,
  queue jsonb NOT NULL DEFAULT '{}');
COMMENT ON TABLE cipherfleet.installation IS 'One row: the identity of this installation.';
COMMENT ON COLUMN cipherfleet.installation.id IS 'The registry id that every cell authenticates: a cell of another installation does not open here.';
COMMENT ON COLUMN cipherfleet.installation.coordinator_epoch IS 'Grows with each leader; fences the writes of a coordinator that lost its lead.';
COMMENT ON COLUMN cipherfleet.installation.revision IS 'Grows with each change of columns, schemes or deks; who holds keys loads again when it moved.';
COMMENT ON COLUMN cipherfleet.installation.queue IS 'What the coordinator last knew of the message stream: created, epoch, last sequence.';

CREATE TABLE cipherfleet.columns (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (id BETWEEN 1 AND 4294967295),
  relid oid NOT NULL,
  source_attnum int2,
  target_attnum int2,
  schema_name text NOT NULL,
  table_name text NOT NULL,
  source text NOT NULL,
  target text NOT NULL,
  type text NOT NULL,
  collname text,
  retired_at timestamptz);
CREATE UNIQUE INDEX columns_live ON cipherfleet.columns (relid, source) WHERE retired_at IS NULL;
COMMENT ON TABLE cipherfleet.columns IS 'Columns under our care. A row is never deleted: its id is part of every cell of the column.';
COMMENT ON COLUMN cipherfleet.columns.id IS 'The column id inside each cell: never reused, survives every rename.';
COMMENT ON COLUMN cipherfleet.columns.relid IS 'The table; of a partitioned table its root. Found again by the CHECK constraint after a restore.';
COMMENT ON COLUMN cipherfleet.columns.source IS 'The name the source had when it was registered; events carry this name for ever.';

CREATE TABLE cipherfleet.schemes (
  column_id bigint REFERENCES cipherfleet.columns,
  number int CHECK (number BETWEEN 1 AND 65535),
  suite int2 NOT NULL,
  codec int2 NOT NULL,
  binding text NOT NULL,
  padding int2 NOT NULL,
  nulls text NOT NULL,
  state text NOT NULL CHECK (state IN ('readable','active','retired','destroyed')),
  PRIMARY KEY (column_id, number));
CREATE UNIQUE INDEX schemes_active ON cipherfleet.schemes (column_id) WHERE state = 'active';
COMMENT ON TABLE cipherfleet.schemes IS 'Numbered configurations of a column, immutable but for their state. At most one is active: written with.';

CREATE TABLE cipherfleet.deks (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (id BETWEEN 1 AND 4294967295),
  column_id bigint NOT NULL,
  scheme int NOT NULL,
  tenant text,
  kek text NOT NULL,
  wrapped bytea,
  canary bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
  destroyed_at timestamptz,
  FOREIGN KEY (column_id, scheme) REFERENCES cipherfleet.schemes,
  CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL)));
CREATE UNIQUE INDEX deks_one_per_tenant ON cipherfleet.deks (column_id, scheme, coalesce(tenant, ''));
COMMENT ON TABLE cipherfleet.deks IS 'Data keys, wrapped by a key-encryption key. Losing a row loses every cell sealed under it.';
COMMENT ON COLUMN cipherfleet.deks.id IS 'The key id inside each cell.';
COMMENT ON COLUMN cipherfleet.deks.canary IS 'A cell of a known value: a key that cannot open it is not the key.';

CREATE TABLE cipherfleet.jobs (
  id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
  request_id text UNIQUE,
  relid oid NOT NULL,
  spec jsonb NOT NULL,
  state text NOT NULL CHECK (state IN ('planning','running','sweeping','watching','paused','done','failed','cancelled')),
  planned_through text[],
  pass int NOT NULL DEFAULT 0,
  total bigint NOT NULL DEFAULT 0,
  stopped_by text,
  trace_parent text,
  created_at timestamptz NOT NULL DEFAULT pg_catalog.now());
CREATE UNIQUE INDEX jobs_one_live_per_table ON cipherfleet.jobs (relid) WHERE state NOT IN ('done','failed','cancelled');
COMMENT ON TABLE cipherfleet.jobs IS 'Passes over a table. A projection: changed only in the transaction that appends the event of the change.';

COMMENT ON COLUMN cipherfleet.jobs.pass IS '0 is the first pass over the table, then one per sweep.';
COMMENT ON COLUMN cipherfleet.jobs.total IS 'Rows of the table when the job began, estimated.';
COMMENT ON COLUMN cipherfleet.jobs.stopped_by IS 'Why a failed job failed, without any value.';

CREATE TABLE cipherfleet.ranges (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id uuid NOT NULL REFERENCES cipherfleet.jobs,
  parent bigint,
  relid oid NOT NULL,
  pass int NOT NULL DEFAULT 0,
  after_key text[],
  through_key text[],
  cursor_key text[],
  state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending','done','split')),
  epoch bigint NOT NULL DEFAULT 0,
  attempts int NOT NULL DEFAULT 0,
  owner uuid,
  worker text,
  lease_until timestamptz,
  published_at timestamptz,
  queue_epoch bigint,
  rows bigint NOT NULL DEFAULT 0,
  skipped bigint NOT NULL DEFAULT 0,
  conflicts bigint NOT NULL DEFAULT 0,
  error_class text) WITH (fillfactor = 50);
CREATE INDEX ranges_pending ON cipherfleet.ranges (job_id, id) WHERE state = 'pending';
COMMENT ON TABLE cipherfleet.ranges IS 'The work list: (after, through] of the key space of one leaf table. Thrown away, it can be planned again.';
COMMENT ON COLUMN cipherfleet.ranges.relid IS 'The leaf partition, or the table itself.';
COMMENT ON COLUMN cipherfleet.ranges.pass IS '0 is the first pass over the table, then one per sweep.';
COMMENT ON COLUMN cipherfleet.ranges.after_key IS 'One element per key column, the type''s output under pinned settings; NULL is open.';
COMMENT ON COLUMN cipherfleet.ranges.epoch IS 'Grows with each claim, and with pause, resume, cancel and split; with owner it fences a worker that lost its lease.';

CREATE TABLE cipherfleet.quarantine (
  job_id uuid,
  column_id bigint,
  relid oid,
  key text[],
  key_hash text NOT NULL,
  reason text NOT NULL,
  at timestamptz NOT NULL DEFAULT pg_catalog.now(),
  resolved_at timestamptz,
  PRIMARY KEY (job_id, column_id, relid, key_hash)); -- a wide key fits its own index, but its text may not fit another
COMMENT ON TABLE cipherfleet.quarantine IS 'Rows a job could not transform. With ranges and events the only place that holds real keys.';

CREATE TABLE cipherfleet.events (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_name text NOT NULL,
  column_name text NOT NULL,
  event text NOT NULL CHECK (event IN ('schema_added','dual_writing','backfill_started','backfill_checkpoint','backfilled',
    'cut_over','dropped','error','range_split','row_quarantined','job_paused','job_resumed','job_cancelled','verified','rolled_back')),
  phase text NOT NULL CHECK (phase IN ('schema-added','dual-writing','backfilling','backfilled','cut-over','dropped')),
  cursor_value text,
  rows_processed bigint CHECK (rows_processed >= 0),
  rows_total bigint CHECK (rows_total >= 0),
  details jsonb,
  created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  job_id uuid,
  range_id bigint,
  epoch bigint,
  skipped bigint CHECK (skipped >= 0),
  worker text,
  actor text NOT NULL DEFAULT session_user,
  trace_id text);
CREATE INDEX events_by_column ON cipherfleet.events (table_name, column_name, id DESC);
CREATE INDEX events_but_checkpoints ON cipherfleet.events (table_name, column_name, id DESC) WHERE event <> 'backfill_checkpoint';
COMMENT ON TABLE cipherfleet.events IS 'The append-only log: the state of a column is its events folded in the order of id.';
COMMENT ON COLUMN cipherfleet.events.table_name IS 'Canonical schema-qualified name, as it was when the column was registered.';
COMMENT ON COLUMN cipherfleet.events.phase IS 'The phase after the event.';
COMMENT ON COLUMN cipherfleet.events.rows_processed IS 'Rows written by this event''s transaction, not a running total.';

CREATE TABLE cipherfleet.workers (
  id text PRIMARY KEY,
  kind text NOT NULL,
  revision bigint NOT NULL,
  slots int,
  build text,
  seen_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL);
COMMENT ON TABLE cipherfleet.workers IS 'Leases of workers and clients, with the registry revision each carries.';

CREATE FUNCTION cipherfleet.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'cipherfleet.% does not allow %', TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'restrict_violation', HINT = 'Rows of this table are the memory of the installation; they are only ever added.';
END $$;
COMMENT ON FUNCTION cipherfleet.refuse_change() IS 'Keeps events append-only, and the registry from losing ids and keys.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON cipherfleet.events FOR EACH ROW EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON cipherfleet.events FOR EACH STATEMENT EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER never_deleted BEFORE DELETE ON cipherfleet.columns FOR EACH ROW EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON cipherfleet.columns FOR EACH STATEMENT EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER never_deleted BEFORE DELETE ON cipherfleet.schemes FOR EACH ROW EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON cipherfleet.schemes FOR EACH STATEMENT EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER never_deleted BEFORE DELETE ON cipherfleet.deks FOR EACH ROW EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON cipherfleet.deks FOR EACH STATEMENT EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE ON cipherfleet.schemes FOR EACH ROW
  WHEN (ROW(new.column_id, new.number, new.suite, new.codec, new.binding, new.padding, new.nulls)
        IS DISTINCT FROM ROW(old.column_id, old.number, old.suite, old.codec, old.binding, old.padding, old.nulls)
        OR (old.state = 'destroyed' AND new.state <> 'destroyed'))
  EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER immutable_id BEFORE UPDATE ON cipherfleet.columns FOR EACH ROW
  WHEN (new.id <> old.id) EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER immutable_id BEFORE UPDATE ON cipherfleet.deks FOR EACH ROW
  WHEN (ROW(new.id, new.column_id, new.scheme, new.tenant) IS DISTINCT FROM ROW(old.id, old.column_id, old.scheme, old.tenant))
  EXECUTE FUNCTION cipherfleet.refuse_change();
ALTER TABLE cipherfleet.events ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER never_truncated;
ALTER TABLE cipherfleet.columns ENABLE ALWAYS TRIGGER never_deleted, ENABLE ALWAYS TRIGGER never_truncated, ENABLE ALWAYS TRIGGER immutable_id;
ALTER TABLE cipherfleet.schemes ENABLE ALWAYS TRIGGER never_deleted, ENABLE ALWAYS TRIGGER never_truncated, ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE cipherfleet.deks ENABLE ALWAYS TRIGGER never_deleted, ENABLE ALWAYS TRIGGER never_truncated, ENABLE ALWAYS TRIGGER immutable_id;

REVOKE ALL ON SCHEMA cipherfleet FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA cipherfleet FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA cipherfleet FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA cipherfleet FROM PUBLIC;
