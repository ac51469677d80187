-- read, sparse false, lower bound false, upper bound false
SELECT t."id", t.xmin, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, CASE WHEN t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL THEN t."secret" END FROM ONLY "public"."items" t ORDER BY t."id" LIMIT $1;

-- read, sparse false, lower bound true, upper bound false
SELECT t."id", t.xmin, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, CASE WHEN t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL THEN t."secret" END FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 ORDER BY t."id" LIMIT $2;

-- read, sparse false, lower bound false, upper bound true
SELECT t."id", t.xmin, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, CASE WHEN t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL THEN t."secret" END FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".<=) $1 ORDER BY t."id" LIMIT $2;

-- read, sparse false, lower bound true, upper bound true
SELECT t."id", t.xmin, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, CASE WHEN t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL THEN t."secret" END FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 AND t."id" OPERATOR("pg_catalog".<=) $2 ORDER BY t."id" LIMIT $3;

-- read, sparse true, lower bound false, upper bound false
SELECT t."id", t.xmin, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret" FROM ONLY "public"."items" t WHERE (t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL) ORDER BY t."id" LIMIT $1;

-- read, sparse true, lower bound true, upper bound false
SELECT t."id", t.xmin, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret" FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 AND (t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL) ORDER BY t."id" LIMIT $2;

-- read, sparse true, lower bound false, upper bound true
SELECT t."id", t.xmin, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret" FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".<=) $1 AND (t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL) ORDER BY t."id" LIMIT $2;

-- read, sparse true, lower bound true, upper bound true
SELECT t."id", t.xmin, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret" FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 AND t."id" OPERATOR("pg_catalog".<=) $2 AND (t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL) ORDER BY t."id" LIMIT $3;

-- update, lower bound false, skip locked false, look false
UPDATE ONLY "public"."items" AS t SET "secret_plaintext" = v.c0 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY AS v(k0, x, c0, n) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 RETURNING v.n, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret_plaintext";

-- update, lower bound false, skip locked true, look false
WITH v AS MATERIALIZED (SELECT v.k0, v.x, v.c0, v.n FROM ONLY "public"."items" AS t, ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY AS v(k0, x, c0, n) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 FOR NO KEY UPDATE OF t SKIP LOCKED) UPDATE ONLY "public"."items" AS t SET "secret_plaintext" = v.c0 FROM v WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 RETURNING v.n, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret_plaintext";

-- update, lower bound false, skip locked false, look true
UPDATE ONLY "public"."items" AS t SET "secret_plaintext" = v.c0 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY AS v(k0, x, c0, n) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 RETURNING v.n, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret_plaintext";

-- update, lower bound false, skip locked true, look true
WITH v AS MATERIALIZED (SELECT v.k0, v.x, v.c0, v.n FROM ONLY "public"."items" AS t, ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY AS v(k0, x, c0, n) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 FOR NO KEY UPDATE OF t SKIP LOCKED) UPDATE ONLY "public"."items" AS t SET "secret_plaintext" = v.c0 FROM v WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 RETURNING v.n, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret_plaintext";

-- update, lower bound true, skip locked false, look false
UPDATE ONLY "public"."items" AS t SET "secret_plaintext" = v.c0 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY AS v(k0, x, c0, n) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 AND t."id" OPERATOR("pg_catalog".>) $5 RETURNING v.n, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret_plaintext";

-- update, lower bound true, skip locked true, look false
WITH v AS MATERIALIZED (SELECT v.k0, v.x, v.c0, v.n FROM ONLY "public"."items" AS t, ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY AS v(k0, x, c0, n) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 AND t."id" OPERATOR("pg_catalog".>) $5 FOR NO KEY UPDATE OF t SKIP LOCKED) UPDATE ONLY "public"."items" AS t SET "secret_plaintext" = v.c0 FROM v WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 AND t."id" OPERATOR("pg_catalog".>) $5 RETURNING v.n, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret_plaintext";

-- update, lower bound true, skip locked false, look true
UPDATE ONLY "public"."items" AS t SET "secret_plaintext" = v.c0 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY AS v(k0, x, c0, n) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 AND t."id" OPERATOR("pg_catalog".>) $5 RETURNING v.n, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret_plaintext";

