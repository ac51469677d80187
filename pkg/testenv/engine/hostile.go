package engine

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// hostile are a database's defaults under which most values are printed, or read, in another way than ours.
func hostile() []string {
	return []string{"DateStyle = 'SQL, DMY'", "IntervalStyle = 'sql_standard'", "extra_float_digits = 0", "TimeZone = 'Asia/Kolkata'",
		"timezone_abbreviations = 'India'", "bytea_output = 'escape'", "default_transaction_isolation = 'repeatable read'", "xmlbinary = 'hex'",
		"xmloption = 'document'", "array_nulls = off", "standard_conforming_strings = off", "quote_all_identifiers = on", "lc_monetary = 'C'",
		"lock_timeout = '1min'", "synchronous_commit = off"}
}

// hostileDatabase has them all, functions that stand in the way, and connections that know no better.
func hostileDatabase(t testing.TB) *testenv.DB {
	t.Helper()
	db := testenv.Database(t)
	name := testenv.One[string](t, db, "SELECT current_database()")
	for _, setting := range hostile() {
		db.Run(t, "ALTER DATABASE "+pg.Ident(name)+" SET "+setting)
	}
	for _, kind := range []string{"text", "bigint", "uuid", "numeric", "timestamptz"} { // a closer match than Postgres' own
		db.Run(t, "CREATE FUNCTION public.format(text, "+kind+") RETURNS text LANGUAGE sql AS $$SELECT 'not yours'$$")
	}
	db = testenv.Open(t, db.URL)
	if style := testenv.One[string](t, db, "SHOW DateStyle"); style != "SQL, DMY" {
		t.Fatalf("the database is not hostile: its DateStyle is %s", style)
	}
	return db
}

// HostileDefaults gives the kit a database under whose defaults most values are printed, or read, in another way than ours.
func HostileDefaults(k *Kit) { k.DB = hostileDatabase(k.T) }

// Pinned makes SQL mean the same whatever the defaults are.
func Pinned(sql string) string { return "BEGIN;\n" + pg.Pinned + ";\n" + sql + ";\nCOMMIT" }
