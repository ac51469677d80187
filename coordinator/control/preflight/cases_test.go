package preflight_test

import (
	"strings"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

func tableRefusals() map[string]refusal {
	return map[string]refusal{
		"no table":          {setup: users, ask: table("T"), kind: messages.CodeNotFound, field: "table", message: `there is no table "T" in schema "%s"`, hint: `did you mean table "t" in schema`},
		"no table like it":  {setup: users, ask: table("zebra crossing"), kind: messages.CodeNotFound, field: "table", message: `there is no table "zebra crossing" in schema "%s"`, hint: "names are taken literally"},
		"system table":      {ask: func(r *messages.StartRequest) { r.Schema, r.Table = "pg_catalog", "pg_class" }, field: "table", message: "pg_catalog.pg_class belongs to Postgres", hint: "your own"},
		"own table":         {ask: func(r *messages.StartRequest) { r.Schema, r.Table = "cipherfleet", "jobs" }, field: "table", message: "cipherfleet.jobs is one of cipherfleet's own tables", hint: "your own"},
		"view":              {setup: `CREATE VIEW t AS SELECT 1 AS id, 'x' AS email`, field: "table", message: "%s.t is a view, not a table", hint: "holds the rows"},
		"materialized view": {setup: `CREATE MATERIALIZED VIEW t AS SELECT 1 AS id`, field: "table", message: "%s.t is a materialized view, not a table", hint: "holds the rows"},
		"sequence":          {setup: `CREATE SEQUENCE t`, field: "table", message: "%s.t is a sequence, not a table", hint: "holds the rows"},
		"index":             {setup: users, ask: table("t_pkey"), field: "table", message: "%s.t_pkey is an index, not a table", hint: "holds the rows"},
		"composite type":    {setup: `CREATE TYPE t AS (id int)`, field: "table", message: "%s.t is a composite type, not a table", hint: "holds the rows"},
		"foreign table": {setup: `CREATE FOREIGN DATA WRAPPER w1; CREATE SERVER s1 FOREIGN DATA WRAPPER w1; CREATE FOREIGN TABLE t (id int) SERVER s1`,
			field: "table", message: "%s.t is a foreign table, not a table", hint: "holds the rows"},
		"unlogged table": {setup: `CREATE UNLOGGED TABLE t (id int PRIMARY KEY, email text)`, field: "table", message: "%s.t is unlogged: what is committed there may be lost", hint: "SET LOGGED"},
		"partition": {setup: `CREATE TABLE p (id int PRIMARY KEY, email text) PARTITION BY HASH (id); CREATE TABLE t PARTITION OF p FOR VALUES WITH (MODULUS 1, REMAINDER 0)`,
			field: "table", message: "%[1]s.t is a partition of %[1]s.p", hint: `name table "p" in schema`},
		"unlogged partition": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text) PARTITION BY HASH (id); CREATE UNLOGGED TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0)`,
			field: "table", message: "%s.t0 is unlogged: what is committed there may be lost", hint: "SET LOGGED"},
		"foreign partition": {setup: `CREATE FOREIGN DATA WRAPPER w2; CREATE SERVER s2 FOREIGN DATA WRAPPER w2; CREATE TABLE t (id int, email text) PARTITION BY HASH (id);
			CREATE FOREIGN TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0) SERVER s2`,
			field: "table", message: "%[1]s.t0, a partition of %[1]s.t, is a foreign table", hint: "detach"},
		"inheritance parent": {setup: users + `; CREATE TABLE child () INHERITS (t)`, field: "table",
			message: "%[1]s.t has tables that inherit from it, such as %[1]s.child; their rows would be seen through it", hint: "NO INHERIT"},
		"update rule": {setup: users + `; CREATE RULE loud AS ON UPDATE TO t DO ALSO NOTIFY t`, field: "table", message: `rule "loud" rewrites every UPDATE of %s.t`, hint: "drop the rule"},
		"update rule of a partition": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text) PARTITION BY HASH (id); CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0);
			CREATE RULE no AS ON UPDATE TO t0 DO INSTEAD NOTHING`, field: "table", message: `rule "no" rewrites every UPDATE of %s.t0`, hint: "drop the rule"},
		"trigger after ours": {setup: users + ";" + nothing + `; CREATE TRIGGER "~~last" BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing()`, field: "table",
			message: `trigger "~~last" on %s.t would run after ours, which must be the last to see a row`, hint: "before the tilde"},
		"trigger that calls itself ours": {setup: users + ";" + nothing + `; CREATE TRIGGER "~cipherfleet_9_update" BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()`, field: "table",
			message: `trigger "~cipherfleet_9_update" on %s.t would run after ours, which must be the last to see a row`, hint: "before the tilde"},
		"triggers of the user": {setup: users + ";" + nothing + `; CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing();
			CREATE TRIGGER audit AFTER INSERT OR UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION nothing();
			CREATE TRIGGER other BEFORE UPDATE OF email ON t FOR EACH ROW EXECUTE FUNCTION nothing()`, field: "user_triggers",
			message: `writing the target fires triggers of your own: "audit" on %[1]s.t (after each statement, calls %[1]s.nothing), "touch" on %[1]s.t (before each row, calls %[1]s.nothing)`,
			hint:    "--user-triggers skip"},
		"trigger of the target": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea);` + nothing + `; CREATE TRIGGER seen AFTER UPDATE OF email_encrypted ON t FOR EACH ROW EXECUTE FUNCTION nothing()`,
			field: "user_triggers", message: `writing the target fires triggers of your own: "seen" on %[1]s.t (after each row, calls %[1]s.nothing)`, hint: "--user-triggers fire"},
		"triggers that cannot be skipped": {setup: users + ";" + nothing + `; CREATE TRIGGER a BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing(); ALTER TABLE t ENABLE ALWAYS TRIGGER a;
			CREATE TRIGGER b BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing(); ALTER TABLE t ENABLE REPLICA TRIGGER b;
			CREATE TRIGGER c BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()`, ask: skip, field: "user_triggers",
			message: `these triggers cannot be skipped, because they are enabled ALWAYS or for REPLICA: "a" on %[1]s.t (before each row, calls %[1]s.nothing), "b" on %[1]s.t (before each row, calls %[1]s.nothing)`,
			hint:    "let them fire"},
	}
}

func keyRefusals() map[string]refusal {
	return map[string]refusal{
		"no key": {setup: `CREATE TABLE t (id int, email text); CREATE INDEX ON t (id)`, field: "key", message: "%s.t has no primary key and no unique index to find each row by", hint: "add a primary key"},
		"no usable key": {setup: `CREATE TABLE t (id int, email text, UNIQUE (id)); CREATE UNIQUE INDEX part ON t (email) WHERE id > 0`, field: "key",
			message: `%s.t has no unique index that finds every row: part (email) cannot be used: it is partial, column "email" may be NULL; t_id_key (id) cannot be used: column "id" may be NULL`, hint: "NOT NULL"},
		"deferrable key":       {setup: `CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, email text)`, field: "key", message: "%s.t has no unique index that finds every row: t_pkey (id) cannot be used: it is deferrable", hint: "add a primary key"},
		"key that is not":      {setup: `CREATE TABLE t (id int PRIMARY KEY, ref int NOT NULL, email text); CREATE INDEX ON t (ref)`, ask: key("ref"), field: "key", message: "no unique index of %s.t has just the columns ref: two rows could share a key", hint: "keys that can be used: (id)"},
		"key of a part":        {setup: `CREATE TABLE t (a int, b int, email text, PRIMARY KEY (a, b))`, ask: key("a"), field: "key", message: "no unique index of %s.t has just the columns a: two rows could share a key", hint: "keys that can be used: (a, b)"},
		"key that may be NULL": {setup: `CREATE TABLE t (id int PRIMARY KEY, ref int UNIQUE, email text)`, ask: key("ref"), field: "key", message: `unique index t_ref_key (ref) of %s.t does not find every row: column "ref" may be NULL`, hint: "keys that can be used: (id)"},
		"key of no column":     {setup: users, ask: key("id", "idd"), kind: messages.CodeNotFound, field: "key[1]", message: `%s.t has no column "idd"`, hint: `did you mean "id"?`},
		"key of an array":      {setup: `CREATE TABLE t (id int[] PRIMARY KEY, email text)`, field: "key", message: `key column "id" has type integer[], which cannot be listed`, hint: "add a primary key"},
		"key of an object":     {setup: `CREATE TABLE t (id regclass PRIMARY KEY, email text)`, field: "key", message: "the key of %s.t cannot be used: key column 1 of type regclass: it names an object of this database and does not survive a dump or a rename", hint: "add a primary key"},
	}
}

func columnRefusals() map[string]refusal {
	return map[string]refusal{
		"no column":           {setup: `CREATE TABLE t (id int PRIMARY KEY, "E-mail" text)`, ask: columns("e-mail>x"), kind: messages.CodeNotFound, field: "columns[0].source", message: `%s.t has no column "e-mail"`, hint: `did you mean "E-mail"?`},
		"no column like it":   {setup: users, ask: columns("telephone>x"), kind: messages.CodeNotFound, field: "columns[0].source", message: `%s.t has no column "telephone"`, hint: "its columns are id, email"},
		"money":               {setup: `CREATE TABLE t (id int PRIMARY KEY, email money)`, field: "columns[0].source", message: `column "email" of type money cannot be sealed: money depends on the server's lc_monetary; make it numeric first`, hint: "change the column's type"},
		"money inside":        {setup: `CREATE TYPE price AS (amount money, note text); CREATE DOMAIN prices AS price[]; CREATE TABLE t (id int PRIMARY KEY, email prices)`, field: "columns[0].source", message: `column "email" of type %s.prices cannot be sealed: it contains money: money depends on the server's lc_monetary; make it numeric first`, hint: "change the column's type"},
		"name of an object":   {setup: `CREATE TABLE t (id int PRIMARY KEY, email regclass)`, field: "columns[0].source", message: `column "email" of type regclass cannot be sealed: it names an object of this database and does not survive a dump or a rename`, hint: "change the column's type"},
		"generated source":    {setup: `CREATE TABLE t (id int PRIMARY KEY, name text, email text GENERATED ALWAYS AS (lower(name)) STORED)`, field: "columns[0].source", message: `column "email" is generated: it has no value of its own to move`, hint: "computed from"},
		"source in key":       {setup: `CREATE TABLE t (id int, email text, PRIMARY KEY (id, email))`, field: "columns[0].source", message: `column "email" is part of the key (id, email), which must stay readable`, hint: "another key"},
		"source in given key": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text NOT NULL UNIQUE)`, ask: key("email"), field: "columns[0].source", message: `column "email" is part of the key (email), which must stay readable`, hint: "another key"},
		"source in partition key": {setup: `CREATE TABLE t (id int, email text) PARTITION BY RANGE (lower(email)); CREATE TABLE t0 PARTITION OF t DEFAULT`,
			field: "columns[0].source", message: `column "email" is part of the partition key of %s.t`, hint: "placed by its value"},
		"source in a lower partition key": {setup: `CREATE TABLE t (id int, email text, PRIMARY KEY (id, email)) PARTITION BY LIST (id); CREATE TABLE t0 PARTITION OF t DEFAULT PARTITION BY HASH (email)`,
			field: "columns[0].source", message: `column "email" is part of the partition key of %s.t`, hint: "placed by its value"},
		"source is target":    {setup: users, ask: columns("email>email"), code: app.CodeUsage, kind: messages.CodeInvalid, field: "columns[0].target", message: `source and target are both "email"`, hint: "another column"},
		"column named twice":  {setup: users, ask: columns("email>a", "email>b"), code: app.CodeUsage, kind: messages.CodeInvalid, field: "columns[1]", message: `"email" or "b" is named twice`, hint: "once"},
		"target missing":      {setup: users, ask: unprepared, field: "columns[0].target", message: `%s.t has no column "email_encrypted" to write cells to`, hint: `--prepare adds it; or ALTER TABLE`},
		"target too long":     {setup: users, ask: columns("email>" + strings.Repeat("x", 64)), code: app.CodeUsage, kind: messages.CodeInvalid, field: "columns[0].target", message: `target "` + strings.Repeat("x", 64) + `" has more than 63 bytes; the server would cut its name`, hint: "shorter"},
		"target of a type":    {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted varchar(9))`, field: "columns[0].target", message: `target "email_encrypted" has type character varying(9), accepted is bytea, text or jsonb`, hint: "another target"},
		"target NOT NULL":     {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea NOT NULL)`, field: "columns[0].target", message: `target "email_encrypted" is NOT NULL, but a row is NULL there until it is done`, hint: "DROP NOT NULL"},
		"target with default": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea DEFAULT '')`, field: "columns[0].target", message: `target "email_encrypted" has a default, which is no cell`, hint: "DROP DEFAULT"},
		"target generated":    {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea GENERATED ALWAYS AS ('\x00'::bytea) STORED)`, field: "columns[0].target", message: `target "email_encrypted" is generated: nothing can be written to it`, hint: "another target"},
		"target in partition key": {setup: `CREATE TABLE t (id int NOT NULL, email text, email_encrypted bytea) PARTITION BY LIST (email_encrypted)`,
			field: "columns[0].target", message: `column "email_encrypted" is part of the partition key of %s.t`, hint: "name another column"},
		"target holds plaintext": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea); INSERT INTO t SELECT n, 'x', CASE WHEN n = 77 THEN 'some plaintext that is longer than the shortest cell of them all'::bytea END FROM generate_series(1, 99) n`,
			field: "columns[0].target", message: `target "email_encrypted" of %s.t holds values that are no cells of this column`, hint: "another target"},
		"target holds another column's cell": {setup: `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea) PARTITION BY HASH (id); CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0);
			INSERT INTO t VALUES (1, 'x', decode('f5c100000063' || repeat('00', 60), 'hex'))`,
			field: "columns[0].target", message: `target "email_encrypted" of %s.t0 holds values that are no cells of this column`, hint: "another target"},
	}
}
