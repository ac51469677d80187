ALTER TABLE "My ""Shop"""."or.ders\" ADD CONSTRAINT "cipherfleet_4294967295_bare" CHECK (pg_catalog.left("e'mail ""x"""::pg_catalog.text, 14) OPERATOR(pg_catalog.<>) E'\\xf5c1ffffffff') NOT VALID;
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_bare";
