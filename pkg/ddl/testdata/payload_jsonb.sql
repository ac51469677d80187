ALTER TABLE "My ""Shop"""."or.ders\" ADD COLUMN "e.mail $capture$ cell" pg_catalog.jsonb;
ALTER TABLE "My ""Shop"""."or.ders\" ADD CONSTRAINT "cipherfleet_4294967295_cell" CHECK ("e.mail $capture$ cell" IS NULL OR (pg_catalog.jsonb_typeof("e.mail $capture$ cell") OPERATOR(pg_catalog.=) 'object' AND pg_catalog.jsonb_typeof("e.mail $capture$ cell" OPERATOR(pg_catalog.->) 'v') OPERATOR(pg_catalog.=) 'number' AND ("e.mail $capture$ cell" OPERATOR(pg_catalog.->) 'i' OPERATOR(pg_catalog.->>) 't') OPERATOR(pg_catalog.=) ANY (ARRAY[ E'or.ders\\',  E'My "Shop".or.ders\\']::pg_catalog.text[]) AND ("e.mail $capture$ cell" OPERATOR(pg_catalog.->) 'i' OPERATOR(pg_catalog.->>) 'c') OPERATOR(pg_catalog.=) ANY (ARRAY['e''mail "x"', 'e.mail $capture$ cell']::pg_catalog.text[]) AND (pg_catalog.jsonb_exists("e.mail $capture$ cell", 'c') OR pg_catalog.jsonb_exists("e.mail $capture$ cell", 'sv'))) IS TRUE) NOT VALID;
-- undo
ALTER TABLE "My ""Shop"""."or.ders\" DROP CONSTRAINT IF EXISTS "cipherfleet_4294967295_cell";
ALTER TABLE "My ""Shop"""."or.ders\" DROP COLUMN "e.mail $capture$ cell";
DROP FUNCTION IF EXISTS cipherfleet.within_4294967295;
