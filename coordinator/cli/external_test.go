package cli

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/embedded"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// nodeKey is what the encrypter in Node seals with.
const nodeKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// nodeEncrypter runs deploy/examples/encrypter-node until the test ends, and waits until it listens.
func nodeEncrypter(t *testing.T, n testenv.NATSServer, environment ...string) {
	t.Helper()
	program := exec.Command(testenv.Node(t), filepath.Join("..", "..", "deploy", "examples", "encrypter-node", "encrypter.js"))
	program.Env = append([]string{"NATS_URL=" + n.URL, "NATS_TOKEN_FILE=" + n.TokenFile, "ENCRYPTER_KEY=" + nodeKey, "ENCRYPTER_SUBJECT=crypto.users"}, environment...)
	var says guarded
	program.Stderr = &says
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(program.Process.Signal(os.Interrupt), program.Wait()); err != nil {
			t.Errorf("the encrypter ended badly: %v\n%s", err, says.String())
		}
	})
	testenv.Eventually(t, time.Minute, func() error {
		if !strings.Contains(says.String(), "listening") {
			return fmt.Errorf("it does not listen: %s", says.String())
		}
		return nil
	})
}

// openNode opens what the encrypter in Node made of a value of public.users.email.
func openNode(t *testing.T, sealed []byte) string {
	t.Helper()
	key, _ := hex.DecodeString(nodeKey)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, _ := cipher.NewGCM(block)
	plain, err := aead.Open(nil, sealed[:12], sealed[12:], []byte("public.users.email"))
	if err != nil {
		t.Fatal("a value does not open")
	}
	return string(plain)
}

// TestAnEncrypterInNode is the example from end to end: Postgres, NATS, coordinator, workers and a process of Node
// encrypt a table, whatever type the target has.
func TestAnEncrypterInNode(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct{ name, form, sealed string }{
		{"jsonb", "json", "email_encrypted->>'c'"}, {"eql_v2_encrypted", "json", "(email_encrypted).data->>'c'"},
		{"text", "text", "substr(email_encrypted, 6)"}, {"bytea", "bytea", "encode(email_encrypted, 'base64')"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			people(t, db, 1500)
			db.Run(t, `CREATE TYPE public.eql_v2_encrypted AS (data jsonb)`)
			db.Run(t, `UPDATE users SET email = '“Ada”\ "Ω" 😀' || E'\r\n' || id WHERE id % 7 = 1`)
			server := testenv.NATS(t)
			nodeEncrypter(t, server, "ENCRYPTER_FORM="+kind.form)
			s := newShell(t, db.URL).withKey().inNATS(server)
			s.serve("--workers", "2")
			leads(t, db)
			args := append(backfillUsers(), "--type", kind.name, "--transform", "external", "--subject", "crypto.users", "--external-key", "users/email", "--json")
			testenv.Eventually(t, time.Minute, func() error {
				if o := s.run(args...); o.code != app.CodeDone {
					return fmt.Errorf("exit code %d: %s", o.code, o.err)
				}
				return nil
			})
			sealed := testenv.Column[string](t, db, "SELECT translate("+kind.sealed+", E'\\n', '') FROM users WHERE email IS NOT NULL ORDER BY id")
			plain := testenv.Column[string](t, db, "SELECT email FROM users WHERE email IS NOT NULL ORDER BY id")
			for i, text := range sealed {
				raw, err := base64.StdEncoding.DecodeString(text)
				if err != nil {
					t.Fatal(err)
				}
				if openNode(t, raw) != plain[i] {
					t.Fatalf("row %d holds another value", i)
				}
			}
			if n := testenv.One[int](t, db, "SELECT count(*) FROM users WHERE email IS NULL AND email_encrypted IS NOT NULL"); n != 0 || len(plain) < 1300 {
				t.Errorf("%d rows hold something of nothing; %d have a value", n, len(plain))
			}
			v := parsed[verify.Result](t, s.must("verify", "--table", "users", "--json").out)
			if !v.Proven || !v.Columns[0].Foreign || v.Columns[0].Covered != 1500 || len(v.Columns[0].Schemes) != 0 {
				t.Errorf("verification found %+v", v)
			}
			if text := s.must("verify", "--table", "users").out; !strings.Contains(text, "nothing was opened") || strings.Contains(text, ": proven") {
				t.Errorf("verify says\n%s", text)
			}
			if o := s.must("status", "--table", "users", "--json").out; strings.Contains(o, status.FlagTargetType) || strings.Contains(o, status.FlagCheckAltered) {
				t.Errorf("status says %s", o)
			}
			if n := testenv.One[int](t, db, "SELECT count(*) FROM cipherfleet.schemes"); n != 0 {
				t.Errorf("%d schemes were made for nothing", n)
			}
		})
	}
}

