-- Blind indexes: columns of tokens to search by, each with a key of its own.
CREATE TABLE cipherfleet.blind_indexes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (id BETWEEN 1 AND 4294967295),
  column_id bigint NOT NULL REFERENCES cipherfleet.columns,
  name text NOT NULL CHECK (name <> ''),
  generation int NOT NULL CHECK (generation > 0),
  token text NOT NULL CHECK (token <> ''),
  normaliser int2 NOT NULL,
  bytes int2 NOT NULL CHECK (bytes BETWEEN 1 AND 32),
  is_unique bool NOT NULL,
  state text NOT NULL DEFAULT 'prepared' CHECK (state IN ('prepared','filling','ready','retiring','dropped')),
  revision bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
  ready_at timestamptz,
  dropped_at timestamptz,
  UNIQUE (column_id, name, generation),
  CHECK (NOT is_unique OR bytes >= 16),
  CHECK ((dropped_at IS NOT NULL) = (state = 'dropped')));
COMMENT ON TABLE cipherfleet.blind_indexes IS 'Columns of tokens: keyed hashes of another column''s values. Immutable but for their state; another key is another generation, in a column of its own.';
COMMENT ON COLUMN cipherfleet.blind_indexes.id IS 'The number that is part of each token: never reused.';
COMMENT ON COLUMN cipherfleet.blind_indexes.token IS 'The name the column of tokens had when it was made. Found again by its CHECK constraint after a rename or a restore.';
COMMENT ON COLUMN cipherfleet.blind_indexes.state IS 'prepared: it has a key and no column yet; filling: written, and not complete; ready: complete, with its index; retiring: written and looked up by nobody any more; dropped.';
COMMENT ON COLUMN cipherfleet.blind_indexes.revision IS 'The registry revision it came into its state with: whoever carries it, or a later one, knows.';

CREATE TRIGGER never_deleted BEFORE DELETE ON cipherfleet.blind_indexes FOR EACH ROW EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON cipherfleet.blind_indexes FOR EACH STATEMENT EXECUTE FUNCTION cipherfleet.refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE ON cipherfleet.blind_indexes FOR EACH ROW
  WHEN (ROW(new.id, new.column_id, new.name, new.generation, new.normaliser, new.bytes, new.is_unique)
        IS DISTINCT FROM ROW(old.id, old.column_id, old.name, old.generation, old.normaliser, old.bytes, old.is_unique)
        OR (old.state = 'dropped' AND new.state <> 'dropped'))
  EXECUTE FUNCTION cipherfleet.refuse_change();
ALTER TABLE cipherfleet.blind_indexes ENABLE ALWAYS TRIGGER never_deleted, ENABLE ALWAYS TRIGGER never_truncated, ENABLE ALWAYS TRIGGER immutable;

ALTER TABLE cipherfleet.deks
  ALTER COLUMN scheme DROP NOT NULL,
  ADD COLUMN blind_index bigint REFERENCES cipherfleet.blind_indexes,
  ADD CHECK ((scheme IS NULL) <> (blind_index IS NULL));
CREATE UNIQUE INDEX deks_one_per_index ON cipherfleet.deks (blind_index) WHERE blind_index IS NOT NULL;
COMMENT ON COLUMN cipherfleet.deks.blind_index IS 'The index whose tokens it makes; NULL: it seals cells.';
DROP TRIGGER immutable_id ON cipherfleet.deks;
CREATE TRIGGER immutable_id BEFORE UPDATE ON cipherfleet.deks FOR EACH ROW
  WHEN (ROW(new.id, new.column_id, new.scheme, new.tenant, new.blind_index) IS DISTINCT FROM ROW(old.id, old.column_id, old.scheme, old.tenant, old.blind_index)
        OR (old.wrapped IS NULL AND new.wrapped IS NOT NULL))
  EXECUTE FUNCTION cipherfleet.refuse_change();
ALTER TABLE cipherfleet.deks ENABLE ALWAYS TRIGGER immutable_id;

REVOKE ALL ON cipherfleet.blind_indexes FROM PUBLIC;
REVOKE ALL ON SEQUENCE cipherfleet.blind_indexes_id_seq FROM PUBLIC;
