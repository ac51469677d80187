SELECT pg_catalog.substr("e.mail $capture$ cell", 7, 2), pg_catalog.count(*) FROM "My ""Shop"""."or.ders\" WHERE "e.mail $capture$ cell" IS NOT NULL GROUP BY 1 ORDER BY 1;
