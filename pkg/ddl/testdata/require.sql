ALTER TABLE "My ""Shop"""."or.ders\" ALTER COLUMN "e.mail $capture$ cell" SET NOT NULL;
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_present";
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_present";
ALTER TABLE "My ""Shop"""."or.ders\" ALTER COLUMN "e.mail $capture$ cell" DROP NOT NULL;
