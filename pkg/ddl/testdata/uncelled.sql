SELECT count(*) FROM "My ""Shop"""."or.ders\" WHERE "e'mail ""x""" IS NOT NULL AND "e.mail $capture$ cell" IS NULL;
