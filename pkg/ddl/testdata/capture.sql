CREATE SEQUENCE IF NOT EXISTS cipherfleet.missed_4294967295;
CREATE OR REPLACE FUNCTION cipherfleet.capture_4294967295() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $capture$
DECLARE
  target pg_catalog.text;
BEGIN
  SELECT a.attname INTO target FROM pg_catalog.pg_constraint c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
   WHERE c.conrelid = TG_RELID AND c.contypid = 0 AND c.conname = 'cipherfleet_4294967295_cell';
  IF FOUND THEN
    NEW := pg_catalog.jsonb_populate_record(NEW, pg_catalog.jsonb_build_object(target, NULL));
    PERFORM pg_catalog.nextval(s.id) FROM pg_catalog.to_regclass('cipherfleet.missed_4294967295') AS s(id) WHERE s.id IS NOT NULL;
  END IF;
  RETURN NEW;
END
$capture$;
REVOKE ALL ON FUNCTION cipherfleet.capture_4294967295() FROM PUBLIC;
CREATE OR REPLACE TRIGGER "~cipherfleet_4294967295_insert" BEFORE INSERT ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (new."e.mail $capture$ cell" IS NOT NULL
  AND (pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'client') IS NOT TRUE)
EXECUTE FUNCTION cipherfleet.capture_4294967295();
CREATE OR REPLACE TRIGGER "~cipherfleet_4294967295_update" BEFORE UPDATE ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (new."e.mail $capture$ cell" IS NOT NULL
  AND (pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'client') IS NOT TRUE
  AND pg_catalog.record_image_ne(ROW(new."Tenant", new."id;--", new."e'mail ""x"""), ROW(old."Tenant", old."id;--", old."e'mail ""x""")))
EXECUTE FUNCTION cipherfleet.capture_4294967295();
ALTER TABLE "My ""Shop"""."or.ders\" ENABLE ALWAYS TRIGGER "~cipherfleet_4294967295_insert", ENABLE ALWAYS TRIGGER "~cipherfleet_4294967295_update";
-- undo
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_update" ON "My ""Shop"""."or.ders\";
DROP FUNCTION IF EXISTS cipherfleet.capture_4294967295();
DROP SEQUENCE IF EXISTS cipherfleet.missed_4294967295;
