package backfill_test

import "strings"

// family is a table with a column per type.
type family struct {
	before string // what must be there first
	kinds  []kind
}

// kind is a type with values that are awkward for it, in its input form under the pinned settings.
type kind struct {
	sql    string
	values []string
	loose  bool // Postgres itself prints less than it holds: only the text need survive
}

func of(sql string, values ...string) kind { return kind{sql: sql, values: values} }

func families() map[string]family {
	return map[string]family{
		"numbers": numbers(), "texts": texts(), "times": times(), "documents": documents(), "places": places(),
		"lists": lists(), "ranges": ranges(), "own": own(), "extensions": extensions(),
	}
}

func numbers() family {
	return family{kinds: []kind{
		of("int2", "-32768", "-1", "0", "1", "32767"),
		of("int4", "-2147483648", "-1", "0", "2147483647"),
		of("int8", "-9223372036854775808", "-1", "0", "9007199254740993", "9223372036854775807"),
		of("numeric", "12345678901234567890.1234", "1.10", "1.1", "0.000", "-0.0", "NaN", "Infinity", "-Infinity", "1e-20", "1e100", "9007199254740993", "100"),
		of("numeric(20, 4)", "1.1", "-1234567890123456.7891", "0", "NaN"),
		of("float4", "NaN", "-0", "1e-45", "1.1754942e-38", "3.4028235e38", "Infinity", "-Infinity", "0.1", "16777217"),
		of("float8", "NaN", "-0", "5e-324", "2.2250738585072009e-308", "1.7976931348623157e308", "Infinity", "-Infinity", "0.1", "0.30000000000000004", "9007199254740993"),
		of("bool", "true", "false"),
	}}
}

func texts() family {
	long := strings.Repeat("naïve, \"{日本語}\" \\ ", 20000)
	return family{before: `CREATE COLLATION public.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`, kinds: []kind{
		of("text", "", " ", "NULL", "null", `a"b,c{d}\e'f`, "tab\t new\nline\r\n", "ß ﬁ Å", "A\u030a e\u0301", "日本語 😀", "\u200b\ufeff", "\u0001\u007f", "cf1.AAAA", long),
		of("varchar", "", "a  "),
		of("varchar(5)", "日本語😀!", "ab   ", ""),
		of("char(5)", "ab   ", "     ", "abcde", "日"),
		of("char(3)[]", `{"a  ","   ",NULL}`),
		of(`text COLLATE public.loose`, "Alice", "alice"),
		of("name", "", "a name", strings.Repeat("n", 63)),
		of("bytea", "", `\x00`, `\xff00fe5c27`, `\x7b2c227d`, `\x`+strings.Repeat("00ff5c", 50000)),
		of("uuid", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "018c5f2e-7b3a-7cde-8f01-23456789abcd"),
		of("bit(3)", "101", "000"),
		of("bit varying", "", "1", "1010101010101"),
		of("bit varying(4)", "0000", "01"),
	}}
}

func times() family {
	return family{kinds: []kind{
		of("date", "2024-02-03", "0044-03-15 BC", "infinity", "-infinity", "4713-11-24 BC", "5874897-12-31", "2024-02-29"),
		of("time", "00:00", "24:00", "23:59:59.999999", "12:34:56.7"),
		of("time(0)", "12:34:56"),
		of("timetz", "12:00+00", "13:00+01", "24:00:00-15:59:59", "00:00:00.000001+15:59", "12:00-05:45"),
		of("timestamp", "2024-02-03 04:05:06.789012", "infinity", "-infinity", "0044-03-15 12:00 BC", "4713-11-24 00:00 BC", "294276-12-31 23:59:59.999999"),
		of("timestamp(3)", "2024-02-03 04:05:06.789"),
		of("timestamptz", "2024-02-03 12:00+00", "2024-03-31 02:30+01", "infinity", "-infinity", "0044-03-15 12:00+00 BC", "1901-12-13 20:45:52+00", "294276-12-31 23:59:59.999999+00"),
		of("interval", "-1 day -11:22:33", "1 mon", "30 days", "1 year -2 mons 3 days -00:00:00.000001", "00:00", "-178000000 years", "23:59:60", "1 day -24:00"),
		of("interval day to second(3)", "-1 day 11:22:33.444"),
		of("interval year to month", "-1 year 2 mons"),
	}}
}

