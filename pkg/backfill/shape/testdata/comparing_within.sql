-- read, sparse false, lower bound false, upper bound false
SELECT t."id", t.xmin, ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL), CASE WHEN ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."secret" END, NOT (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")))), CASE WHEN (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."sealed" END FROM (SELECT t.*, t.xmin FROM ONLY "public"."items" t ORDER BY t."id" LIMIT $1) t ORDER BY t."id";

-- read, sparse false, lower bound true, upper bound false
SELECT t."id", t.xmin, ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL), CASE WHEN ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."secret" END, NOT (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")))), CASE WHEN (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."sealed" END FROM (SELECT t.*, t.xmin FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 ORDER BY t."id" LIMIT $2) t ORDER BY t."id";

-- read, sparse false, lower bound false, upper bound true
SELECT t."id", t.xmin, ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL), CASE WHEN ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."secret" END, NOT (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")))), CASE WHEN (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."sealed" END FROM (SELECT t.*, t.xmin FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".<=) $1 ORDER BY t."id" LIMIT $2) t ORDER BY t."id";

-- read, sparse false, lower bound true, upper bound true
SELECT t."id", t.xmin, ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL), CASE WHEN ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."secret" END, NOT (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")))), CASE WHEN (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."sealed" END FROM (SELECT t.*, t.xmin FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 AND t."id" OPERATOR("pg_catalog".<=) $2 ORDER BY t."id" LIMIT $3) t ORDER BY t."id";

-- read, sparse true, lower bound false, upper bound false
SELECT t."id", t.xmin, ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL), t."secret", NOT (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")))), CASE WHEN (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."sealed" END FROM ONLY "public"."items" t WHERE (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL)) ORDER BY t."id" LIMIT $1;

-- read, sparse true, lower bound true, upper bound false
SELECT t."id", t.xmin, ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL), t."secret", NOT (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")))), CASE WHEN (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."sealed" END FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 AND (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL)) ORDER BY t."id" LIMIT $2;

-- read, sparse true, lower bound false, upper bound true
SELECT t."id", t.xmin, ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL), t."secret", NOT (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")))), CASE WHEN (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."sealed" END FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".<=) $1 AND (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL)) ORDER BY t."id" LIMIT $2;

-- read, sparse true, lower bound true, upper bound true
SELECT t."id", t.xmin, ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL), t."secret", NOT (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")))), CASE WHEN (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."sealed" END FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 AND t."id" OPERATOR("pg_catalog".<=) $2 AND (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL)) ORDER BY t."id" LIMIT $3;

-- update, lower bound false, skip locked false, look false
UPDATE ONLY "public"."items" AS t SET "sealed" = v.c0 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS v(k0, x, c0) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4;

-- update, lower bound false, skip locked true, look false
WITH v AS MATERIALIZED (SELECT v.k0, v.x, v.c0 FROM ONLY "public"."items" AS t, ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS v(k0, x, c0) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 FOR NO KEY UPDATE OF t SKIP LOCKED) UPDATE ONLY "public"."items" AS t SET "sealed" = v.c0 FROM v WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4;

-- update, lower bound false, skip locked false, look true
WITH u AS (UPDATE ONLY "public"."items" AS t SET "sealed" = v.c0 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS v(k0, x, c0) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 RETURNING ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) AS uncovered) SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE u.uncovered) FROM u;

-- update, lower bound false, skip locked true, look true
WITH v AS MATERIALIZED (SELECT v.k0, v.x, v.c0 FROM ONLY "public"."items" AS t, ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS v(k0, x, c0) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 FOR NO KEY UPDATE OF t SKIP LOCKED), u AS (UPDATE ONLY "public"."items" AS t SET "sealed" = v.c0 FROM v WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 RETURNING ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) AS uncovered) SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE u.uncovered) FROM u;

-- update, lower bound true, skip locked false, look false
UPDATE ONLY "public"."items" AS t SET "sealed" = v.c0 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS v(k0, x, c0) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 AND t."id" OPERATOR("pg_catalog".>) $5;

-- update, lower bound true, skip locked true, look false
WITH v AS MATERIALIZED (SELECT v.k0, v.x, v.c0 FROM ONLY "public"."items" AS t, ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS v(k0, x, c0) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 AND t."id" OPERATOR("pg_catalog".>) $5 FOR NO KEY UPDATE OF t SKIP LOCKED) UPDATE ONLY "public"."items" AS t SET "sealed" = v.c0 FROM v WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 AND t."id" OPERATOR("pg_catalog".>) $5;

-- update, lower bound true, skip locked false, look true
WITH u AS (UPDATE ONLY "public"."items" AS t SET "sealed" = v.c0 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS v(k0, x, c0) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 AND t."id" OPERATOR("pg_catalog".>) $5 RETURNING ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) AS uncovered) SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE u.uncovered) FROM u;

-- update, lower bound true, skip locked true, look true
WITH v AS MATERIALIZED (SELECT v.k0, v.x, v.c0 FROM ONLY "public"."items" AS t, ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS v(k0, x, c0) WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 AND t."id" OPERATOR("pg_catalog".>) $5 FOR NO KEY UPDATE OF t SKIP LOCKED), u AS (UPDATE ONLY "public"."items" AS t SET "sealed" = v.c0 FROM v WHERE t."id" OPERATOR("pg_catalog".=) v.k0 AND t.xmin OPERATOR(pg_catalog.=) v.x AND t."id" OPERATOR("pg_catalog".<=) $4 AND t."id" OPERATOR("pg_catalog".>) $5 RETURNING ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) AS uncovered) SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE u.uncovered) FROM u;

-- lock
SELECT ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant"))) OR (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL), t."id", t."secret", NOT (((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")))), CASE WHEN (t."sealed" IS DISTINCT FROM NULL AND t."secret" IS DISTINCT FROM NULL) THEN t."sealed" END FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".=) $1 FOR NO KEY UPDATE;

-- write one
UPDATE ONLY "public"."items" AS t SET "sealed" = $2 WHERE t."id" OPERATOR("pg_catalog".=) $1 RETURNING ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) AND (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")));

-- verify
SELECT t."id", CASE WHEN (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")) THEN t."secret" END, t."sealed", t.ctid FROM (SELECT t.*, t.ctid FROM ONLY "public"."items" t ORDER BY t."id" LIMIT $1) t ORDER BY t."id";

-- verify, lower bound
SELECT t."id", CASE WHEN (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")) THEN t."secret" END, t."sealed", t.ctid FROM (SELECT t.*, t.ctid FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 ORDER BY t."id" LIMIT $2) t ORDER BY t."id";

-- run of a verified sample
SELECT t."id", CASE WHEN (t."sealed" IS NOT NULL OR cipherfleet.within_1(t."the Tenant")) THEN t."secret" END, t."sealed", t.ctid FROM (SELECT t.*, t.ctid FROM ONLY "public"."items" t WHERE t.ctid OPERATOR(pg_catalog.>) $1 AND t.ctid OPERATOR(pg_catalog.<) $2 ORDER BY t.ctid LIMIT $3) t ORDER BY t.ctid;

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

