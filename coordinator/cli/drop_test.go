package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestDropAsAMigration: the file of each style, run by its tool, takes the plaintext and nothing else; that it is
// dropped is known when somebody sees it gone, not before.
func TestDropAsAMigration(t *testing.T) {
	t.Parallel()
	for style, run := range tools() {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			db, s := cutOverUsers(t, 50)
			out := s.path("7_drop.sql")
			done := parsed[dropDone](t, s.must("drop", "users.email", "--format", style, "--out", out, "--json").out)
			if done.State != "planned" || done.Plaintext != "email_plaintext" || len(done.Scripts) == 0 || phaseOf(t, db) != "cut-over" {
				t.Fatalf("drop said %+v, the phase is %s", done, phaseOf(t, db))
			}
			scripts := done.Scripts
			for i, script := range scripts {
				scripts[i].Text, scripts[i].down = string(must(os.ReadFile(script.Path))), strings.HasSuffix(script.Path, ".down.sql")
			}
			if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'drop_planned' AND details->>'file' LIKE '7_drop%' AND details->>'style' = $1 AND length(details->>'sha256') = 64`, style); n != 1 {
				t.Error("the log does not say which file was written")
			}
			if err := run(t, db, scripts, true); err != nil {
				t.Fatal(err)
			}
			if columns := strings.TrimSuffix(columnsOf(t, db, "users"), " n"); columns != "id note email" || phaseOf(t, db) != "cut-over" {
				t.Errorf("the table has %s, the phase is %s", columns, phaseOf(t, db))
			}
			if n := testenv.One[int](t, db, `SELECT count(email) FROM users`); n != 45 {
				t.Errorf("%d cells are left", n)
			}
			for range 2 {
				if o := s.must("drop", "users.email"); !strings.HasPrefix(o.out, "the plaintext of public.users.email is dropped\n") {
					t.Errorf("drop again said %q", o.out)
				}
			}
			if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'dropped'`); n != 1 || phaseOf(t, db) != "dropped" {
				t.Errorf("%d events tell it, the phase is %s", n, phaseOf(t, db))
			}
			if err := run(t, db, scripts, false); err != nil || columnsOf(t, db, "users") != "id note email email_plaintext" {
				t.Errorf("the way back: %v, columns %s", err, columnsOf(t, db, "users"))
			}
		})
	}
}

func TestDropApply(t *testing.T) {
	t.Parallel()
	db, s := cutOverUsers(t, 50)
	db.Run(t, `CREATE INDEX by_plain ON users (email_plaintext, note); CREATE STATISTICS together ON email_plaintext, note FROM users;
CREATE FUNCTION mails() RETURNS SETOF text LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT email_plaintext FROM users; END'`)
	unchanged(t, db, func() {
		o := s.must("drop", "users.email", "--dry-run")
		for _, want := range []string{"goes with it: index public.by_plain, statistics public.together\n", "knows it by its name, and will not find it any more: function public.mails()\n"} {
			if !strings.Contains(o.err, want) {
				t.Errorf("it does not say %q:\n%s", want, o.err)
			}
		}
		if !strings.Contains(o.out, "-- Goes with it: index public.by_plain, statistics public.together.\n") || !strings.Contains(o.out, "BEGIN;\n") {
			t.Errorf("it printed\n%s", o.out)
		}
		if done := parsed[dropDone](t, s.must("drop", "users.email", "--dry-run", "--json").out); done.State != "dry-run" || done.Scripts[0].Text != o.out {
			t.Errorf("as JSON: %+v", done)
		}
	})
	done := parsed[dropDone](t, s.must("drop", "users.email", "--apply", "--json").out)
	if done.State != "dropped" || phaseOf(t, db) != "dropped" || columnsOf(t, db, "users") != "id note email" || len(done.Scripts) != 0 {
		t.Errorf("it said %+v; the table has %s, the phase is %s", done, columnsOf(t, db, "users"), phaseOf(t, db))
	}
	left := testenv.Column[string](t, db, `SELECT conname::text FROM pg_constraint WHERE conrelid = 'users'::regclass AND contype = 'c'
 UNION ALL SELECT tgname FROM pg_trigger WHERE tgrelid = 'users'::regclass UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'cipherfleet'::regnamespace AND proname ~ '[0-9]$'`)
	if len(left) != 1 || left[0] != "cipherfleet_1_cell" {
		t.Errorf("of ours is left: %s", left)
	}
	unchanged(t, db, func() { s.must("drop", "users.email", "--apply") })
}

