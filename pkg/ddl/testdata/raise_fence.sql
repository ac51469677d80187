ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_schemes";
ALTER TABLE "My ""Shop"""."or.ders\" RENAME CONSTRAINT "cipherfleet_4294967295_schemes_next" TO "cipherfleet_4294967295_schemes";
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_schemes";
