package pg

import (
	"fmt"
	"time"
)

// Pinned pins, for the present transaction, every setting that changes how Postgres prints or reads a value, so that
// bytes survive whatever the database's or the role's defaults are. It is one statement without parameters, and it
// works through a pooler, which drops start-up settings. search_path is not pinned: users' triggers rely on theirs.
const Pinned = `SELECT pg_catalog.set_config('datestyle','ISO, YMD',true), pg_catalog.set_config('intervalstyle','postgres',true),
 pg_catalog.set_config('extra_float_digits','3',true), pg_catalog.set_config('timezone','UTC',true), pg_catalog.set_config('bytea_output','hex',true),
 pg_catalog.set_config('client_encoding','UTF8',true), pg_catalog.set_config('lc_monetary','C',true), pg_catalog.set_config('xmlbinary','base64',true),
 pg_catalog.set_config('xmloption','content',true), pg_catalog.set_config('array_nulls','on',true), pg_catalog.set_config('standard_conforming_strings','on',true), pg_catalog.set_config('row_security','off',true)`

// PinnedFor is [Pinned], and ends a statement of the transaction that takes longer than timeout.
func PinnedFor(timeout time.Duration) string {
	return fmt.Sprintf("%s, pg_catalog.set_config('statement_timeout','%d',true)", Pinned, timeout.Milliseconds())
}

// Durable makes a commit synchronous whatever the database's default is, and leaves a stricter one alone.
const Durable = `SELECT pg_catalog.set_config('synchronous_commit', CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'
 THEN 'on' ELSE pg_catalog.current_setting('synchronous_commit') END, true)`
