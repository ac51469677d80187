SELECT EXISTS (SELECT FROM ONLY "My ""Shop"""."or.ders\" t WHERE "e.mail $capture$ cell" IS NOT NULL AND "e'mail ""x""" IS NOT DISTINCT FROM NULL);
