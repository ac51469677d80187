package manifest_test

import (
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/manifest"
)

var update = flag.Bool("update", false, "write golden files")

func golden(t *testing.T, name string, have []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, have, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != string(want) {
		t.Errorf("%s differs; have:\n%s", path, have)
	}
}

func TestParseReadsEveryField(t *testing.T) {
	t.Parallel()
	m, err := manifest.Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	have, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "full.json", append(have, '\n'))
}

func TestParseFillsInDefaults(t *testing.T) {
	t.Parallel()
	m, err := manifest.Parse([]byte("version: 1\ntables:\n- {table: users, columns: [{source: email, schemes: {3: {}}}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	column := manifest.DefaultColumn("email")
	column.Scheme, column.Schemes = 3, map[int]manifest.Scheme{3: manifest.DefaultScheme()}
	want := manifest.Default()
	want.Tables = []manifest.Table{{Schema: "public", Name: "users", Columns: []manifest.Column{column}}}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("have %+v\nwant %+v", m, want)
	}
	if m.Fleet.UserTriggers != "" {
		t.Error("a manifest that says nothing of user triggers acknowledges them")
	}
}

// columnOf puts a column's text, in flow style, on line 6 of an otherwise valid manifest; it begins at column 9.
func columnOf(column string) string {
	return "version: 1\ntables:\n  - schema: public\n    table: users\n    columns:\n      - " + column + "\n"
}

const schemes = ", schemes: {1: {}}"

func refusals() map[string]struct{ text, want string } {
	long := strings.Repeat("n", 64)
	return map[string]struct{ text, want string }{
		"empty":                      {"", `1:1: the file is empty`},
		"only a comment":             {"# nothing\n", `1:1: the file is empty`},
		"list":                       {"- a\n", `1:1: want a manifest: version, kek, fleet and tables`},
		"no yaml":                    {"version: 1\ntables: [\n", `2:1: this is no YAML: did not find expected node content`},
		"tab":                        {"version: 1\nfleet:\n\tconcurrency: 1\n", `3:1: this is no YAML: found character that cannot start any token`},
		"two documents":              {"version: 1\ntables: []\n---\nversion: 1\n", `3:1: a second document begins here; a manifest is one document`},
		"no version":                 {"tables: []\n", `1:1: version: missing`},
		"future version":             {"version: 2\nnovel: 1\n", `1:10: version: 2 is newer than this program understands (accepted: 1)`},
		"version in words":           {"version: one\n", `1:10: version: want a whole number from 1 to 1000000, have one`},
		"unknown key":                {"version: 1\ntables: []\nflet: {}\n", `3:1: unknown key "flet" (accepted: version, kek, fleet, tables)`},
		"repeated key":               {"version: 1\ntables: []\nkek: a\nkek: b\n", `4:1: kek: repeated; it stands on line 3 already`},
		"no tables":                  {"version: 1\n", `1:1: tables: missing`},
		"value missing":              {"version: 1\nkek:\ntables: []\n", `2:5: kek: there is no value here`},
		"alias":                      {"version: 1\nkek: &a x\ntables: []\nfleet: {user_triggers: *a}\n", `2:6: kek: anchors and aliases are not accepted` + "\n" + `4:24: fleet.user_triggers: anchors and aliases are not accepted`},
		"merge":                      {"version: 1\ntables: []\nfleet: {<<: {concurrency: 1}}\n", `3:9: fleet: want a plain name as key`},
		"tag":                        {"version: 1\nkek: !!str 1\ntables: []\n", `2:6: kek: tags are not accepted`},
		"fleet unknown":              {"version: 1\ntables: []\nfleet:\n  concurency: 1\n", `4:3: fleet: unknown key "concurency" (accepted: concurrency, chunk, rows_per_second, lock_timeout, statement_timeout, quarantine_budget, user_triggers)`},
		"fleet range":                {"version: 1\ntables: []\nfleet: {concurrency: 0}\n", `3:22: fleet.concurrency: want a whole number from 1 to 10000, have 0`},
		"fleet text":                 {"version: 1\ntables: []\nfleet: fast\n", `3:8: fleet: want keys with values here, as in name: value`},
		"chunk size":                 {"version: 1\ntables: []\nfleet: {chunk: {bytes: 4 megs}}\n", `3:24: fleet.chunk.bytes: want a size from 1KiB to 1GiB, such as 512KiB or 4MiB; have 4 megs`},
		"chunk time":                 {"version: 1\ntables: []\nfleet: {chunk: {time: 250}}\n", `3:23: fleet.chunk.time: want a duration from 1ms to 1m, such as 250ms, 10s or 24h; have 250`},
		"timeout of nothing":         {"version: 1\ntables: []\nfleet: {lock_timeout: 0s}\n", `3:23: fleet.lock_timeout: want a duration from 1ms to 1h, such as 250ms, 10s or 24h; have 0s`},
		"triggers":                   {"version: 1\ntables: []\nfleet: {user_triggers: ignore}\n", `3:24: fleet.user_triggers: "ignore" is unknown (accepted: fire, skip)`},
		"table twice":                {"version: 1\ntables:\n- {table: a, columns: [{source: b" + schemes + "}]}\n- {table: a, schema: public, columns: [{source: c" + schemes + "}]}\n", `4:3: tables[1]: table public.a stands on line 3 already`},
		"table without name":         {"version: 1\ntables:\n- {columns: [{source: b" + schemes + "}]}\n", `3:3: tables[0].table: missing`},
		"no columns":                 {"version: 1\ntables:\n- {table: a}\n", `3:3: tables[0].columns: missing`},
		"empty columns":              {"version: 1\ntables:\n- {table: a, columns: []}\n", `3:23: tables[0].columns: name at least one column`},
		"columns no list":            {"version: 1\ntables:\n- {table: a, columns: b}\n", `3:23: tables[0].columns: want a list here, each element behind a dash`},
		"name no text":               {"version: 1\ntables:\n- {table: 2024, columns: [{source: b" + schemes + "}]}\n", `3:11: tables[0].table: want text, have 2024`},
		"name empty":                 {"version: 1\ntables:\n- {table: '', columns: [{source: b" + schemes + "}]}\n", `3:11: tables[0].table: a name must not be empty`},
		"name too long":              {"version: 1\ntables:\n- {table: " + long + ", columns: [{source: b" + schemes + "}]}\n", `3:11: tables[0].table: a name has at most 63 bytes in Postgres, this has 64`},
		"key twice":                  {"version: 1\ntables:\n- {table: a, key: [b, b], columns: [{source: c" + schemes + "}]}\n", `3:23: tables[0].key[1]: column "b" is named twice`},
		"source in key":              {"version: 1\ntables:\n- {table: a, key: [b], columns: [{source: b" + schemes + "}]}\n", `3:34: tables[0].columns[0]: source and target must not be part of the key`},
		"where and cutover":          {"version: 1\ntables:\n- {table: a, where: b > 1, columns: [{source: c, reach: dropped" + schemes + "}]}\n", `3:38: tables[0].columns[0].reach: a table with where cannot go to dropped: other rows would lose their value`},
		"source missing":             {columnOf("{target: x" + schemes + "}"), `6:9: tables[0].columns[0].source: missing`},
		"source twice":               {columnOf("{source: a" + schemes + "}\n      - {source: a, target: b" + schemes + "}"), `7:9: tables[0].columns[1].source: column "a" is a source already`},
		"target twice":               {columnOf("{source: a, target: c" + schemes + "}\n      - {source: b, target: c" + schemes + "}"), `7:9: tables[0].columns[1].target: column "c" is a target already`},
		"chain":                      {columnOf("{source: a, target: b" + schemes + "}\n      - {source: b, target: c" + schemes + "}"), `7:9: tables[0].columns[1].source: column "b" is another column's target`},
		"target is source":           {columnOf("{source: a, target: a" + schemes + "}"), `6:29: tables[0].columns[0].target: target and source are the same column`},
		"target too long":            {columnOf("{source: " + long[:60] + schemes + "}"), `6:9: tables[0].columns[0].target: missing, and ` + long[:60] + `_encrypted would have more than 63 bytes`},
		"type":                       {columnOf("{source: a, type: blob" + schemes + "}"), `6:27: tables[0].columns[0].type: "blob" is unknown (accepted: bytea, text, jsonb, eql_v2_encrypted)`},
		"transform":                  {columnOf("{source: a, transform: rot13" + schemes + "}"), `6:32: tables[0].columns[0].transform: "rot13" is unknown (accepted: encrypt, reencrypt, decrypt, external, proxy, expression, copy)`},
		"eql by encrypt":             {columnOf("{source: a, type: eql_v2_encrypted" + schemes + "}"), `6:9: tables[0].columns[0].type: transform encrypt cannot make eql_v2_encrypted`},
		"external alone":             {columnOf("{source: a, transform: external}"), `6:9: tables[0].columns[0].external.subject: missing; transform external needs the subject its encrypter listens on`},
		"external unasked":           {columnOf("{source: a, external: {key: k}" + schemes + "}"), `6:31: tables[0].columns[0].external: only transform external has it, this is encrypt`},
		"expression alone":           {columnOf("{source: a, transform: expression, expression: lower(a)}"), `6:9: tables[0].columns[0].target: missing`},
		"expression missing":         {columnOf("{source: a, target: b, transform: expression}"), `6:9: tables[0].columns[0].expression: is empty; transform expression needs one, in SQL over the columns of a row`},
		"expression escapes":         {columnOf("{source: a, target: b, transform: expression, expression: 'a); DROP TABLE a; --'}"), `6:67: tables[0].columns[0].expression: must be one expression of SQL: every bracket, quote and comment in it closed, no semicolon`},
		"expression in place":        {columnOf("{source: a, target: a, transform: expression, expression: lower(a)}"), `6:9: tables[0].columns[0].done: is missing: where target and source are one column, only a version column or a condition says which rows are done`},
		"in place to cutover":        {columnOf("{source: a, target: a, transform: expression, expression: lower(a), done: {when: b}, reach: cut-over}"), `6:101: tables[0].columns[0].reach: where target and source are one column there is nothing to cut over`},
		"expression and keys":        {columnOf("{source: a, target: b, transform: copy" + schemes + "}"), `6:58: tables[0].columns[0].schemes: transform copy makes no cells`},
		"expression unasked":         {columnOf("{source: a, expression: b" + schemes + "}"), `6:33: tables[0].columns[0].expression: only transform expression has it, this is encrypt`},
		"from missing":               {columnOf("{source: a, transform: reencrypt" + schemes + "}"), `6:9: tables[0].columns[0].from: missing; transform reencrypt needs to know in which format the values are encrypted`},
		"from unasked":               {columnOf("{source: a, from: {format: pgp, key: k}" + schemes + "}"), `6:27: tables[0].columns[0].from: only transform reencrypt has it, this is encrypt`},
		"from of a copy":             {columnOf("{source: a, target: b, transform: copy, from: {format: pgp, key: k}}"), `6:55: tables[0].columns[0].from: only transform reencrypt has it, this is copy`},
		"from what":                  {columnOf("{source: a, transform: reencrypt, from: {key: k}" + schemes + "}"), `6:49: tables[0].columns[0].from.format: missing`},
		"from whom":                  {columnOf("{source: a, transform: reencrypt, from: {format: rot13, key: k}" + schemes + "}"), `6:58: tables[0].columns[0].from.format: "rot13" is unknown (accepted: attr_encrypted, lockbox, rails, pgp, pgcrypto, transit, ciphersweet, cipherfleet)`},
		"from ourselves":             {columnOf("{source: a, transform: reencrypt, from: {format: cipherfleet}" + schemes + "}"), `6:9: tables[0].columns[0].target: missing`},
		"from our key":               {columnOf("{source: a, target: b, transform: reencrypt, from: {format: cipherfleet, key: k}" + schemes + "}"), `6:87: tables[0].columns[0].from.key: is no option of format cipherfleet`},
		"from by no key":             {columnOf("{source: a, transform: reencrypt, from: {format: pgp}" + schemes + "}"), `6:49: tables[0].columns[0].from.key: is missing; name a key of the file that CIPHERFLEET_FOREIGN_KEYS names`},
		"from by a key":              {columnOf("{source: a, transform: reencrypt, from: {format: pgp, key: 0123456789abcdef0123456789abcdef}" + schemes + "}"), `6:68: tables[0].columns[0].from.key: must be the name of a key, never a key: at most 30 letters, digits, '.', '_' and '-'`},
		"from no vector":             {columnOf("{source: a, transform: reencrypt, from: {format: attr_encrypted, key: k}" + schemes + "}"), `6:49: tables[0].columns[0].from.iv: is missing; in this mode of attr_encrypted each value has its vector in a column of its own`},
		"from its own target":        {columnOf("{source: a, target: b, transform: reencrypt, from: {format: pgcrypto, key: k, iv: b}" + schemes + "}"), `6:60: tables[0].columns[0].from: names column "b", which is source or target itself`},
		"from to eql":                {columnOf("{source: a, type: eql_v2_encrypted, transform: reencrypt, from: {format: pgp, key: k}" + schemes + "}"), `6:9: tables[0].columns[0].type: transform reencrypt cannot make eql_v2_encrypted`},
		"done unasked":               {columnOf("{source: a, done: {when: b}" + schemes + "}"), `6:27: tables[0].columns[0].done: only transforms expression and copy have it, this is encrypt`},
		"done, both ways":            {columnOf("{source: a, target: b, transform: copy, done: {when: b, version: c, number: 1}}"), `6:55: tables[0].columns[0].done: has a version and a condition; one of them says which rows are done`},
		"type of a copy":             {columnOf("{source: a, target: b, transform: copy, type: text DEFAULT 'x'}"), `6:55: tables[0].columns[0].type: was "text DEFAULT 'x'"; accepted is the name of one type, as in numeric(10,2) or public.citext`},
		"no schemes":                 {columnOf("{source: a}"), `6:9: tables[0].columns[0].schemes: missing`},
		"empty schemes":              {columnOf("{source: a, schemes: {}}"), `6:30: tables[0].columns[0].schemes: list at least one scheme`},
		"scheme not listed":          {columnOf("{source: a, scheme: 2, schemes: {1: {}, 3: {}}}"), `6:29: tables[0].columns[0].scheme: 2 is not among schemes (listed: 1, 3)`},
		"scheme undecided":           {columnOf("{source: a, schemes: {1: {}, 3: {}}}"), `6:9: tables[0].columns[0].scheme: missing; say which is written (listed: 1, 3)`},
		"scheme zero":                {columnOf("{source: a, schemes: {0: {}}}"), `6:31: tables[0].columns[0].schemes: want a scheme number from 1 to 65535, have 0`},
		"scheme spelled":             {columnOf("{source: a, schemes: {01: {}}}"), `6:31: tables[0].columns[0].schemes: want a scheme number from 1 to 65535, have 01`},
		"scheme twice":               {columnOf("{source: a, schemes: {1: {}, 1: {}}}"), `6:38: tables[0].columns[0].schemes.1: repeated; it stands on line 6 already`},
		"suite":                      {columnOf("{source: a, schemes: {1: {suite: aes}}}"), `6:42: tables[0].columns[0].schemes.1.suite: "aes" is unknown (accepted: xaes-256-gcm, aes-256-siv)`},
		"binding":                    {columnOf("{source: a, schemes: {1: {binding: row}}}"), `6:44: tables[0].columns[0].schemes.1.binding: "row" is unknown (accepted: pk, none, columns)`},
		"binding without columns":    {columnOf("{source: a, schemes: {1: {binding: columns}}}"), `6:34: tables[0].columns[0].schemes.1.columns: missing; binding columns needs the columns that cells are bound to`},
		"columns without binding":    {columnOf("{source: a, schemes: {1: {columns: [b]}}}"), `6:44: tables[0].columns[0].schemes.1.columns: only binding columns has it, this is pk`},
		"a bound column twice":       {columnOf("{source: a, schemes: {1: {binding: columns, columns: [b, b]}}}"), `6:66: tables[0].columns[0].schemes.1.columns[1]: column "b" is named twice`},
		"bound to itself":            {columnOf("{source: a, schemes: {1: {binding: columns, columns: [b, a]}}}"), `6:9: tables[0].columns[0].schemes.1.columns: source and target must not be among them: cells cannot be bound to themselves`},
		"deterministic, and columns": {columnOf("{source: a, schemes: {1: {suite: aes-256-siv, binding: columns, columns: [b]}}}"), `6:64: tables[0].columns[0].schemes.1.binding: suite aes-256-siv cannot be bound to rows (accepted: none)`},
		"binding of siv":             {columnOf("{source: a, schemes: {1: {suite: aes-256-siv, binding: pk}}}"), `6:64: tables[0].columns[0].schemes.1.binding: suite aes-256-siv cannot be bound to rows (accepted: none)`},
		"padding":                    {columnOf("{source: a, schemes: {1: {padding: 8}}}"), `6:44: tables[0].columns[0].schemes.1.padding: 8 is unknown (accepted: 0, 16, 32, 64)`},
		"padding in words":           {columnOf("{source: a, schemes: {1: {padding: big}}}"), `6:44: tables[0].columns[0].schemes.1.padding: want 0, 16, 32 or 64, have big`},
		"nulls":                      {columnOf("{source: a, schemes: {1: {nulls: drop}}}"), `6:42: tables[0].columns[0].schemes.1.nulls: "drop" is unknown (accepted: keep, seal)`},
		"retain":                     {columnOf("{source: a, schemes: {1: {retain: 30 days}}}"), `6:43: tables[0].columns[0].schemes.1.retain: want a duration from 1ms to 87600h, such as 250ms, 10s or 24h; have 30 days`},
		"index without name":         {columnOf("{source: a, indexes: [{kind: blind}]" + schemes + "}"), `6:31: tables[0].columns[0].indexes[0].name: missing`},
		"index kind":                 {columnOf("{source: a, indexes: [{name: x, kind: bloom}]" + schemes + "}"), `6:47: tables[0].columns[0].indexes[0].kind: "bloom" is unknown (accepted: blind)`},
		"index normalise":            {columnOf("{source: a, indexes: [{name: x, normalise: upper}]" + schemes + "}"), `6:52: tables[0].columns[0].indexes[0].normalise: "upper" is unknown (accepted: exact, lower-trim, digits, nfc)`},
		"index unique":               {columnOf("{source: a, indexes: [{name: x, unique: true, bytes: 8}]" + schemes + "}"), `6:62: tables[0].columns[0].indexes[0].bytes: a unique index needs at least 16, have 8`},
		"index unique text":          {columnOf("{source: a, indexes: [{name: x, unique: 'yes'}]" + schemes + "}"), `6:49: tables[0].columns[0].indexes[0].unique: want true or false, have yes`},
		"index twice":                {columnOf("{source: a, indexes: [{name: x}, {name: x}]" + schemes + "}"), `6:9: tables[0].columns[0].indexes: index "x" is named twice`},
		"reach":                      {columnOf("{source: a, reach: backfilling" + schemes + "}"), `6:28: tables[0].columns[0].reach: "backfilling" is unknown (accepted: schema-added, dual-writing, backfilled, cut-over, dropped)`},
		"cutover":                    {columnOf("{source: a, cutover: rename" + schemes + "}"), `6:30: tables[0].columns[0].cutover: "rename" is unknown (accepted: swap, by-name)`},
		"soak":                       {columnOf("{source: a, soak: -1h" + schemes + "}"), `6:27: tables[0].columns[0].soak: want a duration from 0s to 87600h, such as 250ms, 10s or 24h; have -1h`},
		"every problem, once":        {columnOf("{source: a, type: x, reach: y" + schemes + "}"), `6:27: tables[0].columns[0].type: "x" is unknown (accepted: bytea, text, jsonb, eql_v2_encrypted)` + "\n" + `6:37: tables[0].columns[0].reach: "y" is unknown (accepted: schema-added, dual-writing, backfilled, cut-over, dropped)`},
	}
}

func TestParseRefusesWithLineAndColumn(t *testing.T) {
	t.Parallel()
	for name, test := range refusals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := manifest.Parse([]byte(test.text))
			var wrong *manifest.Error
			if !errors.As(err, &wrong) {
				t.Fatalf("have %v, want an *Error", err)
			}
			if have := wrong.Error(); have != test.want {
				t.Errorf("have %s\nwant %s", have, test.want)
			}
		})
	}
}

