CREATE INDEX CONCURRENTLY IF NOT EXISTS "cipherfleet_4294967295_reverse_4294967295" ON "My ""Shop"""."or.ders\" ("Tenant", "id;--") WHERE "e.mail $capture$ cell" IS NOT NULL AND "e'mail ""x""" IS NOT DISTINCT FROM NULL;
-- undo
DROP INDEX CONCURRENTLY IF EXISTS "My ""Shop"""."cipherfleet_4294967295_reverse_4294967295";
