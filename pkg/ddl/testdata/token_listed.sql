SELECT pg_catalog.count(*) FROM (SELECT FROM ONLY "My ""Shop"""."or.ders\" t WHERE (t."b""idx %s" IS NULL) OPERATOR(pg_catalog.=) (t."e.mail $capture$ cell" IS DISTINCT FROM NULL) LIMIT $1) l;
