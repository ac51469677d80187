CREATE INDEX CONCURRENTLY IF NOT EXISTS "cipherfleet_4294967295_uncovered_4294967295" ON "My ""Shop"""."or.ders\" ("Tenant", "id;--") WHERE ("e.mail $capture$ cell" IS NULL) OPERATOR(pg_catalog.=) ("e'mail ""x""" IS DISTINCT FROM NULL);
-- undo
DROP INDEX CONCURRENTLY IF EXISTS "My ""Shop"""."cipherfleet_4294967295_uncovered_4294967295";
