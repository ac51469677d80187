-- Schemes that come and go: what a rotation needs. The new list of kinds holds the old one, as in version 2.
ALTER TABLE cipherfleet.events DROP CONSTRAINT events_event_check;
ALTER TABLE cipherfleet.events ADD CONSTRAINT events_event_check CHECK (event IN ('schema_added','dual_writing','backfill_started',
  'backfill_checkpoint','backfilled','cut_over','dropped','error','range_split','row_quarantined','job_paused','job_resumed','job_cancelled',
  'verified','rolled_back','advanced','drop_planned','cleaned','scheme_changed')) NOT VALID;

ALTER TABLE cipherfleet.schemes
  ADD COLUMN tenant_column text,
  ADD COLUMN retain interval NOT NULL DEFAULT '720:00:00',
  ADD COLUMN revision bigint NOT NULL DEFAULT 0,
  ADD COLUMN activated bigint NOT NULL DEFAULT 0,
  ADD COLUMN created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
  ADD COLUMN retired_at timestamptz,
  ADD COLUMN destroyed_at timestamptz;
UPDATE cipherfleet.schemes SET retired_at = pg_catalog.now() WHERE state IN ('retired','destroyed');
UPDATE cipherfleet.schemes SET destroyed_at = pg_catalog.now() WHERE state = 'destroyed';
ALTER TABLE cipherfleet.schemes
  ADD CHECK (retain >= '0'),
  ADD CHECK ((retired_at IS NOT NULL) = (state IN ('retired','destroyed'))),
  ADD CHECK ((destroyed_at IS NOT NULL) = (state = 'destroyed'));
COMMENT ON COLUMN cipherfleet.schemes.tenant_column IS 'The column of the table whose value chooses the key; NULL: one key for all rows.';
COMMENT ON COLUMN cipherfleet.schemes.retain IS 'How long the keys are kept at least after the scheme was retired.';
COMMENT ON COLUMN cipherfleet.schemes.revision IS 'The registry revision it became readable with: whoever carries it, or a later one, can read its cells.';
COMMENT ON COLUMN cipherfleet.schemes.activated IS 'The registry revision it became active with, the last time; 0: never. Whoever carries it writes no older scheme.';

-- A state leads forwards only, but for active and readable, which change places when another scheme is activated.
DROP TRIGGER immutable ON cipherfleet.schemes;
CREATE TRIGGER immutable BEFORE UPDATE ON cipherfleet.schemes FOR EACH ROW
  WHEN (ROW(new.column_id, new.number, new.suite, new.codec, new.binding, new.padding, new.nulls, new.tenant_column, new.retain, new.revision)
        IS DISTINCT FROM ROW(old.column_id, old.number, old.suite, old.codec, old.binding, old.padding, old.nulls, old.tenant_column, old.retain, old.revision)
        OR (old.state = 'destroyed' AND new.state <> 'destroyed')
        OR (old.state = 'retired' AND new.state NOT IN ('retired','destroyed'))
        OR (old.state IN ('readable','active') AND new.state = 'destroyed'))
  EXECUTE FUNCTION cipherfleet.refuse_change();
ALTER TABLE cipherfleet.schemes ENABLE ALWAYS TRIGGER immutable;
-- A key that was destroyed stays so: bringing it back would make cells readable that somebody was promised are not.
DROP TRIGGER immutable_id ON cipherfleet.deks;
CREATE TRIGGER immutable_id BEFORE UPDATE ON cipherfleet.deks FOR EACH ROW
  WHEN (ROW(new.id, new.column_id, new.scheme, new.tenant) IS DISTINCT FROM ROW(old.id, old.column_id, old.scheme, old.tenant)
        OR (old.wrapped IS NULL AND new.wrapped IS NOT NULL))
  EXECUTE FUNCTION cipherfleet.refuse_change();
ALTER TABLE cipherfleet.deks ENABLE ALWAYS TRIGGER immutable_id;
COMMENT ON COLUMN cipherfleet.deks.tenant IS 'The tenant whose rows it seals; NULL: all rows, or those of no tenant.';

CREATE TABLE cipherfleet.decryptions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  column_id bigint NOT NULL REFERENCES cipherfleet.columns,
  actor text NOT NULL DEFAULT session_user,
  reason text NOT NULL CHECK (reason <> ''),
  at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp());
COMMENT ON TABLE cipherfleet.decryptions IS 'Who had a column brought back to plaintext after it was dropped, and why. A worker does it only for a row of this table, so INSERT on it is the right to decrypt: grant it by name.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON cipherfleet.decryptions FOR EACH ROW EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON cipherfleet.decryptions FOR EACH STATEMENT EXECUTE FUNCTION cipherfleet.refuse_change();
ALTER TABLE cipherfleet.decryptions ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER never_truncated;

REVOKE ALL ON cipherfleet.decryptions FROM PUBLIC;
REVOKE ALL ON SEQUENCE cipherfleet.decryptions_id_seq FROM PUBLIC;