-- update, lower bound true, skip locked true, look true
WITH v AS MATERIALIZED (SELECT v.k0, v.x, v.c0, v.n FROM ONLY "public"."items" AS t, ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY AS v(k0, x, c0, n) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 AND t."id" OPERATOR("pg_catalog".>) $5 FOR NO KEY UPDATE OF t SKIP LOCKED) UPDATE ONLY "public"."items" AS t SET "secret_plaintext" = v.c0 FROM v WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 AND t."id" OPERATOR("pg_catalog".>) $5 RETURNING v.n, t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret_plaintext";

-- lock
SELECT t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."id", t."secret" FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".=) $1 FOR NO KEY UPDATE;

-- write one
UPDATE ONLY "public"."items" AS t SET "secret_plaintext" = $2 WHERE t."id" OPERATOR("pg_catalog".=) $1 RETURNING t."secret" IS NOT NULL AND t."secret_plaintext" IS NOT DISTINCT FROM NULL, t."secret_plaintext";

-- verify
SELECT t."id", t."secret_plaintext", t."secret", t.ctid FROM ONLY "public"."items" t ORDER BY t."id" LIMIT $1;

-- verify, lower bound
SELECT t."id", t."secret_plaintext", t."secret", t.ctid FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 ORDER BY t."id" LIMIT $2;

-- run of a verified sample
SELECT t."id", t."secret_plaintext", t."secret", t.ctid FROM ONLY "public"."items" t WHERE t.ctid OPERATOR(pg_catalog.>) $1 AND t.ctid OPERATOR(pg_catalog.<) $2 ORDER BY t.ctid LIMIT $3;

-- hops
WITH RECURSIVE hop AS ((SELECT t."id" AS k0 FROM ONLY "public"."items" t ORDER BY t."id" OFFSET $3::int8 - 1 LIMIT 1) UNION ALL SELECT n.* FROM hop, LATERAL (SELECT t."id" AS k0 FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) hop.k0 ORDER BY t."id" OFFSET $3::int8 - 1 LIMIT 1) n), b AS (SELECT * FROM hop) , cut AS (SELECT ARRAY[pg_catalog.format('%s', k0)]::text[] AS key, row_number() OVER (ORDER BY k0) AS n FROM b)
INSERT INTO cipherfleet.ranges (job_id, relid, after_key, through_key)
SELECT $1::uuid, $2::oid, l.key, u.key FROM cut u FULL JOIN cut l ON l.n = u.n - 1
UNION ALL SELECT $1::uuid, $2::oid, NULL, NULL WHERE NOT EXISTS (SELECT FROM cut);

-- sample
WITH sample AS (SELECT t."id" AS k0 FROM ONLY "public"."items" t TABLESAMPLE SYSTEM ($4::float8)),
 ranked AS (SELECT *, row_number() OVER (ORDER BY k0) AS n FROM sample), b AS (SELECT * FROM ranked WHERE n % $3::int8 = 0) , cut AS (SELECT ARRAY[pg_catalog.format('%s', k0)]::text[] AS key, row_number() OVER (ORDER BY k0) AS n FROM b)
INSERT INTO cipherfleet.ranges (job_id, relid, after_key, through_key)
SELECT $1::uuid, $2::oid, l.key, u.key FROM cut u FULL JOIN cut l ON l.n = u.n - 1
UNION ALL SELECT $1::uuid, $2::oid, NULL, NULL WHERE NOT EXISTS (SELECT FROM cut);

-- middle
WITH rest AS (SELECT t."id" AS k0 FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 AND t."id" OPERATOR("pg_catalog".<=) $2 ORDER BY t."id" LIMIT 200000), counted AS (SELECT *, pg_catalog.row_number() OVER (ORDER BY k0) AS n, pg_catalog.count(*) OVER () AS rows FROM rest)
SELECT pg_catalog.format('%s', k0) FROM counted WHERE n OPERATOR(pg_catalog.=) (rows OPERATOR(pg_catalog./) 2) AND rows OPERATOR(pg_catalog.>=) 64;

