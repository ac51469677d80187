// Package leak hunts for what must not leave Postgres and the memory of a worker.
//
// A *world* is a whole installation, each program a process of its own: Postgres, NATS, a coordinator, workers, and the
// commands of an operator, with as much logging and tracing as there is. Its table holds values and keys of rows that
// are marked. Everything goes wrong that can: an encrypter of the user's own gives back what it was given, or answers
// for another column; rows resist; cells are damaged, cut and moved; keys are missing or wrong; a worker is killed; an application with a
// client makes every mistake. The *ear* keeps every message on NATS. In the end every place that is not Postgres's own table is searched for the
// *needles*: values, keys of rows, cells, tokens, and keys of keys, in every form in which they could be written down.
//
// It all happens a second time where only approved modes may run (GODEBUG=fips140=only), which is then proven for the
// worker's path as well.
package leak

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const (
	done     = 0
	waiting  = 3
	refused  = 4
	unproven = 5
	away     = 6
	rowCount = 300
)

// world is one installation and what it has said so far.
type world struct {
	t         *testing.T
	programs  string
	dir, logs string
	env       []string
	said      []string // files
	tenants   string   // the one of them that may name tenants: key ls, which is asked for them
	kekFile   string
	db        *testenv.DB
	ear       *ear
	traces    *testenv.Receiver
	store     string // folder of NATS
	plainMark string // in every value
	keyMark   string // in every key of a row
}

func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	programs := testenv.Programs(t)
	for name, godebug := range map[string]string{"everything may run": "", "only approved modes may run": "fips140=only"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, programs, godebug)
			w.live(godebug != "")
			w.search()
		})
	}
}

func newWorld(t *testing.T, programs, godebug string) *world {
	t.Helper()
	server := testenv.OwnNATS(t)
	w := &world{
		t: t, programs: programs, dir: t.TempDir(), logs: t.TempDir(), db: testenv.EmptyDatabase(t), traces: testenv.OTLP(t), store: filepath.Dir(server.TokenFile()),
		plainMark: "plain" + strings.ReplaceAll(uuid.NewString(), "-", "")[:16], keyMark: "rowkey" + strings.ReplaceAll(uuid.NewString(), "-", "")[:16],
	}
	w.kekFile = filepath.Join(w.dir, "cipherfleet.kek.json")
	w.env = []string{
		"DATABASE_URL=" + w.db.URL, "NATS_URL=" + server.URL(), "CIPHERFLEET_NATS_TOKEN_FILE=" + server.TokenFile(), "HOME=" + w.dir, "CIPHERFLEET_KEK=file:" + w.kekFile,
		"CIPHERFLEET_LOG_LEVEL=debug", "CIPHERFLEET_LISTEN=off", "CIPHERFLEET_WORKER_LISTEN=off", "OTEL_EXPORTER_OTLP_ENDPOINT=" + w.traces.URL,
		"CIPHERFLEET_LEASE=3s", "CIPHERFLEET_ACK_WAIT=5s", "CIPHERFLEET_RECONCILE=200ms",
	}
	if godebug != "" {
		w.env = append(w.env, "GODEBUG="+godebug)
	}
	var err error
	if w.ear, err = listen(server); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.ear.conn.Close)
	w.db.Run(t, `CREATE TABLE people (id text PRIMARY KEY, email text, note text, phone text, tenant text)`)
	w.db.Run(t, `INSERT INTO people SELECT $1 || '-' || g, $2 || '-e' || g, $2 || '-n' || g, $2 || '-p' || g, $1 || '-t' || g % 3 FROM generate_series(1, $3::int) g`, w.keyMark, w.plainMark, rowCount)
	return w
}