// TestDropToStandardOutput records that the SQL was handed out, and tells where it went.
func TestDropToStandardOutput(t *testing.T) {
	t.Parallel()
	db, s := cutOverUsers(t, 50)
	o := s.must("drop", "users.email")
	if !strings.Contains(o.out, "DROP COLUMN \"email_plaintext\";\n") || !strings.Contains(o.err, "proving that every plaintext of public.users has its cell") {
		t.Errorf("it said %q\n%s", o.err, o.out)
	}
	if got := testenv.One[string](t, db, `SELECT details->>'style' || ' ' || (details ? 'file')::text FROM cipherfleet.events WHERE event = 'drop_planned'`); got != "sql false" {
		t.Errorf("the log says %s", got)
	}
	if err := runWhole(t, db, []script{{Text: o.out}}, true); err != nil || columnsOf(t, db, "users") != "id note email" {
		t.Errorf("what was printed does not run: %v", err)
	}
}

// TestDropProvesThatEveryPlaintextHasItsCell: rows without one are counted, and nothing is left behind.
func TestDropProvesThatEveryPlaintextHasItsCell(t *testing.T) {
	t.Parallel()
	db, s := cutOverUsers(t, 50)
	db.Run(t, `UPDATE users SET email_plaintext = 'written past the cell' WHERE id IN (10, 20)`)
	for _, args := range [][]string{{"--apply"}, {"--out", s.path("x.sql")}, nil} {
		unchanged(t, db, func() {
			o := s.run(append([]string{"drop", "users.email"}, args...)...)
			o.refusedWith(t, app.CodeUnproven, "2 rows of public.users have a plaintext in email_plaintext and no cell in email", "`cipherfleet rollback users.email`")
			if strings.Contains(o.err, "written past") {
				t.Error("a value is shown")
			}
		})
	}
	if _, err := os.Lstat(s.path("x.sql")); err == nil {
		t.Error("a file was written")
	}
	db.Run(t, `UPDATE users SET email_plaintext = NULL WHERE id IN (10, 20)`)
	s.must("drop", "users.email", "--out", s.path("x.sql"))
	if _, err := db.Exec(t.Context(), `UPDATE users SET email_plaintext = 'x' WHERE id = 10`); pg.Code(err) != "23514" {
		t.Errorf("what was proven does not stay so: %v", err)
	}
	db.Run(t, `INSERT INTO users (id, email) VALUES (1000, NULL); UPDATE users SET email = NULL WHERE id = 1; DELETE FROM users WHERE id = 2`)
	s.must("drop", "users.email", "--apply")
}

