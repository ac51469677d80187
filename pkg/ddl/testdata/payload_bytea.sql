ALTER TABLE "My ""Shop"""."or.ders\" ADD COLUMN "e.mail $capture$ cell" pg_catalog.bytea;
ALTER TABLE "My ""Shop"""."or.ders\" ADD CONSTRAINT "cipherfleet_4294967295_cell" CHECK ("e.mail $capture$ cell" IS NULL OR ("e.mail $capture$ cell" OPERATOR(pg_catalog.=) pg_catalog.convert_to("e'mail ""x"""::pg_catalog.text, 'UTF8')) IS NOT TRUE) NOT VALID;
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_cell";
ALTER TABLE "My ""Shop"""."or.ders\" DROP COLUMN "e.mail $capture$ cell";
DROP FUNCTION IF EXISTS cipherfleet.within_4294967295;
