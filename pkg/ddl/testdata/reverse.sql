CREATE SEQUENCE IF NOT EXISTS cipherfleet.reverse_missed_4294967295;
CREATE OR REPLACE FUNCTION cipherfleet.reverse_4294967295() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $capture$
DECLARE
  moved pg_catalog.text := nullif(pg_catalog.current_setting('cipherfleet.moved_4294967295', true), '');
  plaintext pg_catalog.text;
BEGIN
  IF TG_NARGS > 0 OR TG_OP = 'INSERT' AND moved IS NOT NULL THEN
    SELECT pg_catalog.md5(pg_catalog.to_jsonb(NEW) ->> a.attname) INTO plaintext FROM pg_catalog.pg_constraint c
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
     WHERE c.conrelid = TG_RELID AND c.contypid = 0 AND c.conname = 'cipherfleet_4294967295_cell';
    IF TG_NARGS > 0 THEN
      PERFORM pg_catalog.set_config('cipherfleet.moved_4294967295', coalesce(plaintext, ''), true);
      RETURN NEW;
    ELSIF plaintext = moved THEN
      RETURN NEW;
    END IF;
  END IF;
  SELECT a.attname INTO plaintext FROM pg_catalog.pg_trigger g
    JOIN pg_catalog.pg_attribute a ON a.attrelid = g.tgrelid AND a.attnum = g.tgattr[0]
   WHERE g.tgrelid = TG_RELID AND g.tgname = '~cipherfleet_4294967295_reverse_source';
  IF FOUND THEN
    NEW := pg_catalog.jsonb_populate_record(NEW, pg_catalog.jsonb_build_object(plaintext, NULL));
    PERFORM pg_catalog.nextval(s.id) FROM pg_catalog.to_regclass('cipherfleet.reverse_missed_4294967295') AS s(id) WHERE s.id IS NOT NULL;
  END IF;
  RETURN NEW;
END
$capture$;
REVOKE ALL ON FUNCTION cipherfleet.reverse_4294967295() FROM PUBLIC;
CREATE OR REPLACE FUNCTION cipherfleet.reverse_plain_4294967295() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $capture$
DECLARE
  missed bigint;
BEGIN
  BEGIN
    PERFORM nextval(s.id) FROM to_regclass('cipherfleet.reverse_plain_4294967295') AS s(id) WHERE s.id IS NOT NULL;
    missed := 1 + coalesce(substring(current_setting('cipherfleet.reverse_plain_4294967295', true), '^[0-9]{1,15}$')::bigint, 0);
    PERFORM set_config('cipherfleet.reverse_plain_4294967295', missed::text, true);
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
REVOKE ALL ON FUNCTION cipherfleet.reverse_plain_4294967295() FROM PUBLIC;
CREATE OR REPLACE TRIGGER "~cipherfleet_4294967295_reverse_source" BEFORE UPDATE OF "e'mail ""x""" ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (false) EXECUTE FUNCTION cipherfleet.reverse_4294967295();
CREATE OR REPLACE TRIGGER "~cipherfleet_4294967295_reverse_insert" BEFORE INSERT ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (new."e'mail ""x""" IS DISTINCT FROM NULL
  AND new."e.mail $capture$ cell" IS NOT NULL
  AND (pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'client') IS NOT TRUE)
EXECUTE FUNCTION cipherfleet.reverse_4294967295();
CREATE OR REPLACE TRIGGER "~cipherfleet_4294967295_reverse_moved" BEFORE UPDATE ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (new."e'mail ""x""" IS DISTINCT FROM NULL
  AND new."e.mail $capture$ cell" IS NOT NULL
  AND pg_catalog.record_image_eq(ROW(new."e.mail $capture$ cell"), ROW(old."e.mail $capture$ cell"))
  AND pg_catalog.record_image_ne(ROW(new."Tenant", new."id;--"), ROW(old."Tenant", old."id;--")))
EXECUTE FUNCTION cipherfleet.reverse_4294967295('moved');
CREATE OR REPLACE TRIGGER "~cipherfleet_4294967295_reverse_update" BEFORE UPDATE ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (new."e'mail ""x""" IS DISTINCT FROM NULL
  AND pg_catalog.record_image_ne(ROW(new."e.mail $capture$ cell"), ROW(old."e.mail $capture$ cell"))
  AND (pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'rotation' AND new."e.mail $capture$ cell" IS NOT NULL) IS NOT TRUE
  AND ((pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'client') IS NOT TRUE
    OR pg_catalog.record_image_eq(ROW(new."e'mail ""x"""), ROW(old."e'mail ""x"""))))
EXECUTE FUNCTION cipherfleet.reverse_4294967295();
CREATE OR REPLACE TRIGGER "~cipherfleet_4294967295_reverse_plain_insert" BEFORE INSERT ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (new."e'mail ""x""" IS DISTINCT FROM NULL AND new."e.mail $capture$ cell" IS NULL)
EXECUTE FUNCTION cipherfleet.reverse_plain_4294967295();
CREATE OR REPLACE TRIGGER "~cipherfleet_4294967295_reverse_plain_update" BEFORE UPDATE ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (new."e'mail ""x""" IS DISTINCT FROM NULL
  AND pg_catalog.record_image_ne(ROW(new."e'mail ""x"""), ROW(old."e'mail ""x"""))
  AND pg_catalog.record_image_eq(ROW(new."e.mail $capture$ cell"), ROW(old."e.mail $capture$ cell"))
  AND (pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'fleet') IS NOT TRUE)
EXECUTE FUNCTION cipherfleet.reverse_plain_4294967295();
ALTER TABLE "My ""Shop"""."or.ders\" ENABLE ALWAYS TRIGGER "~cipherfleet_4294967295_reverse_source", ENABLE ALWAYS TRIGGER "~cipherfleet_4294967295_reverse_insert", ENABLE ALWAYS TRIGGER "~cipherfleet_4294967295_reverse_moved", ENABLE ALWAYS TRIGGER "~cipherfleet_4294967295_reverse_plain_insert", ENABLE ALWAYS TRIGGER "~cipherfleet_4294967295_reverse_plain_update", ENABLE ALWAYS TRIGGER "~cipherfleet_4294967295_reverse_update";
-- undo
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_reverse_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_reverse_moved" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_reverse_plain_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_reverse_plain_update" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_reverse_update" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_reverse_source" ON "My ""Shop"""."or.ders\";
DROP FUNCTION IF EXISTS cipherfleet.reverse_4294967295();
DROP FUNCTION IF EXISTS cipherfleet.reverse_plain_4294967295();
DROP SEQUENCE IF EXISTS cipherfleet.reverse_missed_4294967295;
