SELECT pg_catalog.set_config('cipherfleet.before_search_path', pg_catalog.current_setting('search_path'), true),
 pg_catalog.set_config('cipherfleet.before_lock_timeout', pg_catalog.current_setting('lock_timeout'), true),
 pg_catalog.set_config('cipherfleet.before_statement_timeout', pg_catalog.current_setting('statement_timeout'), true),
 pg_catalog.set_config('cipherfleet.before_standard_conforming_strings', pg_catalog.current_setting('standard_conforming_strings'), true),
 pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
 pg_catalog.set_config('lock_timeout', '2s', true);
-- undo
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('cipherfleet.before_search_path'), true),
 pg_catalog.set_config('lock_timeout', pg_catalog.current_setting('cipherfleet.before_lock_timeout'), true),
 pg_catalog.set_config('statement_timeout', pg_catalog.current_setting('cipherfleet.before_statement_timeout'), true),
 pg_catalog.set_config('standard_conforming_strings', pg_catalog.current_setting('cipherfleet.before_standard_conforming_strings'), true);