func TestErrorNamesFileAndHint(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cipherfleet.yaml")
	if err := os.WriteFile(path, []byte("version: 9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := manifest.Load(path)
	var wrong *manifest.Error
	if !errors.As(err, &wrong) {
		t.Fatalf("have %v, want an *Error", err)
	}
	if want := path + ":1:10: version: 9 is newer"; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("have %s, want it to begin with %s", err, want)
	}
	if wrong.Hint() != "install a newer cipherfleet" {
		t.Errorf("hint %q", wrong.Hint())
	}
}

func TestUnknownKeyGuessesWhatWasMeant(t *testing.T) {
	t.Parallel()
	_, err := manifest.Parse([]byte("version: 1\ntables: []\nfleet:\n  lock_timout: 1s\n"))
	var wrong *manifest.Error
	if !errors.As(err, &wrong) || wrong.Hint() != "did you mean lock_timeout?" {
		t.Errorf("have %+v", wrong)
	}
}

func TestLoadOfNoFileIsNoProblemOfTheText(t *testing.T) {
	t.Parallel()
	_, err := manifest.Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("have %v, want fs.ErrNotExist", err)
	}
}

func TestParseRefusesAHugeFile(t *testing.T) {
	t.Parallel()
	_, err := manifest.Parse(make([]byte, 5<<20))
	if err == nil || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("have %v", err)
	}
}
