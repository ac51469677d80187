ALTER TABLE "My ""Shop"""."or.ders\" ADD COLUMN "e.mail $capture$ cell" pg_catalog.text;
ALTER TABLE "My ""Shop"""."or.ders\" ADD CONSTRAINT "cipherfleet_4294967295_cell" CHECK ("e.mail $capture$ cell" IS NULL OR ("e.mail $capture$ cell" COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) "e'mail ""x"""::pg_catalog.text) IS NOT TRUE) NOT VALID;
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_cell";
ALTER TABLE "My ""Shop"""."or.ders\" DROP COLUMN "e.mail $capture$ cell";
DROP FUNCTION IF EXISTS cipherfleet.within_4294967295;
