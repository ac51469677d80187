CREATE OR REPLACE FUNCTION cipherfleet.strict_4294967295() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $strict$
BEGIN
  RAISE EXCEPTION 'a write to "%.%" misses the cell of a column that is being encrypted', TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'cipherfleet_4294967295_strict',
      HINT = 'Write the cell in the same statement, in a transaction or by a role whose cipherfleet.writer is client.';
END
$strict$;
REVOKE ALL ON FUNCTION cipherfleet.strict_4294967295() FROM PUBLIC;
CREATE OR REPLACE TRIGGER "~cipherfleet_4294967295_strict_insert" AFTER INSERT ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (NOT (new."e.mail $capture$ cell" IS DISTINCT FROM NULL) AND new."e'mail ""x""" IS DISTINCT FROM NULL AND (pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'fleet') IS NOT TRUE)
EXECUTE FUNCTION cipherfleet.strict_4294967295();
CREATE OR REPLACE TRIGGER "~cipherfleet_4294967295_strict_update" AFTER UPDATE ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (NOT (new."e.mail $capture$ cell" IS DISTINCT FROM NULL) AND new."e'mail ""x""" IS DISTINCT FROM NULL AND (pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'fleet') IS NOT TRUE
  AND pg_catalog.record_image_ne(ROW(new."Tenant", new."id;--", new."e'mail ""x"""), ROW(old."Tenant", old."id;--", old."e'mail ""x""")))
EXECUTE FUNCTION cipherfleet.strict_4294967295();
-- undo
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_strict_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_strict_update" ON "My ""Shop"""."or.ders\";
DROP FUNCTION IF EXISTS cipherfleet.strict_4294967295();
