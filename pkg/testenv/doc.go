// Package testenv gives a test the real servers it needs: a database of its own in Postgres, a NATS of its own, a
// receiver for traces. It is imported by tests only; a missing server fails the test, it never skips it.
//
// A *suite* is one test binary: it shares one private, fast Postgres, started when the first test asks and stopped by
// [Main], which every package that uses a database calls from its TestMain. A *template* is a database with schema
// cipherfleet installed, made once per suite; [Database] clones it, [EmptyDatabase] clones nothing. What must survive
// a crash, or be crashed, comes from [DurablePostgres] and [OwnNATS] and belongs to one test.
//
// CIPHERFLEET_TEST_DATABASE_URL (a superuser's URL) and CIPHERFLEET_TEST_NATS_URL point a suite at servers that run
// already. DATABASE_URL and NATS_URL are never read: what they name may be somebody's production.
package testenv