// live is the whole story.
func (w *world) live(onlyApproved bool) {
	w.t.Helper()
	w.ends(done, "init", "--table", "people", "--column", "email", "--column", "note")
	coordinator := w.start("cipherfleet", "serve")
	coordinator.says(w.t, `"this coordinator leads"`)
	first := w.start("cipherfleet-worker")
	first.says(w.t, `"the worker is ready"`)
	first.says(w.t, fmt.Sprintf(`"only_approved_modes":%v`, onlyApproved))
	for _, p := range []*program{coordinator, first} {
		p.keepsItsMemory(w.t)
	}
	w.succeeds("backfill", "--table", "people", "--column", "email", "--prepare")
	first.kill()
	second := w.start("cipherfleet-worker")
	w.resist()
	w.ends(done, "verify", "--table", "people", "--report", "proof.json")
	w.damage()
	w.rotate()
	w.apply()
	w.deceive()
	w.loseKeys()
	for _, look := range [][]string{{"status"}, {"status", "--json"}, {"plan"}, {"history", "people.email"}, {"history", "people.email", "--json"}, {"residue", "people.email"}, {"job", "ls", "--json"}, {"config", "show"}} {
		w.run(look...)
	}
	second.drain(w.t)
	coordinator.drain(w.t)
	w.ends(done, "key", "rotate-kek", "--to", "file:next.kek.json", "--create")
	w.kekFile = filepath.Join(w.dir, "next.kek.json")
}

// resist: a trigger of the user's own keeps some rows as they are; they go into quarantine, and out of it.
func (w *world) resist() {
	w.t.Helper()
	w.db.Run(w.t, `CREATE FUNCTION resist() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF old.id LIKE '%7' THEN RETURN NULL; END IF; RETURN new; END$$;
CREATE TRIGGER resist BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION resist()`)
	testenv.Eventually(w.t, time.Minute, func() error {
		if code, said := w.run("backfill", "--table", "people", "--column", "note", "--prepare", "--user-triggers", "fire"); code != unproven {
			return errors.New(said)
		}
		return nil
	})
	job := testenv.One[string](w.t, w.db, `SELECT id::text FROM cipherfleet.jobs ORDER BY created_at DESC LIMIT 1`)
	w.ends(done, "job", "show", job, "--quarantined")
	w.ends(done, "job", "show", job, "--quarantined", "--json")
	w.db.Run(w.t, `DROP TRIGGER resist ON people`)
	w.succeeds("job", "retry", job, "--quarantined")
}

// damage: what is no cell of the column does not get in; what passes for one and is none is found, and made anew.
func (w *world) damage() {
	w.t.Helper()
	for name, value := range map[string]string{
		"the value itself": `convert_to(email, 'UTF8')`, "another column's cell": `note_encrypted`, "nothing": `''::bytea`,
		"a cell cut below its least": `substr(email_encrypted, 1, 31)`, "a cell without its magic": `substr(email_encrypted, 2)`, "a cell in hexadecimal": `convert_to(encode(email_encrypted, 'hex'), 'UTF8')`,
	} {
		_, err := w.db.Exec(w.t.Context(), `UPDATE people SET email_encrypted = `+value+` WHERE id LIKE '%-5'`)
		if pg.Code(err) != "23514" {
			w.t.Errorf("%s: Postgres takes it: %v", name, err)
		}
	}
	for row, value := range []string{
		`(SELECT email_encrypted FROM people WHERE id LIKE '%-9')`, `overlay(email_encrypted PLACING '\x0009' FROM 7)`, `substr(email_encrypted, 1, 40)`, `set_byte(email_encrypted, 30, get_byte(email_encrypted, 30) # 1)`,
		`overlay(email_encrypted PLACING '\x00000063' FROM 13)`, `overlay(email_encrypted PLACING '\x02' FROM 9)`,
	} {
		w.db.Run(w.t, fmt.Sprintf(`UPDATE people SET email_encrypted = %s WHERE id LIKE '%%-%d'`, value, row+1))
	}
	said := w.ends(unproven, "verify", "--table", "people", "--column", "email", "--json")
	if !strings.Contains(said, `"broken":6`) {
		w.t.Errorf("not all that was damaged was found:\n%s", said)
	}
	w.ends(unproven, "verify", "--table", "people", "--column", "email")
	w.db.Run(w.t, `UPDATE people SET email_encrypted = NULL WHERE id ~ '-[1-6]$'`)
	w.succeeds("backfill", "--table", "people", "--column", "email")
	w.ends(done, "verify", "--table", "people", "--column", "email")
}

