CREATE OR REPLACE FUNCTION cipherfleet.shredded_4294967295() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $shredded$
DECLARE
  target text;
  moved text;
BEGIN
  SELECT a.attname INTO target FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
   WHERE c.conrelid = TG_RELID AND c.contypid = 0 AND c.conname = 'cipherfleet_4294967295_cell';
  IF TG_OP = 'DELETE' THEN
    PERFORM set_config('cipherfleet.shredded_4294967295', md5(to_jsonb(OLD) ->> target), true);
    RETURN NULL;
  END IF;
  moved := current_setting('cipherfleet.shredded_4294967295', true);
  IF TG_OP = 'INSERT' AND md5(to_jsonb(NEW) ->> target) = moved THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION 'a write to "%.%" has a cell under a key that was shredded', TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'cipherfleet_4294967295_shredded',
      HINT = 'Nobody could open it. The key is gone for good; the tenant has no other one under this scheme.';
END
$shredded$;
REVOKE ALL ON FUNCTION cipherfleet.shredded_4294967295() FROM PUBLIC;
CREATE OR REPLACE TRIGGER "~cipherfleet_shredded_4294967295_insert" AFTER INSERT ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (pg_catalog.substr(new."e.mail $capture$ cell", 13, 4) OPERATOR(pg_catalog.=) ANY (ARRAY[E'\\x00000003', E'\\x00000007']::pg_catalog.bytea[]))
EXECUTE FUNCTION cipherfleet.shredded_4294967295();
CREATE OR REPLACE TRIGGER "~cipherfleet_shredded_4294967295_update" AFTER UPDATE OF "e.mail $capture$ cell" ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (pg_catalog.substr(new."e.mail $capture$ cell", 13, 4) OPERATOR(pg_catalog.=) ANY (ARRAY[E'\\x00000003', E'\\x00000007']::pg_catalog.bytea[])
  AND pg_catalog.record_image_ne(ROW(new."e.mail $capture$ cell"), ROW(old."e.mail $capture$ cell")))
EXECUTE FUNCTION cipherfleet.shredded_4294967295();
CREATE OR REPLACE TRIGGER "~cipherfleet_shredded_4294967295_delete" AFTER DELETE ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (pg_catalog.substr(old."e.mail $capture$ cell", 13, 4) OPERATOR(pg_catalog.=) ANY (ARRAY[E'\\x00000003', E'\\x00000007']::pg_catalog.bytea[]))
EXECUTE FUNCTION cipherfleet.shredded_4294967295();
ALTER TABLE "My ""Shop"""."or.ders\" ENABLE ALWAYS TRIGGER "~cipherfleet_shredded_4294967295_insert", ENABLE ALWAYS TRIGGER "~cipherfleet_shredded_4294967295_update", ENABLE ALWAYS TRIGGER "~cipherfleet_shredded_4294967295_delete";
-- undo
DROP TRIGGER IF EXISTS "~cipherfleet_shredded_4294967295_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_shredded_4294967295_update" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_shredded_4294967295_delete" ON "My ""Shop"""."or.ders\";
DROP FUNCTION IF EXISTS cipherfleet.shredded_4294967295();
