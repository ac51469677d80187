CREATE SEQUENCE IF NOT EXISTS cipherfleet.token_4294967295_missed;
CREATE OR REPLACE FUNCTION cipherfleet.token_4294967295_stale(new_cell "My ""Shop"""."or.ders\"."e.mail $capture$ cell"%TYPE, old_cell "My ""Shop"""."or.ders\"."e.mail $capture$ cell"%TYPE, new_token pg_catalog.bytea, old_token pg_catalog.bytea) RETURNS boolean
LANGUAGE plpgsql STABLE AS $stale$
BEGIN
  IF new_token IS NULL THEN
    RETURN false;
  ELSIF NOT (new_cell IS DISTINCT FROM NULL) THEN
    RETURN true;
  ELSIF pg_catalog.octet_length(new_token) OPERATOR(pg_catalog.=) 17 THEN
    RETURN false;
  ELSIF pg_catalog.record_image_ne(ROW(new_token), ROW(old_token)) THEN
    RETURN pg_catalog.record_image_ne(ROW(new_cell), ROW(old_cell)) OR (pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'fleet') IS NOT TRUE;
  END IF;
  RETURN pg_catalog.record_image_ne(ROW(new_cell), ROW(old_cell)) AND (pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'rotation') IS NOT TRUE;
END
$stale$;
GRANT EXECUTE ON FUNCTION cipherfleet.token_4294967295_stale TO PUBLIC;
CREATE OR REPLACE FUNCTION cipherfleet.token_4294967295() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $token$
DECLARE
  renamed text;
  value bytea;
BEGIN
  IF TG_ARGV[0] = 'miss' THEN
    BEGIN
      PERFORM nextval(s.id) FROM to_regclass('cipherfleet.token_4294967295_missed') AS s(id) WHERE s.id IS NOT NULL;
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
    RETURN NEW;
  END IF;
  BEGIN
    IF TG_ARGV[0] = 'keep' THEN
      NEW."b""idx %s" := substr(NEW."b""idx %s", 2);
    ELSE
      NEW."b""idx %s" := NULL;
    END IF;
  EXCEPTION WHEN undefined_column THEN
    SELECT a.attname INTO renamed FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
     WHERE c.conrelid = TG_RELID AND c.contypid = 0 AND c.conname = 'cipherfleet_token_4294967295';
    IF FOUND AND TG_ARGV[0] = 'keep' THEN
      EXECUTE format('SELECT substr(($1).%I, 2)', renamed) INTO value USING NEW;
    END IF;
    IF renamed IS NOT NULL THEN
      NEW := jsonb_populate_record(NEW, jsonb_build_object(renamed, value));
    END IF;
  END;
  RETURN NEW;
END
$token$;
REVOKE ALL ON FUNCTION cipherfleet.token_4294967295() FROM PUBLIC;
CREATE OR REPLACE TRIGGER "~cipherfleet_z4294967295_clear_insert" BEFORE INSERT ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (new."b""idx %s" IS NOT NULL AND (NOT (new."e.mail $capture$ cell" IS DISTINCT FROM NULL) OR (pg_catalog.octet_length(new."b""idx %s") OPERATOR(pg_catalog.=) 17 OR (pg_catalog.octet_length(new."b""idx %s") OPERATOR(pg_catalog.=) 16 AND (pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'client' OR pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'rotation'))) IS NOT TRUE))
EXECUTE FUNCTION cipherfleet.token_4294967295('clear');
CREATE OR REPLACE TRIGGER "~cipherfleet_z4294967295_clear_update" BEFORE UPDATE ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (cipherfleet.token_4294967295_stale(new."e.mail $capture$ cell", old."e.mail $capture$ cell", new."b""idx %s", old."b""idx %s"))
EXECUTE FUNCTION cipherfleet.token_4294967295('clear');
CREATE OR REPLACE TRIGGER "~cipherfleet_z4294967295_keep_insert" BEFORE INSERT ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (pg_catalog.octet_length(new."b""idx %s") OPERATOR(pg_catalog.=) 17)
EXECUTE FUNCTION cipherfleet.token_4294967295('keep');
CREATE OR REPLACE TRIGGER "~cipherfleet_z4294967295_keep_update" BEFORE UPDATE ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (pg_catalog.octet_length(new."b""idx %s") OPERATOR(pg_catalog.=) 17)
EXECUTE FUNCTION cipherfleet.token_4294967295('keep');
CREATE OR REPLACE TRIGGER "~cipherfleet_z4294967295_miss_insert" BEFORE INSERT ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (new."b""idx %s" IS NULL AND new."e.mail $capture$ cell" IS DISTINCT FROM NULL)
EXECUTE FUNCTION cipherfleet.token_4294967295('miss');
CREATE OR REPLACE TRIGGER "~cipherfleet_z4294967295_miss_update" BEFORE UPDATE ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (new."b""idx %s" IS NULL AND new."e.mail $capture$ cell" IS DISTINCT FROM NULL AND (old."b""idx %s" IS NOT NULL OR NOT (old."e.mail $capture$ cell" IS DISTINCT FROM NULL)))
EXECUTE FUNCTION cipherfleet.token_4294967295('miss');
ALTER TABLE "My ""Shop"""."or.ders\" ENABLE ALWAYS TRIGGER "~cipherfleet_z4294967295_clear_insert", ENABLE ALWAYS TRIGGER "~cipherfleet_z4294967295_clear_update", ENABLE ALWAYS TRIGGER "~cipherfleet_z4294967295_keep_insert", ENABLE ALWAYS TRIGGER "~cipherfleet_z4294967295_keep_update", ENABLE ALWAYS TRIGGER "~cipherfleet_z4294967295_miss_insert", ENABLE ALWAYS TRIGGER "~cipherfleet_z4294967295_miss_update";
-- undo
DROP TRIGGER IF EXISTS "~cipherfleet_z4294967295_clear_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_z4294967295_clear_update" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_z4294967295_keep_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_z4294967295_keep_update" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_z4294967295_miss_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_z4294967295_miss_update" ON "My ""Shop"""."or.ders\";
DROP FUNCTION IF EXISTS cipherfleet.token_4294967295();
DROP FUNCTION IF EXISTS cipherfleet.token_4294967295_stale;
DROP SEQUENCE IF EXISTS cipherfleet.token_4294967295_missed;
