-- Makes a table of "two?lines"; DROP TABLE x.
BEGIN;
DO $a$
BEGIN
  CREATE TABLE t ("a;--" int);
END
$a$;
COMMENT ON TABLE t IS 'it''s; --small';
COMMIT;
=====
-- Makes a table of "two?lines"; DROP TABLE x.
BEGIN;
DROP TABLE t;
COMMIT;
=====
