-- capture, undone
ALTER TABLE ONLY "My ""Shop"""."or.ders\" ALTER COLUMN "e'mail ""x""" DROP DEFAULT;
ALTER TABLE "My ""Shop"""."or.ders\" ADD CONSTRAINT "cipherfleet_4294967295_present" CHECK ("e.mail $capture$ cell" IS NOT NULL) NOT VALID;
ALTER TABLE "My ""Shop"""."or.ders\" ALTER COLUMN "e'mail ""x""" DROP NOT NULL;
GRANT SELECT ("e.mail $capture$ cell") ON TABLE "My ""Shop"""."or.ders\" TO PUBLIC;
GRANT UPDATE ("e.mail $capture$ cell") ON TABLE "My ""Shop"""."or.ders\" TO "pg_read_all_data" WITH GRANT OPTION;
COMMENT ON COLUMN "My ""Shop"""."or.ders\"."e.mail $capture$ cell" IS E'how to \\reach ''em';
ALTER TABLE "My ""Shop"""."or.ders\" RENAME COLUMN "e'mail ""x""" TO "e'mail ""x""_plaintext";
ALTER TABLE "My ""Shop"""."or.ders\" RENAME COLUMN "e.mail $capture$ cell" TO "e'mail ""x""";
-- reverse capture
-- undo
-- reverse capture, undone
ALTER TABLE "My ""Shop"""."or.ders\" RENAME COLUMN "e'mail ""x""" TO "e.mail $capture$ cell";
ALTER TABLE "My ""Shop"""."or.ders\" RENAME COLUMN "e'mail ""x""_plaintext" TO "e'mail ""x""";
ALTER TABLE ONLY "My ""Shop"""."or.ders\" ALTER COLUMN "e'mail ""x""" SET DEFAULT 'a''b'::text;
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_present";
ALTER TABLE "My ""Shop"""."or.ders\" ALTER COLUMN "e.mail $capture$ cell" DROP NOT NULL;
ALTER TABLE "My ""Shop"""."or.ders\" ALTER COLUMN "e'mail ""x""" SET NOT NULL;
REVOKE SELECT ("e.mail $capture$ cell") ON TABLE "My ""Shop"""."or.ders\" FROM PUBLIC;
REVOKE UPDATE ("e.mail $capture$ cell") ON TABLE "My ""Shop"""."or.ders\" FROM "pg_read_all_data";
COMMENT ON COLUMN "My ""Shop"""."or.ders\"."e.mail $capture$ cell" IS 'cells';
-- capture
-- strict
