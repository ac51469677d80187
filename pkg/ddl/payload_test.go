package ddl_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const eqlTypeSQL = `CREATE TYPE public.eql_v2_encrypted AS (data jsonb)`

// payloads are columns of every payload, and the type of their target.
func payloads(c ddl.Column) map[string]ddl.Column {
	list := map[string]ddl.Column{}
	for payload, targetType := range map[ddl.Payload]string{ddl.PayloadJSON: "pg_catalog.jsonb", ddl.PayloadEQL: "public.eql_v2_encrypted", ddl.PayloadText: "pg_catalog.text", ddl.PayloadBytea: ""} {
		c.Payload, c.TargetType = payload, targetType
		list[string(payload)] = c
	}
	c.Payload, c.TargetType, c.BytesInBytes = ddl.PayloadBytea, "", true
	list["bytea_in_bytea"] = c
	return list
}

func TestGoldenPayloads(t *testing.T) {
	t.Parallel()
	for name, c := range payloads(awkward()) {
		add, check := c.AddTarget(), c.Check()
		compareGolden(t, "payload_"+name, strings.Join(append(add.Do, check.Do...), ";\n")+";\n-- undo\n"+strings.Join(append(check.Undo, add.Undo...), ";\n")+";\n")
	}
}

// TestPayloadsUnderAwkwardNames: every statement is also run, and capture finds the target by the check.
func TestPayloadsUnderAwkwardNames(t *testing.T) {
	t.Parallel()
	for name, c := range payloads(awkward()) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := awkwardTable
			if c.BytesInBytes {
				table = strings.Replace(table, "text", "bytea", 1)
			}
			f := prepare(t, c, awkwardSchema, eqlTypeSQL, table)
			target := testenv.One[string](t, f, `SELECT a.attname FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1] WHERE k.conname = $1`, ddl.CheckName(c.ID))
			if target != c.Target {
				t.Errorf("the check names %q first: capture would clear that", target)
			}
			f.do(t, c.Check().Undo)
		})
	}
}

// refusal says whether the check refuses a value in the target of row 1, whose source is 'ada'.
func (f fixture) refuses(t *testing.T, value string) bool {
	t.Helper()
	_, err := f.Exec(t.Context(), fmt.Sprintf(`UPDATE users SET cell = %s WHERE id = 1`, value))
	if err != nil && pg.Code(err) != "23514" {
		t.Fatalf("%s: %v", value, err)
	}
	return err != nil
}

func TestACheckOfDocumentsLetsOnlyPayloadsIn(t *testing.T) {
	t.Parallel()
	for payload, form := range map[string]string{"jsonb": "'%s'::jsonb", "eql_v2_encrypted": "ROW('%s'::jsonb)::eql_v2_encrypted"} {
		t.Run(payload, func(t *testing.T) {
			t.Parallel()
			f := prepare(t, payloads(usersColumn())[payload], eqlTypeSQL, "CREATE TABLE users (id bigint PRIMARY KEY, email text)", "INSERT INTO users VALUES (1, 'ada')")
			for document, fits := range map[string]bool{
				`{"v":2,"i":{"t":"users","c":"email"},"c":"mB"}`:           true,
				`{"v":2,"i":{"t":"public.users","c":"cell"},"sv":[{}]}`:    true,
				`{"v":"2","i":{"t":"users","c":"email"},"c":"mB"}`:         false,
				`{"i":{"t":"users","c":"email"},"c":"mB"}`:                 false,
				`{"v":2,"i":{"t":"orders","c":"email"},"c":"mB"}`:          false,
				`{"v":2,"i":{"t":"users","c":"id"},"c":"mB"}`:              false,
				`{"v":2,"i":{"c":"email"},"c":"mB"}`:                       false,
				`{"v":2,"i":null,"c":"ada"}`:                               false,
				`{"v":2,"i":["t","c"],"c":"mB"}`:                           false,
				`{"v":2,"c":"ada"}`:                                        false,
				`{"v":2,"i":{"t":"users","c":"email"}}`:                    false,
				`[{"v":2,"i":{"t":"users","c":"email"},"c":"mB"}, "v", 1]`: false,
				`{"a":1}`: false, `"ada"`: false, `82.60`: false, `null`: false,
			} {
				if f.refuses(t, fmt.Sprintf(form, document)) == fits {
					t.Errorf("%s: let in is %v", document, !fits)
				}
			}
			if f.refuses(t, "NULL") {
				t.Error("NULL is refused")
			}
		})
	}
}

func TestACheckOfOtherPayloadsRefusesThePlaintext(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ source, value, same, other string }{
		"text":           {"text", "ada", "'ada'", "'sealed'"},
		"bytea":          {"text", "ada", "'ada'", "'sealed'"},
		"bytea_in_bytea": {"bytea", `\x616461`, `'\x616461'`, `'\x61'`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := prepare(t, payloads(usersColumn())[name], eqlTypeSQL, "CREATE TABLE users (id bigint PRIMARY KEY, email "+tc.source+")", "INSERT INTO users VALUES (1, '"+tc.value+"'), (2, NULL)")
			if !f.refuses(t, tc.same) {
				t.Error("the plaintext is let in")
			}
			if f.refuses(t, "NULL") {
				t.Error("NULL is refused")
			}
			for _, value := range []string{tc.other, "''"} {
				if f.refuses(t, value) {
					t.Errorf("%s is refused", value)
				}
			}
			f.Run(t, "UPDATE users SET cell = "+tc.same+" WHERE id = 2") // and after a cutover, where only the target is written
		})
	}
	f := prepare(t, payloads(usersColumn())["bytea"], eqlTypeSQL, "CREATE TABLE users (id bigint PRIMARY KEY, email numeric)", "INSERT INTO users VALUES (1, 82.60)")
	if !f.refuses(t, `'82.60'::bytea`) {
		t.Error("a number's text is let in")
	}
}

// TestCaptureClearsPayloads: a write that misses the target leaves NULL there, whatever its type.
func TestCaptureClearsPayloads(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"jsonb": `'{"v":2,"i":{"t":"users","c":"email"},"c":"mB"}'`, "eql_v2_encrypted": `ROW('{"v":2,"i":{"t":"users","c":"email"},"c":"mB"}'::jsonb)::eql_v2_encrypted`, "text": `'sealed'`, "bytea": `'sealed'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := prepare(t, payloads(usersColumn())[name], eqlTypeSQL, "CREATE TABLE users (id bigint PRIMARY KEY, email text, note text)", "INSERT INTO users VALUES (1, 'ada')")
			f.Run(t, "UPDATE users SET cell = "+value)
			f.Run(t, "UPDATE users SET note = 'n'")
			if testenv.One[bool](t, f, "SELECT cell IS NULL FROM users") {
				t.Fatal("it was cleared for nothing")
			}
			f.Run(t, "UPDATE users SET email = 'grace'")
			if !testenv.One[bool](t, f, "SELECT cell IS NULL AND email = 'grace' AND note = 'n' FROM users") {
				t.Error("the payload of another value is left")
			}
			said := "SELECT set_config('cipherfleet.writer', 'client', true)"
			err := f.InTx(t.Context(), func(tx pg.Tx) error {
				for _, sql := range []string{said, "UPDATE users SET email = 'joan', cell = " + value} {
					if _, err := tx.Exec(t.Context(), sql); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil || testenv.One[bool](t, f, "SELECT cell IS NULL FROM users") {
				t.Errorf("a client's payload did not survive: %v", err)
			}
		})
	}
}
