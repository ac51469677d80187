LOCK TABLE "My ""Shop"""."or.ders\" IN SHARE MODE;
CREATE INDEX "cipherfleet_token_4294967295_index" ON "My ""Shop"""."or.ders\" ("b""idx %s");
-- undo
DROP INDEX IF EXISTS "My ""Shop"""."cipherfleet_token_4294967295_index";
