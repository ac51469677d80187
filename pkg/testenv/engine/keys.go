package engine

import (
	"fmt"
	"strings"
)

// KeyCase is a table of one kind of key: the columns and the key of CREATE TABLE, the key of row i, and single keys
// that deserve care.
type KeyCase struct {
	before  string   // what must be there first
	columns string   // of the table
	key     string   // PRIMARY KEY (…), or something else that makes a key
	of      string   // key of row i, as a list of expressions
	Also    []string // further keys, as lists of expressions
	many    bool     // manyRows instead of someRows
}

// SomeRows are those of a case that has no reason to have more.
const SomeRows = 1200

const manyRows = 5000

// Rows is how many rows the table has, but for those that deserve care.
func (c KeyCase) Rows() int {
	if c.many {
		return manyRows
	}
	return SomeRows
}

// awkwardTexts are distinct under every collation used here.
func awkwardTexts() []string {
	return []string{`''`, `' '`, `'a,b'`, `'a"b'`, `'""'`, `E'back\\slash'`, `E'\\\\'`, `'{curly}'`, `'{}'`, `'NULL'`, `'it''s'`, `E'tab\there'`,
		`E'new\nline'`, `'naïve'`, `'日本語'`, `'😀'`, `'(a,"b")'`, `'%s %d'`, `'$1'`, `'a;--'`}
}

