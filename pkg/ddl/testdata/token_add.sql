ALTER TABLE "My ""Shop"""."or.ders\" ADD COLUMN "b""idx %s" pg_catalog.bytea;
ALTER TABLE "My ""Shop"""."or.ders\" ADD CONSTRAINT "cipherfleet_token_4294967295" CHECK ("b""idx %s" IS NULL OR pg_catalog.octet_length("b""idx %s") OPERATOR(pg_catalog.=) 16) NOT VALID;
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" DROP COLUMN IF EXISTS "b""idx %s";