// ownEncrypter answers on crypto.users with what make makes of a request, until the test ends.
func ownEncrypter(t *testing.T, n *embedded.NATS, make func(messages.ExternalRequest) messages.ExternalAnswer) {
	t.Helper()
	conn, err := nats.Connect(n.URL(), nats.Token(n.Token()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	_, err = conn.Subscribe("crypto.users", func(m *nats.Msg) {
		r, err := messages.ParseExternalRequest(m.Data)
		if err != nil {
			t.Error(err)
		}
		body, _ := make(r).Marshal()
		_ = m.Respond(body) // whoever asked may have gone
	})
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// eqlAnswer is an honest answer, with nothing behind it that could be opened.
func eqlAnswer(r messages.ExternalRequest) (a messages.ExternalAnswer) {
	_, table, _ := strings.Cut(r.Table, ".")
	for _, v := range r.Values {
		body, _ := json.Marshal(map[string]any{"v": 2, "i": map[string]string{"t": table, "c": r.Column}, "c": fmt.Sprintf("%x", []byte(v.Value))})
		a.Results = append(a.Results, messages.ExternalResult{ID: v.ID, Value: body})
	}
	return a
}

func fleet(t *testing.T, db *testenv.DB) (*shell, *embedded.NATS) {
	t.Helper()
	server := testenv.OwnNATS(t)
	s := newShell(t, db.URL).withKey().inNATS(testenv.NATSServer{URL: server.URL(), TokenFile: server.TokenFile()}).with("CIPHERFLEET_LEASE", "3s").with("CIPHERFLEET_ACK_WAIT", "5s")
	s.serve("--workers", "2")
	leads(t, db)
	return s, server
}

const manifestOfEncrypter = `version: 1
tables:
  - table: users
    columns:
      - {source: email, target: sealed, type: eql_v2_encrypted, transform: external, external: {subject: crypto.users, key: k7}, soak: 0s}
`

// TestAnEncrypterThatIsDown holds a job up and does not fail it; and what the manifest says needs no flags.
func TestAnEncrypterThatIsDown(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 500)
	db.Run(t, `CREATE SCHEMA other; CREATE TYPE other.eql_v2_encrypted AS (data jsonb)`)
	s, server := fleet(t, db)
	s.write("cipherfleet.yaml", manifestOfEncrypter, 0o600)
	ended := make(chan outcome, 1)
	testenv.Eventually(t, time.Minute, func() error { // it leads a moment before it answers
		if o := s.run(append(backfillUsers(), "--dry-run")...); o.code != app.CodeDone || !strings.Contains(o.err, "encrypter on crypto.users") || !strings.Contains(o.err, "payloads of this column") {
			return fmt.Errorf("exit code %d: %s", o.code, o.err)
		}
		return nil
	})
	if o := s.run("plan"); o.code != app.CodeWaiting || !strings.Contains(o.out, "cipherfleet advance users.email --to dual-writing") {
		t.Errorf("plan: exit code %d\n%s%s", o.code, o.out, o.err)
	}
	go func() { ended <- s.run(backfillUsers()...) }()
	testenv.Eventually(t, 5*time.Minute, func() error { // longer than a range may fail for other reasons
		if n := testenv.One[int](t, db, `SELECT coalesce(max(attempts), 0) FROM cipherfleet.ranges`); n < 6 {
			return fmt.Errorf("%d attempts", n)
		}
		return nil
	})
	if state := testenv.One[string](t, db, `SELECT state FROM cipherfleet.jobs`); state != "running" {
		t.Fatalf("the job is %s", state)
	}
	if class := testenv.One[string](t, db, `SELECT max(error_class) FROM cipherfleet.ranges`); class != "encrypter" {
		t.Errorf("what stops the range is called %q", class)
	}
	keys := make(chan string, 100)
	ownEncrypter(t, server, func(r messages.ExternalRequest) messages.ExternalAnswer {
		keys <- r.Key
		return eqlAnswer(r)
	})
	select {
	case o := <-ended:
		if o.code != app.CodeDone {
			t.Fatalf("exit code %d: %s", o.code, o.err)
		}
	case <-time.After(5 * time.Minute):
		t.Fatal("the job does not go on")
	}
	if key := <-keys; key != "k7" {
		t.Errorf("the encrypter was asked for column %q", key)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE (sealed).data->>'c' IS DISTINCT FROM encode(convert_to(email, 'UTF8'), 'hex')`); n != 0 {
		t.Errorf("%d rows hold something else", n)
	}
	s.must("verify", "--table", "users")
}

// TestAnEncrypterThatBreaksItsContract fails the job, says why, shows no value, and leaves nothing behind.
func TestAnEncrypterThatBreaksItsContract(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(messages.ExternalRequest, *messages.ExternalAnswer)
		says  string
	}{
		"short": {func(_ messages.ExternalRequest, a *messages.ExternalAnswer) { a.Results = a.Results[1:] }, "the encrypter's answer does not fit the request"},
		"reordered": {func(_ messages.ExternalRequest, a *messages.ExternalAnswer) {
			a.Results[0], a.Results[1] = a.Results[1], a.Results[0]
		}, "the encrypter's answer does not fit the request"},
		"leaking": {func(r messages.ExternalRequest, a *messages.ExternalAnswer) {
			a.Results[0].Value = json.RawMessage(`{"v":2,"i":{"t":"users","c":"email"},"c":"` + r.Values[0].Value + `"}`)
		}, "the encrypter gave plaintext back"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			people(t, db, 200)
			s, server := fleet(t, db)
			ownEncrypter(t, server, func(r messages.ExternalRequest) messages.ExternalAnswer {
				a := eqlAnswer(r)
				tc.spoil(r, &a)
				return a
			})
			args := append(backfillUsers(), "--type", "jsonb", "--transform", "external", "--subject", "crypto.users")
			var o outcome
			testenv.Eventually(t, 90*time.Second, func() error {
				if o = s.run(args...); o.code == app.CodeUnavailable {
					return errors.New(o.err)
				}
				return nil
			})
			o.refusedWith(t, app.CodeUnproven, tc.says, "mend what it names")
			if strings.Contains(o.err, "example.org") || testenv.One[bool](t, db, `SELECT EXISTS (SELECT FROM cipherfleet.events WHERE details::text LIKE '%example.org%')`) {
				t.Error("a value is shown")
			}
			if n := testenv.One[int](t, db, `SELECT count(email_encrypted) FROM users`); n != 0 {
				t.Errorf("%d rows were written", n)
			}
		})
	}
}

// standInForEQL is as much of EQL 2 as is looked at: its schema, its type, its configuration, and the function that its
// proxy answers.
const standInForEQL = `CREATE SCHEMA eql_v2; CREATE TYPE public.eql_v2_encrypted AS (data jsonb); CREATE TABLE public.reloads (at timestamptz DEFAULT now(), application text);
CREATE FUNCTION eql_v2.reload_config() RETURNS void LANGUAGE sql AS $$INSERT INTO public.reloads (application) VALUES (current_setting('application_name'))$$;
CREATE TABLE public.eql_v2_configuration (id bigint GENERATED ALWAYS AS IDENTITY, state text, data jsonb);
INSERT INTO public.eql_v2_configuration (state, data) VALUES ('pending', '{"v":1,"tables":{"users":{"sealed":{"cast_as":"text"},"note_encrypted":{"cast_as":"text"}}}}')`

// TestAColumnOfEQLIsCutOverAlone: EQL's own rename would move every pending column. A row that misses its payload is made
// up for by the encrypter, the configuration stays as it is, and the proxy is told; where it cannot be, that is no error.
func TestAColumnOfEQLIsCutOverAlone(t *testing.T) {
	t.Parallel()
	for name, proxy := range map[string]string{"told": "", "out of reach": "postgres://nobody@127.0.0.1:1/nothing"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			people(t, db, 300)
			db.Run(t, standInForEQL)
			db.Run(t, `ALTER TABLE users ADD note_encrypted public.eql_v2_encrypted`)
			s, server := fleet(t, db)
			s.write("cipherfleet.yaml", manifestOfEncrypter, 0o600)
			ownEncrypter(t, server, eqlAnswer)
			testenv.Eventually(t, time.Minute, func() error {
				if o := s.run(backfillUsers()...); o.code != app.CodeDone {
					return fmt.Errorf("exit code %d: %s", o.code, o.err)
				}
				return nil
			})
			s.must("verify", "--table", "users")
			db.Run(t, `INSERT INTO users (id, email) VALUES (1000, 'late@example.org')`)
			s.with("CIPHERFLEET_PROXY_URL", cmp.Or(proxy, db.URL))
			var o outcome
			testenv.Eventually(t, time.Minute, func() error { // the coordinator may be sweeping
				if o = s.run("cutover", "users.email", "--reason", "a row came in late"); o.code != app.CodeDone {
					return fmt.Errorf("exit code %d: %s", o.code, o.err)
				}
				return nil
			})
			reloads := testenv.Column[string](t, db, `SELECT application FROM reloads`)
			if told := proxy == ""; told != (len(reloads) == 1) || told == strings.Contains(o.err, "warning: the proxy") || strings.Contains(o.err, "nobody@") {
				t.Errorf("%d reloads, and aside: %s", len(reloads), o.err)
			}
			want := []string{"id bigint", "email_plaintext text", "note text", "note_encrypted eql_v2_encrypted", "email eql_v2_encrypted"}
			columns := testenv.Column[string](t, db, `SELECT attname || ' ' || format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`)
			if !slices.Equal(columns, want) {
				t.Errorf("the columns are %v, want %v", columns, want)
			}
			if n := testenv.One[int](t, db, `SELECT count(*) FROM eql_v2_configuration WHERE state = 'pending'`); n != 1 {
				t.Error("EQL's configuration was changed")
			}
			if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE (email).data->>'c' IS DISTINCT FROM encode(convert_to(email_plaintext, 'UTF8'), 'hex')`); n != 0 {
				t.Errorf("%d rows hold something else", n)
			}
			db.Run(t, `INSERT INTO users (id, email) VALUES (1001, ROW('{"v":2,"i":{"t":"users","c":"email"},"c":"m"}'::jsonb)::eql_v2_encrypted)`)
			if _, err := db.Exec(t.Context(), `INSERT INTO users (id, email) VALUES (1002, ROW('"new@example.org"'::jsonb)::eql_v2_encrypted)`); pg.Code(err) != "23514" {
				t.Errorf("plaintext was let in: %v", err)
			}
			v := parsed[verify.Result](t, s.must("verify", "--table", "users", "--json").out)
			if !v.Proven || v.Columns[0].Rows != 302 || v.Columns[0].Ahead != 1 {
				t.Errorf("verification found %+v", v)
			}
			const indexesSQL = `SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'users'::regclass ORDER BY 1`
			indexes := testenv.Column[string](t, db, indexesSQL)
			s.run("rollback", "users.email").refusedWith(t, app.CodeRefused, "only the encrypter on crypto.users can open", `column "email_plaintext"`)
			if left := testenv.Column[string](t, db, indexesSQL); !slices.Equal(left, indexes) {
				t.Errorf("the refusal leaves indexes %v, of %v", left, indexes)
			}
			db.Run(t, `UPDATE users SET email_plaintext = 'new@example.org' WHERE id = 1001`)
			o = s.must("rollback", "users.email")
			reloads = testenv.Column[string](t, db, `SELECT application FROM reloads`)
			if told := proxy == ""; told != (len(reloads) == 2) || told == strings.Contains(o.err, "warning: the proxy") {
				t.Errorf("after the rollback %d reloads, and aside: %s", len(reloads), o.err)
			}
			if back := testenv.One[string](t, db, `SELECT email FROM users WHERE id = 1001`); back != "new@example.org" {
				t.Error("a value written since the cutover is lost")
			}
			db.Run(t, `UPDATE users SET email = 'other@example.org' WHERE id = 1001`)
			if !testenv.One[bool](t, db, `SELECT sealed IS NULL FROM users WHERE id = 1001`) {
				t.Error("capture is not back")
			}
			s.must(backfillUsers()...)
			s.must("verify", "--table", "users")
			s.must("cutover", "users.email", "--reason", "once more")
			s.must("drop", "users.email", "--apply")
			o = s.must("verify", "--table", "users", "--json")
			if v := parsed[verify.Result](t, o.out); !v.Proven || v.Columns[0].Covered != 302 || v.Columns[0].Source != "" {
				t.Errorf("without its plaintext verification found %+v", v)
			}
			if _, err := db.Exec(t.Context(), `UPDATE users SET email = ROW('"new@example.org"'::jsonb)::eql_v2_encrypted`); pg.Code(err) != "23514" {
				t.Errorf("without its plaintext the column lets plaintext in: %v", err)
			}
		})
	}
}

