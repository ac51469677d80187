CREATE OR REPLACE FUNCTION cipherfleet.bound_4294967295() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET bytea_output = 'hex' AS $capture$ -- version 2
DECLARE
  sealed text;
  anew bool;
  differs text;
  moved bool;
  writer text := coalesce(current_setting('cipherfleet.writer', true), '');
  target text;
  missed bigint;
BEGIN
  SELECT a.attname INTO target FROM pg_catalog.pg_constraint c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
   WHERE c.conrelid = TG_RELID AND c.contypid = 0 AND c.conname = 'cipherfleet_4294967295_cell';
  IF target IS NULL THEN
    RETURN NEW;
  END IF;
  EXECUTE format('SELECT to_jsonb(($1).%1$I) #>> ''{}'', record_image_ne(ROW(($1).%1$I), ROW(($2).%1$I))', target) INTO sealed, anew USING NEW, OLD;
  SELECT string_agg(format(CASE b.tag WHEN 'n' THEN '($1).%1$I IS DISTINCT FROM ($2).%1$I' ELSE 'record_image_ne(ROW(($1).%1$I), ROW(($2).%1$I))' END, a.attname), ' OR ') INTO differs
    FROM cipherfleet.schemes s JOIN cipherfleet.columns c ON c.id = s.column_id
    CROSS JOIN LATERAL unnest(s.bound_attnums, string_to_array(s.bound_tags, NULL)) AS b (num, tag) JOIN pg_attribute a ON a.attrelid = c.relid AND a.attnum = b.num
   WHERE s.column_id = 4294967295 AND substr(int4send(s.number), 3) = CASE WHEN starts_with(sealed, '\x') THEN decode(substr(sealed, 15, 4), 'hex')
     ELSE substr(decode(translate(substr(sealed, 13, 4), '-_', '+/'), 'base64'), 1, 2) END;
  IF differs IS NOT NULL THEN
    EXECUTE 'SELECT ' || differs INTO moved USING NEW, OLD;
  END IF;
  IF moved IS NOT TRUE THEN
    RETURN NEW;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = TG_RELID AND g.tgname = '~cipherfleet_4294967295_update') THEN
    IF anew AND (writer NOT IN ('fleet', 'rotation') OR current_setting('cipherfleet.rebinds', true) = 'on')
      OR writer = '' AND current_setting('session_replication_role') = 'replica' THEN
      RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a write to "%.%" changes a column that a cell is bound to, and leaves the cell as it is', TG_TABLE_SCHEMA, TG_TABLE_NAME
      USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'cipherfleet_4294967295_bound',
        HINT = 'Nobody could open it any more. Write the cell in the same statement, or let the client rebind the row.';
  END IF;
  IF writer NOT IN ('fleet', 'rotation') AND EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = TG_RELID AND g.tgname = '~cipherfleet_4294967295_strict_update' AND g.tgenabled IN ('O', 'A')) THEN
    RAISE EXCEPTION 'a write to "%.%" misses the cell of a column that is being encrypted', TG_TABLE_SCHEMA, TG_TABLE_NAME
      USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'cipherfleet_4294967295_strict',
        HINT = 'Write the cell in the same statement, in a transaction or by a role whose cipherfleet.writer is client.';
  END IF;
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
REVOKE ALL ON FUNCTION cipherfleet.bound_4294967295() FROM PUBLIC;
CREATE OR REPLACE TRIGGER "~cipherfleet_bound_4294967295" BEFORE UPDATE ON "My ""Shop"""."or.ders\" FOR EACH ROW
WHEN (pg_catalog.record_image_ne(ROW(new."Tenant", new."""slug"" $capture$"), ROW(old."Tenant", old."""slug"" $capture$")) AND new."e.mail $capture$ cell" IS DISTINCT FROM NULL
  AND (pg_catalog.current_setting('cipherfleet.writer', true) OPERATOR(pg_catalog.=) 'client' AND pg_catalog.record_image_ne(ROW(new."e.mail $capture$ cell"), ROW(old."e.mail $capture$ cell"))) IS NOT TRUE)
EXECUTE FUNCTION cipherfleet.bound_4294967295();
ALTER TABLE "My ""Shop"""."or.ders\" ENABLE ALWAYS TRIGGER "~cipherfleet_bound_4294967295";
-- undo
DROP TRIGGER IF EXISTS "~cipherfleet_bound_4294967295" ON "My ""Shop"""."or.ders\";
DROP FUNCTION IF EXISTS cipherfleet.bound_4294967295();
