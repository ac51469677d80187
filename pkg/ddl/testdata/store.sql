ALTER TABLE "My ""Shop"""."or.ders\" ALTER COLUMN "e.mail $capture$ cell" SET STORAGE EXTERNAL;
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" ALTER COLUMN "e.mail $capture$ cell" SET STORAGE EXTENDED;
