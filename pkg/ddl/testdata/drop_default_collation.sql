LOCK TABLE cipherfleet.jobs IN SHARE MODE;
SELECT pg_catalog.set_config('statement_timeout', greatest(1, least(500, extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 500))::bigint::text, true),
 pg_catalog.set_config('lock_timeout', '0', true);
LOCK TABLE "public"."users" IN ACCESS EXCLUSIVE MODE;
SELECT pg_catalog.set_config('statement_timeout', pg_catalog.current_setting('cipherfleet.before_statement_timeout'), true),
 pg_catalog.set_config('lock_timeout', greatest(1, least(500, extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 500))::bigint::text, true);
DO $cipherfleet$
DECLARE
  relation oid := '"public"."users"'::pg_catalog.regclass;
  missing text;
BEGIN
  IF NOT EXISTS (SELECT FROM cipherfleet.columns c
      JOIN pg_catalog.pg_attribute p ON p.attrelid = c.relid AND p.attnum = c.source_attnum AND p.attname = 'email' AND NOT p.attisdropped
      JOIN pg_catalog.pg_attribute s ON s.attrelid = c.relid AND s.attnum = c.target_attnum AND s.attname = 'cell' AND NOT s.attisdropped
     WHERE c.id = 7 AND c.relid = relation AND c.retired_at IS NULL) THEN
    missing := 'in this database column number 7 of Cipherfleet is not the one that this was written for';
  ELSIF (SELECT e.phase FROM cipherfleet.events e WHERE e.table_name = 'public.users' AND e.column_name = 'email' ORDER BY e.id DESC LIMIT 1) IS DISTINCT FROM 'cut-over' THEN
    missing := 'the column is not cut over';
  ELSIF EXISTS (SELECT FROM cipherfleet.jobs j WHERE j.relid = relation AND j.state NOT IN ('done', 'failed', 'cancelled')) THEN
    missing := 'a job over the table has not ended';
  ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = relation AND k.contype = 'c' AND k.conname = 'cipherfleet_7_coverage' AND k.convalidated
      AND pg_catalog.pg_get_expr(k.conbin, k.conrelid) IN (pg_catalog.format('((%I IS NULL) OR (%I IS NOT NULL))', 'email', 'cell'), pg_catalog.format('((%I IS NOT DISTINCT FROM NULL) OR (%I IS NOT NULL))', 'email', 'cell'))) THEN
    missing := 'constraint cipherfleet_7_coverage is gone, altered or not validated: nothing proves that every plaintext has its cell';
  ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = relation AND k.contype = 'c' AND k.conname = 'cipherfleet_7_cell' AND k.convalidated) THEN
    missing := 'constraint cipherfleet_7_cell is gone or not validated: nothing proves that the cells are cells';
  END IF;
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = missing,
      MESSAGE = 'the plaintext is not dropped: ' OPERATOR(pg_catalog.||) missing,
      HINT = 'nothing was changed; cipherfleet status shows where the column stands, and cipherfleet drop writes this anew';
  END IF;
END
$cipherfleet$;
DROP TRIGGER IF EXISTS "~cipherfleet_7_reverse_insert" ON "public"."users";
DROP TRIGGER IF EXISTS "~cipherfleet_7_reverse_moved" ON "public"."users";
DROP TRIGGER IF EXISTS "~cipherfleet_7_reverse_plain_insert" ON "public"."users";
DROP TRIGGER IF EXISTS "~cipherfleet_7_reverse_plain_update" ON "public"."users";
DROP TRIGGER IF EXISTS "~cipherfleet_7_reverse_update" ON "public"."users";
DROP TRIGGER IF EXISTS "~cipherfleet_7_reverse_source" ON "public"."users";
DROP FUNCTION IF EXISTS cipherfleet.reverse_7();
DROP FUNCTION IF EXISTS cipherfleet.reverse_plain_7();
DROP SEQUENCE IF EXISTS cipherfleet.reverse_missed_7;
ALTER TABLE "public"."users" DROP CONSTRAINT "cipherfleet_7_coverage", DROP COLUMN "email";
-- undo
SELECT pg_catalog.set_config('statement_timeout', greatest(1, least(500, extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 500))::bigint::text, true),
 pg_catalog.set_config('lock_timeout', '0', true);
LOCK TABLE "public"."users" IN ACCESS EXCLUSIVE MODE;
SELECT pg_catalog.set_config('statement_timeout', pg_catalog.current_setting('cipherfleet.before_statement_timeout'), true),
 pg_catalog.set_config('lock_timeout', greatest(1, least(500, extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 500))::bigint::text, true);
ALTER TABLE "public"."users" ADD COLUMN "email" character varying(20);
COMMENT ON COLUMN "public"."users"."email" IS 'Empty: what was here before it was dropped does not come back by itself; it can be decrypted from the cells.';