// TestDropRefuses each thing that it needs and does not find; nothing is changed.
func TestDropRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		setup, args   string
		code          int
		message, hint string
	}{
		"backfilled":          {`INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'email', 'rolled_back', 'backfilled')`, "", 4, "public.users.email is backfilled: applications still read its plaintext", "`cipherfleet cutover users.email` comes first"},
		"dual-writing":        {`INSERT INTO cipherfleet.events (table_name, column_name, event, phase, details) VALUES ('public.users', 'email', 'advanced', 'dual-writing', '{"reason":"x"}')`, "", 4, "is dual-writing: not every row has its cell", "cipherfleet backfill --table users --column email"},
		"no such column":      {"", "users.mail", 4, `column "mail" of public.users is not registered`, "cipherfleet status"},
		"no such table":       {"", "user.email", 4, `there is no table "user"`, `did you mean table "users"`},
		"a view":              {`CREATE VIEW mails AS SELECT email_plaintext FROM users`, "", 4, "these depend on it: view public.mails", "drop them"},
		"several":             {`CREATE MATERIALIZED VIEW m AS SELECT email_plaintext FROM users; CREATE POLICY p ON users USING (email_plaintext > 'a'); ALTER TABLE users ADD low text GENERATED ALWAYS AS (lower(email_plaintext)) STORED`, "", 4, "these depend on it: generated column low on public.users, materialized view public.m, policy p on public.users", "drop them"},
		"a foreign key to it": {`CREATE UNIQUE INDEX u ON users (email_plaintext); CREATE TABLE other (mail text REFERENCES users (email_plaintext))`, "", 4, "foreign key other_mail_fkey on public.other", "drop them"},
		"a trigger":           {`CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'; CREATE TRIGGER t BEFORE UPDATE OF email_plaintext ON users FOR EACH ROW EXECUTE FUNCTION f()`, "", 4, "trigger t on public.users", "drop them"},
		"a replica identity":  {`DELETE FROM users WHERE email_plaintext IS NULL; ALTER TABLE users ALTER email_plaintext SET NOT NULL; CREATE UNIQUE INDEX who ON users (email_plaintext); ALTER TABLE users REPLICA IDENTITY USING INDEX who`, "", 4, "index who is the replica identity of public.users", "REPLICA IDENTITY DEFAULT"},
		"a live job":          {`INSERT INTO cipherfleet.jobs (relid, spec, state) VALUES ('users'::regclass, '{}', 'paused')`, "", 4, "a job over public.users has not ended", "job ls"},
		"cells gone":          {`ALTER TABLE users DROP email CASCADE`, "", 4, "the column that held the cells of public.users.email is gone", "cipherfleet status"},
		"still captured":      {`CREATE TRIGGER "~cipherfleet_1_update" BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION cipherfleet.reverse_1()`, "", 4, "was declared cut over", "cipherfleet cutover"},
		"two ways":            {"", "users.email --apply --dry-run", 2, "choose one", "--help"},
		"no column named":     {"", "users", 2, "a column is named table.column", "--help"},
		"no style":            {"", "users.email --format x", 2, `--format was "x"`, "--help"},
		"a bad file name":     {"", "users.email --format goose --out x.sql", 2, "goose would not find a file of that name", "0042_drop_users_email_plaintext.sql"},
		"no schema":           {`ALTER SCHEMA cipherfleet RENAME TO elsewhere`, "", 4, "schema cipherfleet is not installed", "cipherfleet install"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, s := cutOverUsers(t, 10)
			if tc.setup != "" {
				db.Run(t, tc.setup)
			}
			if tc.args == "" {
				tc.args = "users.email --apply"
			}
			unchanged(t, db, func() {
				s.run(append([]string{"drop"}, strings.Fields(tc.args)...)...).refusedWith(t, tc.code, tc.message, tc.hint)
			})
		})
	}
}

func TestDropIsForTheOwner(t *testing.T) {
	t.Parallel()
	db, s := cutOverUsers(t, 10)
	_, at := role(t, db, "reader", `GRANT USAGE ON SCHEMA cipherfleet, public TO %s`, `GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA cipherfleet, public TO %s`)
	s.with("DATABASE_URL", at)
	unchanged(t, db, func() {
		s.run("drop", "users.email", "--apply").refusedWith(t, app.CodeDenied, "may not alter public.users", "owner of the table")
	})
}

// TestTheMigrationWaitsBrieflyForItsLock: whoever holds the table makes it fail, unchanged, in the time it says.
func TestTheMigrationWaitsBrieflyForItsLock(t *testing.T) {
	t.Parallel()
	db, s := cutOverUsers(t, 10)
	o := s.must("drop", "users.email")
	holder := must(db.Begin(t.Context()))
	defer holder.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // it only held a lock
	if _, err := holder.Exec(t.Context(), `SELECT * FROM users LIMIT 1`); err != nil {
		t.Fatal(err)
	}
	unchanged(t, db, func() {
		if err := runWhole(t, db, []script{{Text: o.out}}, true); pg.Code(err) != "57014" { // else it would wait for ever
			t.Error(err)
		}
	})
}