func documents() family {
	return family{kinds: []kind{
		of("json", `{"b":  1.10, "a":1,"a":2 }`, ` [ 1e400 , "\u00e9" ] `, `null`, `""`, "{\n\t\"x\" : \"\\\"\"\n}"),
		of("jsonb", `1.10`, `1.1`, `{"b": 1.10, "a": [null, "\\ \" é 😀", 1e400]}`, `"x"`, `null`, `{}`, `[]`, `0.000`),
		of("jsonpath", `$`, `strict $."a b"[*] ? (@.c > 1.10 && @ like_regex "^\"x" flag "i")`, `$.**{2 to last}.type()`),
		of("xml", `<a b="1">x &amp; y</a>`, `text and <b/> no root`, ``, `<?xml version="1.0" standalone="yes"?><a/>`, "<a>\n <![CDATA[<&]]> </a>"),
		{sql: "xml", values: []string{`<?xml version="1.0" encoding="UTF-8"?><a>é</a>`}, loose: true}, // its declaration is never printed
		of("tsvector", `'a':1A,3B 'b':2`, `'it''s' 'back\\slash' '日本'`, ``, `'fat':2,4C 'rat':16383`),
		of("tsquery", `'a' & ( 'b':*A | !'c' )`, `'a' <-> 'b' <3> 'it''s'`, ``),
	}}
}

func places() family {
	return family{kinds: []kind{
		of("inet", "192.168.0.1", "192.168.0.1/24", "::1", "fe80::1/64", "0.0.0.0/0"),
		of("cidr", "192.168.0.0/16", "10.0.0.1/32", "::/0"),
		of("macaddr", "08:00:2b:01:02:03"),
		of("macaddr8", "08:00:2b:ff:fe:01:02:03"),
		of("point", "(0.1,-0)", "(NaN,Infinity)", "(1e-300,0.30000000000000004)"),
		of("line", "{1,-0.1,0.30000000000000004}"),
		of("lseg", "[(0.1,0.2),(0.3,0.4)]"),
		of("box", "(0.3,0.4),(0.1,0.2)"),
		of("box[]", "{(0.3,0.4),(0.1,0.2);(1,1),(0,0)}"),
		of("path", "[(0.1,0.2),(0.3,0.4)]", "((0.1,0.2),(0.3,0.4),(1,2))"),
		of("polygon", "((0,0),(0.1,1),(1,0.30000000000000004))"),
		of("circle", "<(0.1,0.2),0.30000000000000004>"),
	}}
}

func lists() family {
	return family{kinds: []kind{
		of("int[]", "{}", "{NULL}", "[2:3]={1,2}", "{{1,2},{3,NULL}}", "[0:1][-1:0]={{1,2},{3,4}}"),
		of("text[]", `{}`, `{""}`, `{NULL,"NULL","null"}`, `{"a,b","c\"d","e\\f","{}"," g "}`, `[5:5]={日本}`),
		of("numeric[]", "{1.10,1.1,NaN,Infinity}"),
		of("float8[]", "{0.1,0.30000000000000004,-0,NaN,5e-324}"),
		of("float4[]", "{0.1,1e-45,3.4028235e38}"),
		of("bytea[]", `{"\\x","\\x00ff5c",NULL}`),
		of("date[]", "{2024-02-03,\"0044-03-15 BC\",infinity}"),
		of("timestamptz[]", `{"2024-02-03 12:00+00",-infinity,NULL}`),
		of("interval[]", `{"-1 day -11:22:33","1 mon"}`),
		of("timetz[]", `{12:00-05:45,24:00+00}`),
		of("bool[]", "{t,f,NULL}"),
		of("uuid[]", "{018c5f2e-7b3a-7cde-8f01-23456789abcd}"),
		of("jsonb[]", `{"{\"a\": 1.10}",null}`),
	}}
}

