ALTER TABLE "My ""Shop"""."or.ders\" ADD COLUMN "e.mail $capture$ cell" pg_catalog.bytea, ALTER COLUMN "e.mail $capture$ cell" SET STORAGE EXTERNAL;
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" DROP COLUMN "e.mail $capture$ cell";
DROP FUNCTION IF EXISTS cipherfleet.within_4294967295;