// TestDropOfAwkwardNames: schema, table and column hold everything a name can, and the table is partitioned.
func TestDropOfAwkwardNames(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	table, source := pg.Table{Schema: `My "Shop"`, Name: "or.ders\\'s\n--"}, "e'mail $cipherfleet$\nDROP TABLE x;--"
	db.Run(t, "CREATE SCHEMA "+pg.Ident(table.Schema))
	db.Run(t, fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, %s text) PARTITION BY RANGE (id)", table.SQL(), pg.Ident(source)))
	db.Run(t, fmt.Sprintf("CREATE TABLE p1 PARTITION OF %s FOR VALUES FROM (0) TO (50)", table.SQL()))
	db.Run(t, fmt.Sprintf("CREATE TABLE p2 PARTITION OF %s FOR VALUES FROM (50) TO (500)", table.SQL()))
	db.Run(t, fmt.Sprintf("INSERT INTO %s SELECT g, 'x' || g FROM generate_series(1, 100) g", table.SQL()))
	s := newShell(t, db.URL).withKey()
	names := []string{"--schema", table.Schema, "--table", table.Name, "--column", source}
	s.must(append([]string{"backfill", "--prepare"}, names...)...)
	cutByHand(t, db, table, source, "id")
	for style, run := range tools() {
		if style != styleSQL {
			out := s.path("9_" + style)
			s.must(append([]string{"drop", "--format", style, "--out", out}, names...)...)
			continue
		}
		o := s.must(append([]string{"drop"}, names...)...)
		if err := run(t, db, []script{{Text: strings.Replace(o.out, "COMMIT;\n", "SELECT 1/0;\n", 1)}}, true); pg.Code(err) != "22012" {
			t.Errorf("the script does not run to its end: %v", err)
		}
	}
	s.must(append([]string{"drop", "--apply"}, names...)...)
	if columns := columnsOf(t, db, "p2"); columns != "id "+source || phaseOf(t, db) != "dropped" {
		t.Errorf("a partition has %q, the phase is %s", columns, phaseOf(t, db))
	}
}

// killer ends the server's side of a connection just before the nth of the statements that pass it.
type killer struct {
	db   *testenv.DB
	t    *testing.T
	at   int64
	seen atomic.Int64
	last atomic.Pointer[string]
}

func (k *killer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if k.seen.Add(1) == k.at {
		k.last.Store(&data.SQL)
		if _, err := k.db.Exec(context.WithoutCancel(ctx), `SELECT pg_terminate_backend($1, 5000)`, int32(conn.PgConn().PID())); err != nil {
			k.t.Error(err)
		}
	}
	return ctx
}