// rotate: another key for one column, and a blind index; keys of tenants for another, of which one is shredded.
func (w *world) rotate() {
	w.t.Helper()
	w.ends(done, "scheme", "new", "people.email")
	w.succeeds("rotate", "people.email")
	w.succeeds("scheme", "retire", "people.email", "1")
	w.ends(done, "verify", "--table", "people", "--column", "email")
	w.ends(done, "index", "new", "people.email", "email_bidx", "--unique")
	w.succeeds("index", "build", "people.email", "email_bidx")
	w.ends(done, "scheme", "new", "people.note", "--tenant", "tenant")
	w.succeeds("rotate", "people.note", "--user-triggers", "fire")
	w.ends(done, "scheme", "shred", "people.note", "--tenant", w.keyMark+"-t1", "--reason", "a request")
	w.ends(done, "key", "rewrap")
	for _, look := range [][]string{{"scheme", "ls", "people.note", "--count"}, {"scheme", "ls", "people.email", "--json"}, {"verify", "--table", "people"}, {"index", "ls", "people.email", "--count", "--json"}, {"key", "ls"}} {
		w.run(look...)
	}
	w.tenants = w.said[len(w.said)-1]
}

// deceive: an encrypter of the user's own breaks its contract in every way, and nothing of it reaches the table.
func (w *world) deceive() {
	w.t.Helper()
	const ways = 5
	w.ear.set(func(request int, r messages.ExternalRequest) messages.ExternalAnswer {
		a := honest(r)
		for i, v := range r.Values {
			switch request % ways {
			case 0: // it gives back what it was given
				a.Results[i].Value, _ = json.Marshal(v.Value)
			case 1: // inside a payload
				a.Results[i].Value = payload(r, r.Column, 2, v.Value)
			case 2: // for another column
				a.Results[i].Value = payload(r, "email", 2, sealed(v.Value))
			case 3: // of another scheme
				a.Results[i].Value = payload(r, r.Column, "two", sealed(v.Value))
			}
		}
		if request%ways == 4 { // cut off
			a.Results = a.Results[:len(a.Results)-1]
		}
		return a
	})
	backfill := []string{"backfill", "--table", "people", "--column", "phone", "--prepare", "--type", "jsonb", "--transform", "external", "--subject", encrypterSubject}
	testenv.Eventually(w.t, 3*time.Minute, func() error {
		if code, said := w.run(backfill...); code == done {
			w.t.Fatalf("a deceiver's answers were taken:\n%s", said)
		}
		if n := w.ear.requests(); n < ways {
			return fmt.Errorf("%d answers so far", n)
		}
		return nil
	})
	if n := testenv.One[int](w.t, w.db, `SELECT count(*) FROM people WHERE phone_encrypted IS NOT NULL`); n != 0 {
		w.t.Errorf("%d rows hold what a deceiver said", n)
	}
	for name, value := range map[string]string{
		"the value itself": `to_jsonb(phone)`, "another column's": `jsonb_build_object('v', 2, 'i', jsonb_build_object('t', 'people', 'c', 'email'), 'c', 'x')`, "nothing": `'{}'`,
	} {
		if _, err := w.db.Exec(w.t.Context(), `UPDATE people SET phone_encrypted = `+value); pg.Code(err) != "23514" {
			w.t.Errorf("%s: Postgres takes it: %v", name, err)
		}
	}
	w.ear.set(func(_ int, r messages.ExternalRequest) messages.ExternalAnswer { return honest(r) })
	w.succeeds(backfill...)
}

func sealed(value string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(value))) }

func payload(r messages.ExternalRequest, column string, version any, ciphertext string) json.RawMessage {
	_, table, _ := strings.Cut(r.Table, ".")
	body, _ := json.Marshal(map[string]any{"v": version, "i": map[string]string{"t": table, "c": column}, "c": ciphertext}) // nothing in it can fail
	return body
}

func honest(r messages.ExternalRequest) (a messages.ExternalAnswer) {
	for _, v := range r.Values {
		a.Results = append(a.Results, messages.ExternalResult{ID: v.ID, Value: payload(r, r.Column, 2, sealed(v.Value))})
	}
	return a
}

