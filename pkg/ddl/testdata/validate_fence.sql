ALTER TABLE "My ""Shop"""."or.ders\" VALIDATE CONSTRAINT "cipherfleet_4294967295_schemes_next";