func (k *killer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestDropIsKilledBetweenEveryTwoStatements: nothing is half done, the application sees no error, and the same command
// finishes.
func TestDropIsKilledBetweenEveryTwoStatements(t *testing.T) {
	t.Parallel()
	db, _ := cutOverUsers(t, 200)
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- writeNotes(t.Context(), db, stop) }()
	kills := 0
	for n := int64(1); ; n++ {
		last, err := dropKilledAt(t, db, n)
		if err == nil {
			break
		}
		kills++
		dropped := phaseOf(t, db) == "dropped"
		if columns := columnsOf(t, db, "users"); dropped || columns != "id email_plaintext note email" {
			t.Fatalf("killed before %q: the table has %s, the phase is %s", last, columns, phaseOf(t, db))
		}
		if code, hint := app.Explain(err); code != app.CodeUnavailable || hint == "" {
			t.Fatalf("killed before %q: %v", last, err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Errorf("the application saw %v", err)
	}
	if phaseOf(t, db) != "dropped" || columnsOf(t, db, "users") != "id note email" || kills < 20 {
		t.Errorf("after %d kills the table has %s, the phase is %s", kills, columnsOf(t, db, "users"), phaseOf(t, db))
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'dropped'`); n != 1 {
		t.Errorf("%d events tell it", n)
	}
}

// dropKilledAt does what drop --apply does, until its nth statement.
func dropKilledAt(t *testing.T, db *testenv.DB, n int64) (last string, err error) {
	t.Helper()
	k := &killer{db: db, t: t, at: n}
	watched, err := pg.Open(t.Context(), db.URL, pg.Options{MaxConns: 2, Tracer: k})
	if err != nil {
		t.Fatal(err)
	}
	defer watched.Close()
	l, name := &ladder.Ladder{DB: watched}, standing.Name{Schema: "public", Table: "users", Column: "email"}
	plan := must((&ladder.Ladder{DB: db.DB}).PlanDrop(t.Context(), name)) // it only reads
	if err = l.ProveCoverage(t.Context(), plan, name); err == nil {
		err = l.Apply(t.Context(), plan)
	}
	if at := k.last.Load(); at != nil {
		last = *at
	}
	return last, err
}

// writeNotes is an application that knows nothing of the column, until stop.
func writeNotes(ctx context.Context, db *testenv.DB, stop chan struct{}) error {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if _, err := db.Exec(ctx, `UPDATE users SET note = $2 WHERE id = $1`, 1+n%200, fmt.Sprint(n)); err != nil {
			return err
		}
	}
}

// TestDropAfterARealCutover, of either strategy: the plaintext goes, the cells stay and are what they were; a rollback
// after the drop was planned takes its constraint away, and none is possible after the drop.
func TestDropAfterARealCutover(t *testing.T) {
	t.Parallel()
	for strategy, columns := range map[string]string{standing.StrategySwap: "id note email", standing.StrategyByName: "id note email_encrypted"} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			people(t, db, 100)
			db.Run(t, `CREATE INDEX by_mail ON users (email)`)
			s := newShell(t, db.URL).withKey()
			cutover := []string{"cutover", "users.email", "--strategy", strategy, "--soak", "0", "--despite", "public.by_mail"}
			climb := func() {
				s.must(backfillUsers()...)
				s.must("verify", "--table", "users")
				s.must(cutover...)
			}
			climb()
			s.must("drop", "users.email", "--out", s.path("a.sql"))
			s.must("rollback", "users.email")
			db.Run(t, `UPDATE users SET email = 'changed' WHERE id = 1; INSERT INTO users (id, email) VALUES (1000, 'new')`) // capture clears the cell, and nothing refuses it
			before := fingerprint(t, db)
			if err := runWhole(t, db, []script{{Text: string(must(os.ReadFile(s.path("a.sql"))))}}, true); pg.Code(err) != "55000" || fingerprint(t, db) != before {
				t.Errorf("the file of before the rollback: %v", err)
			}
			climb()
			cells := testenv.One[string](t, db, fmt.Sprintf(`SELECT md5(string_agg(id || %s::text, ',' ORDER BY id)) FROM users`, lastWord(columns)))
			s.must("drop", "users.email", "--apply")
			if got := columnsOf(t, db, "users"); got != columns || phaseOf(t, db) != "dropped" {
				t.Errorf("the table has %s, the phase is %s", got, phaseOf(t, db))
			}
			if now := testenv.One[string](t, db, fmt.Sprintf(`SELECT md5(string_agg(id || %s::text, ',' ORDER BY id)) FROM users`, lastWord(columns))); now != cells {
				t.Error("the cells are not what they were")
			}
			unchanged(t, db, func() {
				if o := s.run("rollback", "users.email"); o.code != app.CodeRefused {
					t.Errorf("a rollback of what is gone: exit code %d\n%s", o.code, o.err)
				}
			})
			if o := s.must("status"); !strings.Contains(o.out, "dropped") {
				t.Errorf("status says %s", o.out)
			}
		})
	}
}

func lastWord(text string) string { return text[strings.LastIndex(text, " ")+1:] }

// TestTheCoordinatorSeesWhatWasDropped by a migration tool, or by hand.
func TestTheCoordinatorSeesWhatWasDropped(t *testing.T) {
	t.Parallel()
	db, s := cutOverUsers(t, 20)
	o := s.must("drop", "users.email")
	if err := runWhole(t, db, []script{{Text: o.out}}, true); err != nil {
		t.Fatal(err)
	}
	stop := s.inNATS(testenv.NATS(t)).serve()
	testenv.Eventually(t, time.Minute, func() error {
		if phase := phaseOf(t, db); phase != "dropped" {
			return fmt.Errorf("the phase is %s", phase)
		}
		return nil
	})
	stop()
}
