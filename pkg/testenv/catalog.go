package testenv

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const catalogSQL = `SELECT md5(string_agg(line, E'\n' ORDER BY line)) FROM (
  SELECT concat_ws(' ', 'class', oid, relname, relnatts, relchecks, relhastriggers, relhasrules, reloptions, relacl) AS line FROM pg_class WHERE relpersistence <> 't'
  UNION ALL SELECT concat_ws(' ', 'attribute', attrelid, attnum, attname, atttypid, attnotnull, attisdropped, attstorage, attacl) FROM pg_attribute
  UNION ALL SELECT concat_ws(' ', 'constraint', oid, conname, convalidated) FROM pg_constraint
  UNION ALL SELECT concat_ws(' ', 'trigger', oid, tgname, tgenabled) FROM pg_trigger
  UNION ALL SELECT concat_ws(' ', 'function', oid, proname, prosrc) FROM pg_proc
  UNION ALL SELECT concat_ws(' ', 'schema', oid, nspname, nspacl) FROM pg_namespace
  UNION ALL SELECT concat_ws(' ', 'installation', i) FROM cipherfleet.installation i
  UNION ALL SELECT concat_ws(' ', 'column', c) FROM cipherfleet.columns c
  UNION ALL SELECT concat_ws(' ', 'event', count(*)) FROM cipherfleet.events) all_of_it`

// Catalog is one text that changes with anything anybody creates, alters or drops in the database, or with a value of
// the installation.
func Catalog(t testing.TB, q pg.Querier) string {
	t.Helper()
	return One[string](t, q, catalogSQL)
}
