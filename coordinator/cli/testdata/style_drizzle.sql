-- Makes a table of "two?lines"; DROP TABLE x.
DO $a$
BEGIN
  CREATE TABLE t ("a;--" int);
END
$a$;
--> statement-breakpoint
COMMENT ON TABLE t IS 'it''s; --small';
=====
-- Makes a table of "two?lines"; DROP TABLE x.
BEGIN;
DROP TABLE t;
COMMIT;
=====
