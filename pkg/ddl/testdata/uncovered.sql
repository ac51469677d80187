SELECT EXISTS (SELECT FROM ONLY "My ""Shop"""."or.ders\" t WHERE ("e.mail $capture$ cell" IS NULL) OPERATOR(pg_catalog.=) ("e'mail ""x""" IS DISTINCT FROM NULL));