func ranges() family {
	return family{before: `CREATE TYPE public.textrange AS RANGE (subtype = text, multirange_type_name = public.textranges); CREATE TYPE public.floatrange AS RANGE (subtype = float8)`, kinds: []kind{
		of("int4range", "empty", "(,)", "[1,10)", "(,5)"),
		of("int8range", "[-9223372036854775808,9223372036854775807)"),
		of("numrange", "[1.10,1.1]", "(0.000,)", "[NaN,NaN]"),
		of("daterange", "[2024-02-03,2024-03-02)", "[-infinity,infinity]", "(,)", "[\"0044-03-15 BC\",)"),
		of("tsrange", `["2024-02-03 04:05:06.789012",infinity)`, "empty"),
		of("tstzrange", `["2024-02-03 12:00+00","2024-03-02 12:00+05:45"]`, `[-infinity,infinity]`),
		of("public.textrange", `["",")]"]`, `["a,b","c\"d"]`, `[日,)`),
		of("public.floatrange", `[0.1,0.30000000000000004)`),
		of("int4multirange", "{}", "{[1,2),[5,9)}", "{(,1),[7,)}"),
		of("datemultirange", "{[2024-02-03,2024-03-02),[2025-01-01,infinity]}"),
		of("public.textranges", `{["a,}","b{\""]}`),
		of("tstzrange[]", `{"[\"2024-02-03 12:00+00\",)",NULL,empty}`),
	}}
}

func own() family {
	return family{before: `CREATE TYPE public.mood AS ENUM ('sad', 'a "b", {c}', '', 'NULL', 'ok');
CREATE TYPE public.pair AS (a text, b int); CREATE TYPE public."Deep, one" AS (p public.pair, d date[], f float8, t interval, unused int);
ALTER TYPE public."Deep, one" DROP ATTRIBUTE unused;
CREATE DOMAIN public.positive AS int CHECK (VALUE > 0); CREATE DOMAIN public.mail AS text CHECK (VALUE LIKE '%@%');
CREATE DOMAIN public.short AS varchar(5); CREATE DOMAIN public.shorter AS public.short CHECK (length(VALUE) < 4);
CREATE DOMAIN public.list AS int[]; CREATE DOMAIN public.both AS public.pair; CREATE DOMAIN public.day AS date; CREATE DOMAIN public.blank AS char(4)`, kinds: []kind{
		of("public.mood", "sad", `a "b", {c}`, "", "NULL", "ok"),
		of("public.mood[]", `{sad,NULL,"NULL","","a \"b\", {c}"}`),
		of("public.pair", `(,)`, `("",0)`, `("a,""b\\",-1)`, `(NULL,)`),
		of("public.pair[]", `{"(,)",NULL,"(\"a,b\",1)"}`),
		of(`public."Deep, one"`, `("(,)","{2024-02-03,infinity}",0.30000000000000004,"-1 day -11:22:33")`, `(,,,)`, `("(""a,b"",1)",,-0,)`),
		of("public.positive", "1", "2147483647"),
		of("public.mail", "a@b", "@"),
		of("public.shorter", "", "abc", "a  "),
		of("public.list", "{1,NULL}", "[2:3]={1,2}", "{}"),
		of("public.both", "(,)", "(a,1)"),
		of("public.day", "2024-02-03", "infinity"),
		of("public.blank", "a   ", "    "),
		of("public.positive[]", "{1,NULL,3}"),
	}}
}

func extensions() family {
	return family{before: `CREATE SCHEMA "Ex t"; CREATE EXTENSION citext SCHEMA "Ex t"; CREATE EXTENSION hstore SCHEMA "Ex t"; CREATE EXTENSION ltree SCHEMA "Ex t"; CREATE EXTENSION cube SCHEMA "Ex t"`, kinds: []kind{
		of(`"Ex t".citext`, "Alice@Example.com", "", "STRASSE", "straße"),
		of(`"Ex t".citext[]`, `{A,a,NULL,""}`),
		of(`"Ex t".hstore`, ``, `"a"=>NULL, "b"=>"NULL", "c,d"=>"\"=>\\"`, `"é"=>""`),
		of(`"Ex t".ltree`, `Top.Science.Astronomy`, ``),
		of(`"Ex t".cube`, `(0.1, 0.30000000000000004),(1, 2)`, `(1)`),
	}}
}
