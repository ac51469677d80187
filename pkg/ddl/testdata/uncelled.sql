SELECT count(*) FROM "My ""Shop"""."or.ders\" WHERE "e'mail ""x""" IS DISTINCT FROM NULL AND "e.mail $capture$ cell" IS NULL;
