CREATE SEQUENCE IF NOT EXISTS cipherfleet.missed_4294967295;
CREATE OR REPLACE FUNCTION cipherfleet.capture_4294967295() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $capture$ -- version 2
DECLARE
  target text;
  missed bigint;
BEGIN
  IF TG_NARGS = 0 THEN
    SELECT a.attname INTO target FROM pg_catalog.pg_constraint c
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
     WHERE c.conrelid = TG_RELID AND c.contypid = 0 AND c.conname = 'cipherfleet_4294967295_cell';
    IF NOT FOUND THEN
      RETURN NEW;
    END IF;
    NEW := jsonb_populate_record(NEW, jsonb_build_object(target, NULL));
  END IF;
  BEGIN
    PERFORM nextval(s.id) FROM to_regclass('cipherfleet.missed_4294967295') AS s(id) WHERE s.id IS NOT NULL;
    missed := 1 + coalesce(substring(current_setting('cipherfleet.missed_4294967295', true), '^[0-9]{1,15}$')::bigint, 0);
    PERFORM set_config('cipherfleet.missed_4294967295', missed::text, true);
    IF missed <= 16 OR missed & (missed - 1) = 0 THEN
      LOCK TABLE cipherfleet.missed_writes IN ROW EXCLUSIVE MODE NOWAIT;
      INSERT INTO cipherfleet.missed_writes (column_id, application, role, writes)
      VALUES (4294967295, left(current_setting('application_name'), 64), session_user, CASE WHEN missed <= 16 THEN 1 ELSE missed / 2 END);
    END IF;
  EXCEPTION WHEN OTHERS THEN
    NULL;
  END;
  RETURN NEW;
END
$capture$;
REVOKE ALL ON FUNCTION cipherfleet.capture_4294967295() FROM PUBLIC;
CREATE OR REPLACE FUNCTION cipherfleet.misses_4294967295(new_target "My ""Shop"""."or.ders\"."e.mail $capture$ cell"%TYPE, old_target "My ""Shop"""."or.ders\"."e.mail $capture$ cell"%TYPE, new_1 "My ""Shop"""."or.ders\"."Tenant"%TYPE, new_2 "My ""Shop"""."or.ders\"."id;--"%TYPE, new_3 "My ""Shop"""."or.ders\"."iv ""1"""%TYPE, new_4 "My ""Shop"""."or.ders\"."salt"%TYPE, new_5 "My ""Shop"""."or.ders\"."e'mail ""x"""%TYPE, old_1 "My ""Shop"""."or.ders\"."Tenant"%TYPE, old_2 "My ""Shop"""."or.ders\"."id;--"%TYPE, old_3 "My ""Shop"""."or.ders\"."iv ""1"""%TYPE, old_4 "My ""Shop"""."or.ders\"."salt"%TYPE, old_5 "My ""Shop"""."or.ders\"."e'mail ""x"""%TYPE) RETURNS boolean
LANGUAGE plpgsql STABLE AS $misses$
BEGIN
  IF pg_catalog.record_image_eq(ROW(new_1, new_2, new_3, new_4, new_5), ROW(old_1, old_2, old_3, old_4, old_5)) THEN
    RETURN false;
  END IF;
  RETURN (new_target IS DISTINCT FROM NULL OR new_5 IS DISTINCT FROM NULL) AND pg_catalog.record_image_ne(ROW(new_1, new_2, new_3, new_4, new_5), ROW(old_1, old_2, old_3, old_4, old_5))
   AND (new_target IS DISTINCT FROM NULL AND pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'client' AND pg_catalog.record_image_ne(ROW(new_target), ROW(old_target))) IS NOT TRUE;
END
$misses$;
GRANT EXECUTE ON FUNCTION cipherfleet.misses_4294967295 TO PUBLIC;
CREATE OR REPLACE FUNCTION cipherfleet.misses_insert_4294967295(new_target "My ""Shop"""."or.ders\"."e.mail $capture$ cell"%TYPE, new_source "My ""Shop"""."or.ders\"."e'mail ""x"""%TYPE) RETURNS boolean
LANGUAGE plpgsql STABLE AS $misses$
BEGIN
  RETURN CASE WHEN new_target IS DISTINCT FROM NULL THEN (pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'client') IS NOT TRUE ELSE new_source IS DISTINCT FROM NULL END;
END
$misses$;
GRANT EXECUTE ON FUNCTION cipherfleet.misses_insert_4294967295 TO PUBLIC;
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_absent_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_missed_update" ON "My ""Shop"""."or.ders\";
CREATE OR REPLACE TRIGGER "~cipherfleet_4294967295_insert" BEFORE INSERT ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (cipherfleet.misses_insert_4294967295(new."e.mail $capture$ cell", new."e'mail ""x"""))
EXECUTE FUNCTION cipherfleet.capture_4294967295();
CREATE OR REPLACE TRIGGER "~cipherfleet_4294967295_update" BEFORE UPDATE ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (cipherfleet.misses_4294967295(new."e.mail $capture$ cell", old."e.mail $capture$ cell", new."Tenant", new."id;--", new."iv ""1""", new."salt", new."e'mail ""x""", old."Tenant", old."id;--", old."iv ""1""", old."salt", old."e'mail ""x"""))
EXECUTE FUNCTION cipherfleet.capture_4294967295();
ALTER TABLE "My ""Shop"""."or.ders\" ENABLE ALWAYS TRIGGER "~cipherfleet_4294967295_insert", ENABLE ALWAYS TRIGGER "~cipherfleet_4294967295_update";
DROP FUNCTION IF EXISTS cipherfleet.within_4294967295;
-- undo
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_strict_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_strict_update" ON "My ""Shop"""."or.ders\";
DROP FUNCTION IF EXISTS cipherfleet.strict_4294967295();
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_update" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_absent_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_missed_update" ON "My ""Shop"""."or.ders\";
DROP FUNCTION IF EXISTS cipherfleet.capture_4294967295();
DROP FUNCTION IF EXISTS cipherfleet.misses_4294967295;
DROP FUNCTION IF EXISTS cipherfleet.misses_insert_4294967295;
DROP SEQUENCE IF EXISTS cipherfleet.missed_4294967295;
