LOCK TABLE cipherfleet.jobs IN SHARE MODE;
SELECT pg_catalog.set_config('statement_timeout', greatest(1, least(500, extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 500))::bigint::text, true),
 pg_catalog.set_config('lock_timeout', '0', true);
LOCK TABLE "My ""Shop"""."or.ders\" IN ACCESS EXCLUSIVE MODE;
SELECT pg_catalog.set_config('statement_timeout', pg_catalog.current_setting('cipherfleet.before_statement_timeout'), true),
 pg_catalog.set_config('lock_timeout', greatest(1, least(500, extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 500))::bigint::text, true);
DO $cipherfleet$
DECLARE
  relation oid :=  E'"My ""Shop"""."or.ders\\"'::pg_catalog.regclass;
  missing text;
BEGIN
  IF NOT EXISTS (SELECT FROM cipherfleet.columns c
      JOIN pg_catalog.pg_attribute p ON p.attrelid = c.relid AND p.attnum = c.source_attnum AND p.attname = 'e''mail "x"' AND NOT p.attisdropped
      JOIN pg_catalog.pg_attribute s ON s.attrelid = c.relid AND s.attnum = c.target_attnum AND s.attname = 'e.mail $capture$ cell' AND NOT s.attisdropped
     WHERE c.id = 4294967295 AND c.relid = relation AND c.retired_at IS NULL) THEN
    missing := 'in this database column number 4294967295 of Cipherfleet is not the one that this was written for';
  ELSIF (SELECT e.phase FROM cipherfleet.events e WHERE e.table_name =  E'My "Shop".or.ders\\' AND e.column_name = 'e''mail "x"' ORDER BY e.id DESC LIMIT 1) IS DISTINCT FROM 'cut-over' THEN
    missing := 'the column is not cut over';
  ELSIF EXISTS (SELECT FROM cipherfleet.jobs j WHERE j.relid = relation AND j.state NOT IN ('done', 'failed', 'cancelled')) THEN
    missing := 'a job over the table has not ended';
  ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = relation AND k.contype = 'c' AND k.conname = 'cipherfleet_4294967295_coverage' AND k.convalidated
      AND pg_catalog.pg_get_expr(k.conbin, k.conrelid) IN (pg_catalog.format('((%I IS NULL) OR (%I IS NOT NULL))', 'e''mail "x"', 'e.mail $capture$ cell'), pg_catalog.format('((%I IS NOT DISTINCT FROM NULL) OR (%I IS NOT NULL))', 'e''mail "x"', 'e.mail $capture$ cell'))) THEN
    missing := 'constraint cipherfleet_4294967295_coverage is gone, altered or not validated: nothing proves that every plaintext has its cell';
  ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = relation AND k.contype = 'c' AND k.conname = 'cipherfleet_4294967295_cell' AND k.convalidated) THEN
    missing := 'constraint cipherfleet_4294967295_cell is gone or not validated: nothing proves that the cells are cells';
  END IF;
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = missing,
      MESSAGE = 'the plaintext is not dropped: ' OPERATOR(pg_catalog.||) missing,
      HINT = 'nothing was changed; cipherfleet status shows where the column stands, and cipherfleet drop writes this anew';
  END IF;
END
$cipherfleet$;
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_reverse_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_reverse_moved" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_reverse_plain_insert" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_reverse_plain_update" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_reverse_update" ON "My ""Shop"""."or.ders\";
DROP TRIGGER IF EXISTS "~cipherfleet_4294967295_reverse_source" ON "My ""Shop"""."or.ders\";
DROP FUNCTION IF EXISTS cipherfleet.reverse_4294967295();
DROP FUNCTION IF EXISTS cipherfleet.reverse_plain_4294967295();
DROP SEQUENCE IF EXISTS cipherfleet.reverse_missed_4294967295;
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT "cipherfleet_4294967295_coverage", DROP COLUMN "e'mail ""x""";
-- undo
SELECT pg_catalog.set_config('statement_timeout', greatest(1, least(500, extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 500))::bigint::text, true),
 pg_catalog.set_config('lock_timeout', '0', true);
LOCK TABLE "My ""Shop"""."or.ders\" IN ACCESS EXCLUSIVE MODE;
SELECT pg_catalog.set_config('statement_timeout', pg_catalog.current_setting('cipherfleet.before_statement_timeout'), true),
 pg_catalog.set_config('lock_timeout', greatest(1, least(500, extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 500))::bigint::text, true);
ALTER TABLE "My ""Shop"""."or.ders\" ADD COLUMN "e'mail ""x""" character varying(20) COLLATE pg_catalog."C";
COMMENT ON COLUMN "My ""Shop"""."or.ders\"."e'mail ""x""" IS 'Empty: what was here before it was dropped does not come back by itself; it can be decrypted from the cells.';
