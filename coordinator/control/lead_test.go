package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestAnEpochOutlivesACrashWhateverTheDatabaseCommitsLikeByDefault(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$`)
	again := testenv.Open(t, db.URL)
	p := New(Plane{DB: again.DB})
	conn, err := p.campaign(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Discard(t.Context())
	if how := testenv.One[string](t, conn, `SELECT current_setting('synchronous_commit')`); how == "off" {
		t.Error("the leader's epoch may be lost in a crash")
	}
	if _, err := New(Plane{DB: again.DB}).campaign(t.Context()); !errors.Is(err, ErrLed) {
		t.Errorf("a second leader: %v", err)
	}
}

// journal is a log that a test reads while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) has(words string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !strings.Contains(j.text.String(), words) {
		return fmt.Errorf("the log does not say %q", words)
	}
	return nil
}

// campaigning lets a coordinator lead or stand by until the test ends; each time it leads, it tells so. It looks around
// so rarely that nothing in a test waits for it.
func campaigning(t *testing.T, db *testenv.DB, server testenv.NATSServer, out io.Writer, alter ...func(*Plane)) <-chan struct{} {
	t.Helper()
	queue, err := bus.Connect(t.Context(), bus.Config{URL: server.URL, TokenFile: server.TokenFile, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	p := New(Plane{DB: db.DB, Bus: queue, AckWait: time.Second, Reconcile: time.Hour, Log: slog.New(slog.NewTextHandler(out, nil)), Tracer: noop.NewTracerProvider().Tracer("")})
	for _, f := range alter {
		f(p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	serving, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- p.Lead(ctx, func() { serving <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		queue.Close()
	})
	return serving
}

func TestALeadThatIsLostIsLookedForSoon(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	serving := campaigning(t, db, testenv.NATS(t), io.Discard)
	<-serving
	for range 3 { // no pause grows for a coordinator that led meanwhile
		db.Run(t, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = $1::int8::oid
 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, lockSpace)
		select {
		case <-serving:
		case <-time.After(time.Minute):
			t.Fatal("nobody leads")
		}
	}
}

func TestAStandbySaysForWhomItWaits(t *testing.T) {
	t.Parallel()
	db, server, log := testenv.Database(t), testenv.NATS(t), &journal{}
	<-campaigning(t, db, server, io.Discard)
	campaigning(t, db, server, log)
	testenv.Eventually(t, time.Minute, func() error { return log.has("this one stands by") })
	if err := log.has("application=cipherfleet-test"); err != nil {
		t.Error(err)
	}
}

// goneSQL are columns whose plaintext is gone, and a log that does not take it of the first.
const goneSQL = `CREATE TABLE broken (id bigint PRIMARY KEY, cell bytea CONSTRAINT cipherfleet_8_cell CHECK (cell IS NULL OR true));
CREATE TABLE sound (id bigint PRIMARY KEY, cell bytea CONSTRAINT cipherfleet_9_cell CHECK (cell IS NULL OR true));
INSERT INTO cipherfleet.columns (id, relid, source_attnum, target_attnum, schema_name, table_name, source, target, type)
 OVERRIDING SYSTEM VALUE SELECT n, name::regclass, 3, 2, 'public', name, 'email', 'cell', 'text' FROM (VALUES (8, 'broken'), (9, 'sound')) v(n, name);
INSERT INTO cipherfleet.events (table_name, column_name, event, phase) SELECT name, 'email', e, p FROM unnest(ARRAY['public.broken', 'public.sound']) name,
 (VALUES ('schema_added', 'schema-added'), ('dual_writing', 'dual-writing'), ('backfill_started', 'backfilling'), ('backfilled', 'backfilled'), ('cut_over', 'cut-over')) v(e, p);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
CREATE TRIGGER refuse BEFORE INSERT ON cipherfleet.events FOR EACH ROW WHEN (new.event = 'dropped' AND new.table_name = 'public.broken') EXECUTE FUNCTION refuse()`

func TestATroubleWithOneColumnKeepsNoOther(t *testing.T) {
	t.Parallel()
	db, log := testenv.Database(t), &journal{}
	db.Run(t, doneSQL)
	db.Run(t, goneSQL)
	db.Run(t, miss)
	<-campaigning(t, db, testenv.NATS(t), log, func(p *Plane) { p.CatchUp = time.Nanosecond })
	testenv.Eventually(t, time.Minute, func() error { return log.has("record that public.broken.email is dropped") })
	testenv.Eventually(t, time.Minute, func() error {
		if state := testenv.One[string](t, db, `SELECT state FROM cipherfleet.jobs`); state != "sweeping" {
			return fmt.Errorf("the job is %s, although a write was missed", state)
		}
		if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'dropped'`); n != 1 {
			return fmt.Errorf("%d columns are recorded as dropped", n)
		}
		return nil
	})
}
