ALTER TABLE "My ""Shop"""."or.ders\" ADD CONSTRAINT "cipherfleet_4294967295_coverage" CHECK ("e'mail ""x""" IS NOT DISTINCT FROM NULL OR "e.mail $capture$ cell" IS NOT NULL) NOT VALID;
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_coverage";
