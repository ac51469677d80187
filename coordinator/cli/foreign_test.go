package cli

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/worker/runner"
)

const (
	rubySecret  = "a passphrase of the Ruby application"
	rubyColumns = `CREATE TABLE people (id bigint PRIMARY KEY, encrypted_ssn text, encrypted_ssn_iv text, encrypted_ssn_salt text)`
	rubyWhole   = `version: 1
tables:
  - table: people
    columns:
      - source: encrypted_ssn
        target: ssn
        transform: reencrypt
        from: {format: attr_encrypted, mode: per_attribute_iv_and_salt, key: ruby, iv: encrypted_ssn_iv, salt: encrypted_ssn_salt}
        schemes: {1: {}}
        cutover: by-name
`
)

// rubyApp is an application that keeps column ssn by attr_encrypted: a value, a vector and a salt in three columns.
type rubyApp struct {
	t     testing.TB
	conn  *pgx.Conn
	truth map[int64]*string // what was committed last
	next  int64
	stop  context.CancelFunc
	wait  sync.WaitGroup
	err   error
}

func newRubyApp(t testing.TB, db *testenv.DB, rows int) *rubyApp {
	t.Helper()
	a := &rubyApp{t: t, conn: must(pgx.Connect(t.Context(), db.URL+"&application_name=rails")), truth: map[int64]*string{}}
	t.Cleanup(func() { a.conn.Close(context.WithoutCancel(t.Context())) }) //nolint:errcheck // the end
	for range rows {
		if err := a.insert(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// sealed is a value as attr_encrypted 3 keeps it: nothing for nil, an empty text as it is.
func (a *rubyApp) sealed(value *string) []any {
	if value == nil {
		return []any{nil, nil, nil}
	}
	if *value == "" {
		return []any{"", nil, nil}
	}
	nonce, salt := make([]byte, 12), make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	_, _ = rand.Read(salt)
	block, err := aes.NewCipher(must(pbkdf2.Key(sha1.New, rubySecret, salt, 2000, 32)))
	if err != nil {
		panic(err)
	}
	cell := must(cipher.NewGCM(block)).Seal(nil, nonce, []byte(*value), nil)
	return []any{rubyLines(cell), rubyLines(nonce), "_" + rubyLines(salt)}
}

func rubyLines(b []byte) string {
	text, broken := base64.StdEncoding.EncodeToString(b), ""
	for len(text) > 60 {
		broken, text = broken+text[:60]+"\n", text[60:]
	}
	return broken + text + "\n"
}

func (a *rubyApp) value() *string {
	if mathrand.IntN(10) == 0 {
		return nil
	}
	text := ""
	if mathrand.IntN(20) > 0 {
		text = fmt.Sprintf("ssn-%d-grüße", mathrand.Int64())
	}
	return &text
}

func (a *rubyApp) insert(ctx context.Context) error {
	a.next++
	value := a.value()
	_, err := a.conn.Exec(ctx, `INSERT INTO people (id, encrypted_ssn, encrypted_ssn_iv, encrypted_ssn_salt) VALUES ($1, $2, $3, $4)`, append([]any{a.next}, a.sealed(value)...)...)
	if err == nil {
		a.truth[a.next] = value
	}
	return err
}

// write changes, adds or deletes one row.
func (a *rubyApp) write(ctx context.Context) error {
	id := 1 + mathrand.Int64N(a.next)
	switch mathrand.IntN(8) {
	case 0:
		return a.insert(ctx)
	case 1:
		_, err := a.conn.Exec(ctx, `DELETE FROM people WHERE id = $1`, id)
		if err == nil {
			delete(a.truth, id)
		}
		return err
	}
	value := a.value()
	tag, err := a.conn.Exec(ctx, `UPDATE people SET encrypted_ssn = $2, encrypted_ssn_iv = $3, encrypted_ssn_salt = $4 WHERE id = $1`, append([]any{id}, a.sealed(value)...)...)
	if err == nil && tag.RowsAffected() == 1 {
		a.truth[id] = value
	}
	return err
}

// live writes until leave.
func (a *rubyApp) live() {
	ctx, stop := context.WithCancel(a.t.Context())
	a.stop = stop
	a.wait.Go(func() {
		for ctx.Err() == nil && a.err == nil {
			a.err = a.write(context.WithoutCancel(ctx))
		}
	})
}

func (a *rubyApp) leave() {
	a.t.Helper()
	a.stop()
	a.wait.Wait()
	if a.err != nil {
		a.t.Fatalf("the application saw: %v", a.err)
	}
}

// TestAForeignColumnLivesUnderWrites: what attr_encrypted keeps in three columns becomes cells in a fleet while the Ruby
// application goes on writing; then an application of package client takes over, and what was is dropped.
func TestAForeignColumnLivesUnderWrites(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, rubyColumns)
	ruby := newRubyApp(t, db, 1500)
	server := testenv.NATS(t)
	s := newShell(t, db.URL).withKey().inNATS(server)
	s.write("foreign.json", `{"version": 1, "keys": {"ruby": {"text": "`+rubySecret+`"}}}`, 0o600)
	s.write("cipherfleet.yaml", rubyWhole, 0o600)
	s.with("CIPHERFLEET_FOREIGN_KEYS", "file:"+s.path("foreign.json"))
	s.serve("--workers", "2")
	leads(t, db)
	ruby.live()
	s.must("backfill", "--table", "people", "--column", "encrypted_ssn", "--prepare")
	ruby.leave()
	s.must("backfill", "--table", "people", "--column", "encrypted_ssn")
	if v := parsed[verify.Result](t, s.must("verify", "--table", "people", "--json").out); !v.Proven || v.Columns[0].Rows != int64(len(ruby.truth)) {
		t.Errorf("verification found %+v, want %d rows", v, len(ruby.truth))
	}
	c, pool := rubySuccessor(t, s)
	if _, err := c.Table(t.Context(), "public.people", "encrypted_ssn"); err == nil || !strings.Contains(err.Error(), "encrypted in format attr_encrypted until its cutover") {
		t.Errorf("before the cutover the client says %v", err)
	}
	s.must("cutover", "people.encrypted_ssn", "--soak", "0", "--strategy", "by-name")
	s.must("verify", "--table", "people")
	ruby.compare(c, pool)
	s.must("drop", "people.encrypted_ssn", "--apply")
	if columns := testenv.One[string](t, db, `SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'people'::regclass AND attnum > 0 AND NOT attisdropped`); columns != "id ssn" {
		t.Errorf("the columns that are left: %s", columns)
	}
	ruby.compare(c, pool)
	for _, table := range []string{"cipherfleet.events", "cipherfleet.jobs", "cipherfleet.ranges", "cipherfleet.quarantine"} {
		if n := testenv.One[int](t, db, `SELECT count(*) FROM `+table+` x WHERE x::text LIKE '%passphrase%' OR x::text LIKE '%ssn-%'`); n > 0 {
			t.Errorf("%d rows of %s show a key or a value", n, table)
		}
	}
}

func rubySuccessor(t *testing.T, s *shell) (*client.Client, *pgxpool.Pool) {
	t.Helper()
	pool := must(pgxpool.New(t.Context(), s.env["DATABASE_URL"]))
	t.Cleanup(pool.Close)
	kek := must(kms.Open(t.Context(), "file:"+s.path("cipherfleet.kek.json"), ""))
	c := must(client.Open(t.Context(), pool, client.Config{KEK: kek, Name: "successor", Poll: 50 * time.Millisecond}))
	t.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return c, pool
}

// compare reads every value through the client, and writes one.
func (a *rubyApp) compare(c *client.Client, pool *pgxpool.Pool) {
	a.t.Helper()
	ctx := a.t.Context()
	people := must(c.Table(ctx, "public.people", "encrypted_ssn"))
	changed := "written as a cell"
	for id := range a.truth {
		err := c.Do(ctx, func(ctx context.Context) error {
			_, err := pool.Exec(ctx, `UPDATE people SET {encrypted_ssn = $2 key $1} WHERE id = $1`, people, id, changed)
			return err
		})
		if err != nil {
			a.t.Fatal(err)
		}
		a.truth[id] = &changed
		break
	}
	rows := must(people.Query(ctx, pool, `SELECT id, {encrypted_ssn} FROM people`))
	defer rows.Close()
	seen := 0
	for rows.Next() {
		var id int64
		var value *string
		if err := rows.Scan(&id, &value); err != nil {
			a.t.Fatal(err)
		}
		if want, is := a.truth[id]; !is || (want == nil) != (value == nil) || want != nil && *want != *value {
			a.t.Errorf("row %d holds another value", id)
		}
		seen++
	}
	if err := rows.Err(); err != nil || seen != len(a.truth) {
		a.t.Errorf("%d rows, want %d: %v", seen, len(a.truth), err)
	}
}

// TestAWorkerWithoutAForeignKeyLeavesTheJobToOthers: it says which key it lacks, or that the one it has opens nothing, fails
// nothing, sets no row aside and shows nothing; one that has the key does the job.
func TestAWorkerWithoutAForeignKeyLeavesTheJobToOthers(t *testing.T) {
	t.Parallel()
	wrong := must(foreign.ParseKeys([]byte(`{"version": 1, "keys": {"ruby": {"text": "another passphrase, of the very same length or more"}}}`)))
	for name, has := range map[string]struct {
		keys *foreign.Keys
		says string
	}{
		"it has none":                    {nil, "foreign key ruby: there is no key of that name"},
		"it has another under that name": {wrong, "open the values of encrypted_ssn: none of 20 that were tried opens with the keys that are here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handsBack(t, has.keys, has.says)
		})
	}
}

func handsBack(t *testing.T, keys *foreign.Keys, word string) {
	t.Helper()
	db := testenv.Database(t)
	db.Run(t, rubyColumns)
	ruby := newRubyApp(t, db, 100)
	server := testenv.NATS(t)
	s := newShell(t, db.URL).withKey().inNATS(server)
	s.write("foreign.json", `{"version": 1, "keys": {"ruby": {"text": "`+rubySecret+`"}}}`, 0o600)
	s.write("cipherfleet.yaml", rubyWhole, 0o600)
	s.with("CIPHERFLEET_FOREIGN_KEYS", "file:"+s.path("foreign.json"))
	s.serve("--workers", "0")
	leads(t, db)
	var says guarded
	hand(t, db, s, server, "keyless", func(r *runner.Runner) { r.Log, r.Foreign = slog.New(slog.NewTextHandler(&says, nil)), keys })
	done := make(chan outcome, 1)
	go func() { done <- s.run("backfill", "--table", "people", "--column", "encrypted_ssn", "--prepare") }()
	testenv.Eventually(t, time.Minute, func() error {
		class := ""
		err := db.QueryRow(t.Context(), `SELECT coalesce(max(error_class), '') FROM cipherfleet.ranges`).Scan(&class)
		if err == nil && (class != "foreign_key" || !strings.Contains(says.String(), word)) {
			err = errors.New("the range was not handed back: " + class)
		}
		return err
	})
	if state := testenv.One[string](t, db, `SELECT state FROM cipherfleet.jobs`); state != "running" {
		t.Errorf("the job is %s", state)
	}
	right := must(foreign.LoadKeys(s.path("foreign.json")))
	hand(t, db, s, server, "able", func(r *runner.Runner) { r.Foreign = right })
	if o := <-done; o.code != app.CodeDone {
		t.Errorf("exit code %d\n%s", o.code, o.err)
	}
	if v := parsed[verify.Result](t, s.must("verify", "--table", "people", "--json").out); !v.Proven || v.Columns[0].Rows != int64(len(ruby.truth)) {
		t.Errorf("verification found %+v", v)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.quarantine`); n != 0 {
		t.Errorf("%d rows were set aside", n)
	}
	if strings.Contains(says.String(), rubySecret) || strings.Contains(says.String(), "ssn-") {
		t.Error("the log shows a key or a value")
	}
}
