package control_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// newKEK makes a key's file.
func newKEK(t *testing.T) (uri string, kek cell.KEK) {
	t.Helper()
	uri = "file:" + filepath.Join(t.TempDir(), "kek.json")
	if err := kms.CreateFile(strings.TrimPrefix(uri, "file:")); err != nil {
		t.Fatal(err)
	}
	kek, err := kms.Open(t.Context(), uri, "")
	if err != nil {
		t.Fatal(err)
	}
	return uri, kek
}

// TestTheExampleOfTheDocumentsWorks: it is run, and it is the one that docs/library.md shows.
func TestTheExampleOfTheDocumentsWorks(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text); INSERT INTO users SELECT g, 'User' || g || '@Example.org' FROM generate_series(1, 3000) g`)
	uri, kek := newKEK(t)
	var out bytes.Buffer
	if err := encryptEmails(t.Context(), db.URL, uri, &out); err != nil || !strings.HasSuffix(out.String(), "\nproven: true\n") || !strings.Contains(out.String(), "3000 of about ") {
		t.Errorf("it said %s, %v", out.String(), err)
	}
	if email := testenv.One[string](t, db, `SELECT email FROM users WHERE id = 1`); email != "User1@Example.org" {
		t.Errorf("the hook changed the source into %s", email)
	}
	unaware := &verify.Verifier{DB: db.DB, KEK: kek, Seen: func(_, _ int64) {}}
	if v, err := unaware.Verify(t.Context(), verify.Request{Schema: "public", Table: "users"}); err != nil || v.Proven || v.Columns[0].Stale != 3000 {
		t.Errorf("without the hook: %+v, %v", v, err)
	}

	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(source), "// encryptEmails encrypts")
	code, _, _ = strings.Cut(code, "\n// A backfill in one's own program")
	shown, err := os.ReadFile("../../docs/library.md")
	if err != nil || !strings.Contains(string(shown), "// encryptEmails encrypts"+code+"```\n") {
		t.Errorf("docs/library.md shows another example: %v", err)
	}
}

// TestSoloGoesOnWhereItStood: ended in the middle, by several workers, with a hook that refuses a value.
func TestSoloGoesOnWhereItStood(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text); INSERT INTO users SELECT g, 'user' || g FROM generate_series(1, 20000) g; ANALYZE users`)
	_, kek := newKEK(t)
	request := messages.StartRequest{Schema: "public", Table: "users", Prepare: true, ChunkRows: 500, Columns: []messages.ColumnRequest{{Source: "email", Target: "email_encrypted"}}}
	var rows atomic.Int64
	ctx, end := context.WithCancel(t.Context())
	defer end()
	solo := &control.Solo{DB: db.DB, KEK: kek, Workers: 2, Progress: func(p control.Progress) {
		if rows.Add(p.Rows) > 5000 {
			end()
		}
	}}
	if _, err := solo.Backfill(ctx, request); !errors.Is(err, context.Canceled) {
		t.Fatalf("it ended with %v", err)
	}
	if n := testenv.One[int64](t, db, `SELECT count(email_encrypted) FROM users`); n <= 5000 || n >= 20000 {
		t.Fatalf("%d rows are written", n)
	}
	rows.Store(0)
	before := testenv.One[int64](t, db, `SELECT sum(rows_processed)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`)
	solo.Progress = func(p control.Progress) { rows.Add(p.Rows) }
	solo.Before = map[string]transform.Hook{"email": func(wire []byte) ([]byte, error) {
		if string(wire) == "user19999" {
			return nil, fmt.Errorf("no address: %s", wire)
		}
		return wire, nil
	}}
	db.Run(t, `UPDATE users SET email_encrypted = NULL WHERE id = 19999`)
	job, err := solo.Backfill(t.Context(), request)
	if err != nil || job.State != "failed" || job.Quarantined != 1 || strings.Contains(job.StoppedBy, "user") {
		t.Fatalf("the job is %+v, %v", job, err)
	}
	solo.Before = nil
	job, err = solo.Backfill(t.Context(), request)
	if err != nil || job.State != "done" {
		t.Errorf("the next job is %+v, %v", job, err)
	}
	if all := before + rows.Load(); all != 20000 && all != 20001 { // row 19999 was written before or was not
		t.Errorf("%d rows were told of", all)
	}
	v, err := (&verify.Verifier{DB: db.DB, KEK: kek, Seen: func(_, _ int64) {}}).Verify(t.Context(), verify.Request{Schema: "public", Table: "users"})
	if err != nil || !v.Proven {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestSoloRefuses(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint, email text)`)
	_, kek := newKEK(t)
	solo := &control.Solo{DB: db.DB, KEK: kek}
	var problem *messages.Problem
	request := messages.StartRequest{Schema: "public", Table: "users", Prepare: true, Columns: []messages.ColumnRequest{{Source: "email", Target: "email_encrypted"}}}
	if _, err := solo.Backfill(t.Context(), request); !errors.As(err, &problem) || problem.Hint == "" {
		t.Errorf("a table without a key: %v", err)
	}
	db.Run(t, `ALTER TABLE users ADD PRIMARY KEY (id)`)
	held, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.Exec(t.Context(), `SELECT pg_advisory_lock(1668310636, 1)`); err != nil { // as a coordinator holds it
		t.Fatal(err)
	}
	if _, err := solo.Backfill(t.Context(), request); !errors.Is(err, control.ErrLed) {
		t.Errorf("beside a coordinator: %v", err)
	}
	held.Discard(t.Context())
}
