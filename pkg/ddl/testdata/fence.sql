ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_schemes_next";
ALTER TABLE "My ""Shop"""."or.ders\" ADD CONSTRAINT "cipherfleet_4294967295_schemes_next" CHECK ("e.mail $capture$ cell" IS NULL OR (pg_catalog.substr("e.mail $capture$ cell", 7, 2) OPERATOR(pg_catalog.>) E'\\x0002'::pg_catalog.bytea AND pg_catalog.substr("e.mail $capture$ cell", 7, 2) OPERATOR(pg_catalog.<>) E'\\x0009'::pg_catalog.bytea)) NOT VALID;
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_schemes_next";
