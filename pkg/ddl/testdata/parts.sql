SELECT pg_catalog.concat('table') AS part,
  pg_catalog.concat_ws(' ', c.oid, c.relnamespace, c.relname, c.relkind) AS state,
  pg_catalog.concat_ws('.', c.relnamespace::pg_catalog.regnamespace, c.relname) AS words
 FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
UNION ALL SELECT 'root',
  pg_catalog.concat_ws(' ', c.oid, c.relnamespace, c.relname, c.relkind),
  pg_catalog.concat_ws('.', c.relnamespace::pg_catalog.regnamespace, c.relname)
 FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.pg_partition_root($1::pg_catalog.oid)
UNION ALL SELECT pg_catalog.concat('column ', a.attname),
  pg_catalog.concat_ws(' ', a.attnum, a.atttypid, a.atttypmod, a.attcollation, a.attnotnull, a.attgenerated),
  pg_catalog.concat_ws(' ', 'number', a.attnum, pg_catalog.format_type(a.atttypid, a.atttypmod), 'collation', a.attcollation)
 FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
  AND a.attname OPERATOR(pg_catalog.=) ANY (ARRAY['e''mail "x"', 'e.mail $capture$ cell', 'email', 'cell', 'Tenant', 'id;--']::pg_catalog.name[])
UNION ALL SELECT 'key index', 'usable', 'usable'
 WHERE EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
  AND i.indisunique AND i.indisvalid AND i.indislive AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
  AND i.indnkeyatts OPERATOR(pg_catalog.=) 2
  AND ARRAY(SELECT a.attnum FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
   AND a.attname OPERATOR(pg_catalog.=) ANY (ARRAY['Tenant', 'id;--']::pg_catalog.name[])) OPERATOR(pg_catalog.<@) (i.indkey::pg_catalog.int2[])[0:1])
UNION ALL SELECT pg_catalog.concat('check ', k.conname),
  pg_catalog.concat_ws(' ', k.convalidated, k.conkey, pg_catalog.md5(k.conbin::pg_catalog.text)),
  pg_catalog.concat_ws(' ', CASE WHEN k.convalidated THEN 'validated' ELSE 'not validated' END, 'on column number', k.conkey)
 FROM pg_catalog.pg_constraint k WHERE k.conrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND k.contypid OPERATOR(pg_catalog.=) 0
  AND k.conname OPERATOR(pg_catalog.=) ANY (ARRAY['cipherfleet_4294967295_cell', 'cipherfleet_7_cell']::pg_catalog.name[])
UNION ALL SELECT pg_catalog.concat('trigger ', g.tgname),
  pg_catalog.concat_ws(' ', g.tgenabled, g.tgtype, pg_catalog.md5(g.tgqual::pg_catalog.text), (SELECT pg_catalog.md5(pg_catalog.concat_ws(' ', f.prolang, f.prosecdef, f.provolatile, f.proisstrict, f.proargtypes, f.prorettype, f.proconfig, f.prosrc)) FROM pg_catalog.pg_proc f WHERE f.oid OPERATOR(pg_catalog.=) g.tgfoid)),
  CASE WHEN g.tgenabled OPERATOR(pg_catalog.=) 'A' THEN 'always enabled' WHEN g.tgenabled OPERATOR(pg_catalog.=) 'D' THEN 'disabled' ELSE 'enabled for some roles of replication only' END
 FROM pg_catalog.pg_trigger g WHERE g.tgrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND g.tgname OPERATOR(pg_catalog.>=) '~cipherfleet_'
  AND g.tgtype OPERATOR(pg_catalog.&) 3::pg_catalog.int2 OPERATOR(pg_catalog.=) 3 AND g.tgtype OPERATOR(pg_catalog.&) 20::pg_catalog.int2 OPERATOR(pg_catalog.<>) 0
UNION ALL SELECT pg_catalog.concat('function ', f.proname), pg_catalog.md5(pg_catalog.concat_ws(' ', f.prolang, f.prosecdef, f.provolatile, f.proisstrict, f.proargtypes, f.prorettype, f.proconfig, f.prosrc)), 'as it was made'
 FROM pg_catalog.pg_proc f WHERE f.pronamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('cipherfleet')::pg_catalog.oid
  AND f.proname OPERATOR(pg_catalog.=) ANY (ARRAY['misses_4294967295', 'misses_insert_4294967295', 'misses_7', 'misses_insert_7']::pg_catalog.name[])
  AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid);
