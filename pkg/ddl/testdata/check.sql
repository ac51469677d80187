ALTER TABLE "My ""Shop"""."or.ders\" ADD CONSTRAINT "cipherfleet_4294967295_cell" CHECK ("e.mail $capture$ cell" IS NULL OR (pg_catalog.octet_length("e.mail $capture$ cell") OPERATOR(pg_catalog.>=) 32 AND pg_catalog.substr("e.mail $capture$ cell", 1, 6) OPERATOR(pg_catalog.=) E'\\xf5c1ffffffff'::pg_catalog.bytea)) NOT VALID;
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_cell";
