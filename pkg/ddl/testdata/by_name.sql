-- capture, undone
ALTER TABLE ONLY "My ""Shop"""."or.ders\" ALTER COLUMN "e'mail ""x""" SET DEFAULT NULL;
-- reverse capture
-- undo
-- reverse capture, undone
ALTER TABLE ONLY "My ""Shop"""."or.ders\" ALTER COLUMN "e'mail ""x""" DROP DEFAULT;
-- capture