// KeyCases are tables of every kind of key, by what is special of it.
func KeyCases() map[string]KeyCase {
	single := func(kind, of string, also ...string) KeyCase {
		return KeyCase{columns: "id " + kind, key: "PRIMARY KEY (id)", of: of, Also: also}
	}
	const scattered = "(i::bigint * 7919) % 1000003"
	const hashed = "md5(i::text)"
	cases := map[string]KeyCase{
		"bigint":      single("bigint", scattered+" - 500000", "-9223372036854775808", "9223372036854775807", "0"),
		"int":         single("int", scattered, "-2147483648", "2147483647"),
		"smallint":    single("smallint", "i - 600", "-32768", "32767"),
		"numeric":     single("numeric", "i * 1.10", "'NaN'", "'Infinity'", "'-Infinity'", "0.000", "1e30", "-12345678901234567890.1234", "1.00"),
		"float8":      single("float8", "i / 3.0", "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "5e-324"),
		"uuid":        single("uuid", hashed+"::uuid"),
		"text":        single("text", hashed, awkwardTexts()...),
		"text C":      single(`text COLLATE "C"`, "chr(97 + i % 26) || "+hashed, awkwardTexts()...),
		"text ICU":    single(`text COLLATE "und-x-icu"`, "CASE WHEN i % 2 = 0 THEN upper("+hashed+") ELSE "+hashed+" END", awkwardTexts()...),
		"varchar":     single("varchar(40)", hashed, awkwardTexts()...),
		"char":        single("char(40)", "left("+hashed+", 9)", awkwardTexts()[2:]...),
		"name":        single("name", hashed, awkwardTexts()...),
		"bytea":       single("bytea", "decode("+hashed+", 'hex')", `''`, `E'\\x00'`, `E'\\x5c22'`, `E'\\xff00ff'`),
		"timestamptz": single("timestamptz", "timestamptz '2024-02-03 04:05:06.789012+05:45' + i * interval '1 hour'", "'infinity'", "'-infinity'", "'0044-03-15 12:00 BC'"),
		"timestamp":   single("timestamp", "timestamp '2024-02-03 04:05:06.789012' + i * interval '7 days'", "'infinity'", "'-infinity'", "'0044-03-15 12:00 BC'"),
		"date":        single("date", "date '2024-02-03' + i", "'infinity'", "'-infinity'", "'0044-03-15 BC'"),
		"time":        single("time", "time '00:00' + i * interval '11.003 seconds'", "'24:00'"),
		"timetz":      single("timetz", "(time '00:00' + i * interval '11.003 seconds') AT TIME ZONE interval '-05:45'", "'24:00+00'", "'12:00+13'"),
		"interval":    single("interval", "i * interval '11:22:33'", "'-1 day -11:22:33'", "'1 year -1 mon 3 days'"),
		"inet":        single("inet", "inet '10.0.0.1' + i", "'::1'", "'192.168.0.0/16'"),
		"range":       single("int4range", "int4range(i, i + 3)", "'empty'", "'(,)'", "'(,5)'"),
		"jsonb":       single("jsonb", "jsonb_build_object('a,\"b', i)", "'null'", "'1.10'", "'\"{}\"'"),
		"bits":        single("bit varying", "i::bit(16)", "''", "'10101'"),
		"oid":         single("oid", "i::oid"),
		"array":       single("text[]", "ARRAY[left("+hashed+", 1), i::text]", "'{}'", "'{NULL}'", `E'{"",NULL,"a,\\"b"}'`, "'[2:3]={a,b}'"),

		"text, int":           {columns: `a text, b int`, key: "PRIMARY KEY (a, b)", of: "chr(97 + i % 26) || repeat(',\"', i % 3), i", Also: pairs(awkwardTexts(), "7")},
		"uuid, timestamptz":   {columns: `a uuid, b timestamptz`, key: "PRIMARY KEY (a, b)", of: "md5((i / 50)::text)::uuid, timestamptz '2024-02-03 04:05:06+00' + i * interval '1 second'"},
		"one tenant has most": {columns: `a int, b bigint`, key: "PRIMARY KEY (a, b)", of: "CASE WHEN i % 10 < 8 THEN 1 ELSE i END, i"},
		"three columns":       {columns: `a bool, b char(3), c numeric`, key: "PRIMARY KEY (a, b, c)", of: "i % 2 = 0, chr(97 + i % 26), i / 8.0"},
		"backwards":           {columns: `a int, b text`, key: "EXCLUDE (id WITH =)", of: ""},
		"domain":              {before: "CREATE DOMAIN public.number AS bigint CHECK (VALUE > 0)", columns: "id public.number", key: "PRIMARY KEY (id)", of: scattered + " + 1"},
		"domain of a domain": {before: "CREATE DOMAIN public.short AS varchar(40) COLLATE \"C\"; CREATE DOMAIN public.shorter AS public.short NOT NULL", columns: "id public.shorter, n int",
			key: "PRIMARY KEY (id, n)", of: hashed + ", i"},
		"enum": {before: "CREATE TYPE public.mood AS ENUM ('sad', 'a \"b\", {c}', '', 'ok')", columns: "id public.mood, n int", key: "PRIMARY KEY (id, n)",
			of: `(ARRAY['sad', 'a "b", {c}', '', 'ok'])[1 + i % 4]::public.mood, i`},
		"record": {before: "CREATE TYPE public.pair AS (a text, b int)", columns: "id public.pair", key: "PRIMARY KEY (id)", of: "ROW(" + hashed + ", i)::public.pair",
			Also: []string{`'(,)'`, `'("a,""b",1)'`}},
	}
	cases["backwards"] = KeyCase{columns: `a int NOT NULL, b text NOT NULL`, key: "CHECK (a > 0)", of: "1 + i % 7, " + hashed}
	cases = withExtensions(cases, hashed)
	for _, name := range []string{"bigint", "text", "uuid, timestamptz", "citext", "int, citext", "one tenant has most"} {
		c := cases[name]
		c.many = true
		cases[name] = c
	}
	return cases
}

// withExtensions adds keys whose operators live in schemas of their own.
func withExtensions(cases map[string]KeyCase, hashed string) map[string]KeyCase {
	const citext = `CREATE SCHEMA "Ex t"; CREATE EXTENSION citext SCHEMA "Ex t"`
	const mixed = `CASE WHEN i % 2 = 0 THEN upper(md5(i::text)) ELSE md5(i::text) END`
	cases["citext"] = KeyCase{before: citext, columns: `id "Ex t".citext`, key: "PRIMARY KEY (id)", of: mixed, Also: awkwardTexts()}
	cases["citext twice"] = KeyCase{before: citext, columns: `a "Ex t".citext, b "Ex t".citext`, key: "PRIMARY KEY (a, b)", of: "left(" + mixed + ", 1), " + mixed, Also: pairs(awkwardTexts(), "'X'")}
	cases["int, citext"] = KeyCase{before: citext, columns: `a int, b "Ex t".citext`, key: "PRIMARY KEY (a, b)", of: "i % 5, " + mixed, Also: flip(pairs(awkwardTexts(), "7"))}
	cases["citext, int, citext"] = KeyCase{before: citext, columns: `a "Ex t".citext, b int, c "Ex t".citext`, key: "PRIMARY KEY (a, b, c)", of: "left(" + mixed + ", 1), i % 3, " + mixed}
	cases["domain of citext"] = KeyCase{before: citext + `; CREATE DOMAIN public.mail AS "Ex t".citext`, columns: `id public.mail, n int`, key: "PRIMARY KEY (id, n)", of: mixed + ", i"}
	cases["text that is equal when it is not the same"] = KeyCase{before: `CREATE COLLATION public.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
		columns: `id text COLLATE public.loose`, key: "PRIMARY KEY (id)", of: mixed, Also: awkwardTexts()}
	cases["two collations"] = KeyCase{before: cases["text that is equal when it is not the same"].before,
		columns: `a text COLLATE public.loose, b text COLLATE "C"`, key: "PRIMARY KEY (a, b)", of: "left(" + mixed + ", 1), " + hashed, Also: pairs(awkwardTexts(), "'X'")}
	return cases
}

func pairs(first []string, second string) (list []string) {
	for _, f := range first {
		list = append(list, f+", "+second)
	}
	return list
}

func flip(list []string) []string {
	for i, pair := range list {
		at := strings.LastIndex(pair, ", ")
		list[i] = pair[at+2:] + ", " + pair[:at]
	}
	return list
}

// SQL makes the case's table as public.items.
func (c KeyCase) SQL(name string) string {
	var b strings.Builder
	if c.before != "" {
		b.WriteString(c.before + ";\n")
	}
	fmt.Fprintf(&b, "CREATE TABLE public.items (%s, secret text, %s);\nINSERT INTO public.items SELECT %s, 'secret ' || i FROM generate_series(1, %d) i;\n", c.columns, c.key, c.of, c.Rows())
	for _, key := range c.Also {
		fmt.Fprintf(&b, "INSERT INTO public.items VALUES (%s, 'awkward');\n", key)
	}
	if name == "backwards" {
		b.WriteString("CREATE UNIQUE INDEX backwards ON public.items (a DESC, b DESC) INCLUDE (secret);\n")
	}
	return b.String()
}
