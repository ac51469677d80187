package pg

// Pinned pins, for the present transaction, every setting that changes how Postgres prints or reads a value, so that
// bytes survive whatever the database's or the role's defaults are. It is one statement without parameters, and it
// works through a pooler, which drops start-up settings. search_path is not pinned: users' triggers rely on theirs.
const Pinned = `SELECT pg_catalog.set_config('datestyle','ISO, YMD',true), pg_catalog.set_config('intervalstyle','postgres',true),
 pg_catalog.set_config('extra_float_digits','3',true), pg_catalog.set_config('timezone','UTC',true), pg_catalog.set_config('bytea_output','hex',true),
 pg_catalog.set_config('client_encoding','UTF8',true), pg_catalog.set_config('lc_monetary','C',true), pg_catalog.set_config('xmlbinary','base64',true),
 pg_catalog.set_config('xmloption','content',true), pg_catalog.set_config('array_nulls','on',true), pg_catalog.set_config('standard_conforming_strings','on',true), pg_catalog.set_config('row_security','off',true)`
