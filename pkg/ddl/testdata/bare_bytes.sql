ALTER TABLE "My ""Shop"""."or.ders\" ADD CONSTRAINT "cipherfleet_4294967295_bare" CHECK (pg_catalog.substr("e'mail ""x""", 1, 6) OPERATOR(pg_catalog.<>) E'\\xf5c1ffffffff'::pg_catalog.bytea) NOT VALID;
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_bare";
