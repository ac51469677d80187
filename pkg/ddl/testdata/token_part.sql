CREATE INDEX CONCURRENTLY "cipherfleet_token_4294967295_index_4294967295" ON "My ""Shop"""."or.ders\" ("b""idx %s");
-- undo
DROP INDEX CONCURRENTLY IF EXISTS "My ""Shop"""."cipherfleet_token_4294967295_index_4294967295";
