package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// kinds are the events of a history.
func kinds(h status.History) (list []lifecycle.Kind) {
	for _, e := range h.Events {
		list = append(list, e.Kind)
	}
	return list
}

func TestHistoryIsTheWholeLog(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 3000)
	s := newShell(t, db.URL).withKey()
	s.must(append(backfillUsers(), "--chunk-rows", "500")...)
	s.must("verify", "--table", "users")
	chunks := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`)
	if chunks < 3 {
		t.Fatalf("%d checkpoints: too few for a sum", chunks)
	}

	unchanged(t, db, func() {
		h := parsed[status.History](t, s.must("history", "users.email", "--json").out)
		if h.Table != "public.users" || h.Column != "email" || len(h.Events) != 6 {
			t.Fatalf("the history is %+v", kinds(h))
		}
		sum := h.Events[3]
		if sum.Kind != lifecycle.KindCheckpoint || sum.Checkpoints != chunks || sum.Rows != 2700 || sum.Until == nil || sum.Until.Before(sum.At) || sum.Cursor != "" {
			t.Errorf("the checkpoints are %+v", sum)
		}
		if e := h.Events[5]; e.Kind != lifecycle.KindVerified || e.Phase != lifecycle.PhaseBackfilled || e.Actor == "" {
			t.Errorf("the last event is %+v", e)
		}
		text := s.must("history", "users.email").out
		for _, want := range []string{"public.users.email\n", "TIME ", "schema_added", "dual_writing", "about ", " checkpoints ", "  2700 ", "every row read was covered"} {
			if !strings.Contains(text, want) {
				t.Errorf("a person does not read %q in\n%s", want, text)
			}
		}
		if n := strings.Count(text, "\n"); n != 2+6 {
			t.Errorf("%d lines", n)
		}
	})
	checkEachCheckpoint(t, s, chunks)
}

// checkEachCheckpoint: --all shows every one, and keys only where they are asked for.
func checkEachCheckpoint(t *testing.T, s *shell, chunks int) {
	t.Helper()
	for _, keys := range []bool{false, true} {
		command := []string{"history", "users.email", "--all", "--json"}
		if keys {
			command = append(command, "--keys")
		}
		h := parsed[status.History](t, s.must(command...).out)
		rows, cursors := int64(0), 0
		for _, e := range h.Events {
			rows += e.Rows
			if e.Cursor != "" {
				cursors++
			}
			if e.Kind == lifecycle.KindCheckpoint && (e.Range == "" || e.Worker == "" || e.Checkpoints != 0) {
				t.Errorf("a checkpoint is %+v", e)
			}
		}
		if len(h.Events) != 5+chunks || rows != 2700 || (cursors > 0) != keys {
			t.Errorf("with keys %t: %d events, %d rows, %d cursors", keys, len(h.Events), rows, cursors)
		}
	}
	if text := s.must("history", "users.email", "--all").out; strings.Contains(text, "cursor") {
		t.Errorf("a person reads keys in\n%s", text)
	}
	if text := s.must("history", "users.email", "--all", "--keys").out; !strings.Contains(text, "cursor 3000") {
		t.Errorf("a person who asks for keys reads\n%s", text)
	}
}

func TestHistoryOfAPart(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	for limit, want := range map[string]string{"1": "backfilled", "2": "backfill_checkpoint backfilled"} {
		h := parsed[status.History](t, s.must("history", "users.email", "--limit", limit, "--json").out)
		var got []string
		for _, kind := range kinds(h) {
			got = append(got, string(kind))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("--limit %s: %v", limit, got)
		}
	}
	for since, want := range map[string]int{"1h": 5, "7d": 5, "2020-01-31": 5, "0s": 0, time.Now().Add(time.Hour).Format(time.RFC3339): 0} {
		if h := parsed[status.History](t, s.must("history", "users.email", "--since", since, "--json").out); len(h.Events) != want {
			t.Errorf("--since %s: %d events, want %d", since, len(h.Events), want)
		}
	}
	if text := s.must("history", "users.email", "--since", "0s").out; text != "public.users.email: nothing happened\n" {
		t.Errorf("of an empty part: %q", text)
	}
}

// TestHistoryOutlivesItsColumn: renamed, the table renamed, the column dropped, the table dropped.
func TestHistoryOutlivesItsColumn(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	same := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if h := parsed[status.History](t, s.must("history", name, "--json").out); h.Table != "public.users" || h.Column != "email" || len(h.Events) != 5 {
				t.Errorf("%s is the history of %s.%s with %d events", name, h.Table, h.Column, len(h.Events))
			}
		}
	}
	same("users.email", "public.users.email")
	db.Run(t, `ALTER TABLE users RENAME email TO mail; ALTER TABLE users RENAME TO people`)
	same("users.email", "users.mail", "people.mail", "people.email")
	db.Run(t, `ALTER TABLE people DROP mail CASCADE`)
	same("people.email", "users.email")
	db.Run(t, `DROP TABLE people`)
	same("users.email")
}

func TestHistoryRefuses(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 1)
	s := newShell(t, db.URL)
	unchanged(t, db, func() {
		s.run("history", "users.email").refusedWith(t, app.CodeRefused, `no column "email" of public.users was ever registered`, "cipherfleet status")
		s.run("history", "users.email", "--since", "yesterday").refusedWith(t, app.CodeUsage, `--since was "yesterday"`, "--help")
		s.run("history", "users.email", "--limit", "-1").refusedWith(t, app.CodeUsage, "--limit was -1", "--help")
		s.run("history").refusedWith(t, app.CodeUsage, "the column is missing: name it, as in users.email", "--help")
		s.run("history", "--column", "email").refusedWith(t, app.CodeUsage, "--table is missing", "--help")
		s.run("history", "users.email", "--keys").refusedWith(t, app.CodeUsage, "--keys is for --all", "--help")
	})
	newShell(t, testenv.EmptyDatabase(t).URL).run("history", "users.email").refusedWith(t, app.CodeRefused, "not installed", "cipherfleet install")
}