func TestRefusalsOfATransformByOthers(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	db.Run(t, `CREATE TYPE public.eql_v2_encrypted AS (data jsonb, more int); ALTER TABLE users ADD small varchar(20), ADD odd public.eql_v2_encrypted, ADD doc jsonb`)
	s := newShell(t, db.URL).withKey()
	external := []string{"backfill", "--table", "users", "--column", "email", "--transform", "external"}
	with := func(more ...string) []string { return append(external[:len(external):len(external)], more...) }
	for name, tc := range map[string]struct {
		args          []string
		code          int
		message, hint string
	}{
		"no NATS":         {with("--subject", "crypto.users", "--target", "doc"), app.CodeRefused, "there is no NATS to ask it over", "set NATS_URL"},
		"no subject":      {with(), app.CodeUsage, "columns[0].external.subject", "backfill --help"},
		"wild subject":    {with("--subject", "crypto.>"), app.CodeUsage, "must be a NATS subject", "backfill --help"},
		"our subject":     {with("--subject", "cipherfleet.v1.job.start"), app.CodeUsage, "must be a NATS subject", "backfill --help"},
		"lost subject":    {append(backfillUsers(), "--subject", "crypto.users"), app.CodeUsage, "only for transform external", "backfill --help"},
		"no such type":    {with("--subject", "crypto", "--prepare", "--type", "xml"), app.CodeUsage, "accepted is bytea, text, jsonb, eql_v2_encrypted", "backfill --help"},
		"target of cells": {with("--subject", "crypto", "--target", "small"), app.CodeRefused, `target "small" has type character varying(20), accepted is bytea, text, jsonb, eql_v2_encrypted`, "name another target"},
		"odd EQL":         {with("--subject", "crypto", "--target", "odd"), app.CodeRefused, "is not a jsonb called data", "install EQL 2"},
		"odd EQL to add":  {with("--subject", "crypto", "--prepare", "--type", "eql_v2_encrypted"), app.CodeRefused, "is not a jsonb called data", "install EQL 2"},
		"other type":      {with("--subject", "crypto", "--target", "doc", "--type", "text"), app.CodeRefused, `target "doc" has type jsonb, not text`, "leave --type out"},
		"no target":       {with("--subject", "crypto", "--type", "jsonb"), app.CodeRefused, `has no column "email_encrypted"`, `ADD COLUMN "email_encrypted" jsonb`},
	} {
		unchanged(t, db, func() {
			t.Log(name)
			s.run(tc.args...).refusedWith(t, tc.code, tc.message, tc.hint)
		})
	}
	s.must(backfillUsers()...)
	s.run(with("--subject", "crypto")...).refusedWith(t, app.CodeRefused, `the values of "email" are cells`, "cipherfleet rollback")
	s.write("cipherfleet.yaml", "version: 1\ntables:\n  - table: users\n    columns:\n      - {source: note, type: jsonb, transform: proxy}\n", 0o600)
	s.run("backfill", "--table", "users", "--column", "note", "--prepare").refusedWith(t, app.CodeUsage, "written through an encrypting proxy, and CIPHERFLEET_PROXY_URL is not set", "set CIPHERFLEET_PROXY_URL")
}
