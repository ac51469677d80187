-- read, sparse false, lower bound false, upper bound false
SELECT t."id", t.xmin, (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL), CASE WHEN (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) THEN t."secret" END FROM ONLY "public"."items" t ORDER BY t."id" LIMIT $1;

-- read, sparse false, lower bound true, upper bound false
SELECT t."id", t.xmin, (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL), CASE WHEN (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) THEN t."secret" END FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 ORDER BY t."id" LIMIT $2;

-- read, sparse false, lower bound false, upper bound true
SELECT t."id", t.xmin, (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL), CASE WHEN (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) THEN t."secret" END FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".<=) $1 ORDER BY t."id" LIMIT $2;

-- read, sparse false, lower bound true, upper bound true
SELECT t."id", t.xmin, (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL), CASE WHEN (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL) THEN t."secret" END FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 AND t."id" OPERATOR("pg_catalog".<=) $2 ORDER BY t."id" LIMIT $3;

-- read, sparse true, lower bound false, upper bound false
SELECT t."id", t.xmin, (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL), t."secret" FROM ONLY "public"."items" t WHERE ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL)) ORDER BY t."id" LIMIT $1;

-- read, sparse true, lower bound true, upper bound false
SELECT t."id", t.xmin, (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL), t."secret" FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 AND ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL)) ORDER BY t."id" LIMIT $2;

-- read, sparse true, lower bound false, upper bound true
SELECT t."id", t.xmin, (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL), t."secret" FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".<=) $1 AND ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL)) ORDER BY t."id" LIMIT $2;

-- read, sparse true, lower bound true, upper bound true
SELECT t."id", t.xmin, (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL), t."secret" FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 AND t."id" OPERATOR("pg_catalog".<=) $2 AND ((t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL)) ORDER BY t."id" LIMIT $3;

-- through the proxy
UPDATE "public"."items" SET "sealed" = $1 WHERE "id" OPERATOR("pg_catalog".=) $2 AND xmin OPERATOR(pg_catalog.=) $3;

-- lock through the proxy
SELECT 1 FROM "public"."items" WHERE "id" OPERATOR("pg_catalog".=) $1 FOR NO KEY UPDATE;

-- present
SELECT (t."sealed" IS NULL) OPERATOR(pg_catalog.=) (t."secret" IS DISTINCT FROM NULL), t.xmin, t."secret" FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".=) $1;

-- proof
SELECT t."id", t.xmin, t."secret", t."sealed" FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 AND t."id" OPERATOR("pg_catalog".<=) $2;

-- take back
UPDATE ONLY "public"."items" AS t SET "sealed" = NULL WHERE t."id" OPERATOR("pg_catalog".=) $1 AND t.xmin OPERATOR(pg_catalog.=) $2;

-- verify
SELECT t."id", t."secret", t."sealed", t.ctid FROM ONLY "public"."items" t ORDER BY t."id" LIMIT $1;

-- verify, lower bound
SELECT t."id", t."secret", t."sealed", t.ctid FROM ONLY "public"."items" t WHERE t."id" OPERATOR("pg_catalog".>) $1 ORDER BY t."id" LIMIT $2;

-- run of a verified sample
SELECT t."id", t."secret", t."sealed", t.ctid FROM ONLY "public"."items" t WHERE t.ctid OPERATOR(pg_catalog.>) $1 AND t.ctid OPERATOR(pg_catalog.<) $2 ORDER BY t.ctid LIMIT $3;

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

