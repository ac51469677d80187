CREATE INDEX CONCURRENTLY IF NOT EXISTS "cipherfleet_token_4294967295_uncovered_4294967295" ON "My ""Shop"""."or.ders\" ("Tenant", "id;--") WHERE ("b""idx %s" IS NULL) OPERATOR(pg_catalog.=) ("e.mail $capture$ cell" IS DISTINCT FROM NULL);
-- undo
DROP INDEX CONCURRENTLY IF EXISTS "My ""Shop"""."cipherfleet_token_4294967295_uncovered_4294967295";