// loseKeys: the key is another one, is open to others, is gone; commands say so, and what is wrong with the key.
func (w *world) loseKeys() {
	w.t.Helper()
	if err := kms.CreateFile(filepath.Join(w.dir, "other.json")); err != nil {
		w.t.Fatal(err)
	}
	verify := []string{"verify", "--table", "people", "--column", "email"}
	mine := w.env
	w.env = append(append([]string(nil), mine...), "CIPHERFLEET_KEK=file:"+filepath.Join(w.dir, "other.json"))
	w.ends(refused, verify...)
	w.env = append(append([]string(nil), mine...), "CIPHERFLEET_KEK=file:"+filepath.Join(w.dir, "gone.json"))
	w.ends(away, verify...)
	w.env = mine
	if err := os.Chmod(w.kekFile, 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.ends(refused, verify...)
	if err := os.Chmod(w.kekFile, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// search looks everywhere.
func (w *world) search() {
	w.t.Helper()
	values, rows := newNeedle("a value", []byte(w.plainMark)), newNeedle("a key of a row", []byte(w.keyMark))
	var keys, cells, tokens []needle
	for i, key := range w.keyMaterial() {
		keys = append(keys, newNeedle(fmt.Sprintf("key %d", i), key))
	}
	for _, column := range []string{"email_encrypted", "note_encrypted"} {
		for _, c := range testenv.Column[[]byte](w.t, w.db, `SELECT DISTINCT substr(`+column+`, 1, 16) FROM people`) {
			cells = append(cells, newNeedle("the front of a cell in "+column, c))
		}
		for _, c := range testenv.Column[[]byte](w.t, w.db, `SELECT `+column+` FROM people ORDER BY random() LIMIT 20`) {
			cells = append(cells, newNeedle("a cell of "+column, c[cell.HeaderSize:cell.HeaderSize+cell.SaltSize]))
		}
	}
	for _, token := range testenv.Column[[]byte](w.t, w.db, `SELECT email_bidx FROM people ORDER BY random() LIMIT 20`) {
		tokens = append(tokens, newNeedle("a token of email", token))
	}
	if len(keys) < 7 || len(cells) < 42 || len(tokens) < 20 {
		w.t.Fatalf("%d keys, %d cells and %d tokens to look for", len(keys), len(cells), len(tokens))
	}
	everything := slices.Concat([]needle{values, rows}, keys, cells, tokens)
	for name, text := range w.places() {
		if len(text) == 0 {
			w.t.Errorf("there is nothing in %s", name)
		}
		if name == filepath.Base(w.tenants) {
			w.look(name, text, slices.DeleteFunc(slices.Clone(everything), func(n needle) bool { return n.name == rows.name }))
			continue
		}
		w.look(name, text, everything)
	}
	inPostgres := slices.Concat([]needle{values}, keys, tokens)
	for _, c := range cells {
		if strings.HasPrefix(c.name, "a cell") { // a canary is under the same scheme, so it has the same front
			inPostgres = append(inPostgres, c)
		}
	}
	for _, table := range testenv.Column[string](w.t, w.db, `SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'cipherfleet'::regnamespace AND c.relkind IN ('r', 'p')`) {
		text := strings.Join(testenv.Column[string](w.t, w.db, `SELECT t::text FROM `+table+` t`), "\n")
		w.look(table, []byte(text), inPostgres)
	}
}

// places is everything outside Postgres that the programs have written to.
func (w *world) places() map[string][]byte {
	w.t.Helper()
	heard, kinds := w.ear.text()
	if len(kinds) < 5 {
		w.t.Errorf("little was heard on NATS: %v", kinds)
	}
	spans := w.traces.Spans()
	all := map[string][]byte{"NATS": heard, "traces": fmt.Appendf(nil, "%+v", spans), "the store of NATS": w.folder(w.store), "the folder of the programs": w.folder(w.dir)}
	if len(spans) < 20 {
		w.t.Errorf("%d spans", len(spans))
	}
	for _, log := range w.said {
		text, err := os.ReadFile(log)
		if err != nil {
			w.t.Fatal(err)
		}
		all[filepath.Base(log)] = append(text, ' ') // a command may have nothing to say
	}
	return all
}

// folder is what all files of a folder hold, but for the keys, which are where they belong.
func (w *world) folder(dir string) (all []byte) {
	w.t.Helper()
	err := filepath.WalkDir(dir, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || at == w.kekFile {
			return err
		}
		content, err := os.ReadFile(at)
		all = append(append(all, content...), '\n')
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w *world) look(place string, text []byte, needles []needle) {
	w.t.Helper()
	for _, n := range needles {
		if !n.found(text) {
			continue
		}
		for line := range bytes.Lines(text) {
			if n.found(line) {
				w.t.Errorf("%s shows in %s: %.400s", n.name, place, line)
				break
			}
		}
		w.t.Errorf("%s is in %s", n.name, place)
	}
}
