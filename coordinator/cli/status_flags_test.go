package cli

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// intent writes a manifest with these tables, in YAML.
func (s *shell) intent(tables string) {
	s.t.Helper()
	s.write("cipherfleet.yaml", "version: 1\nkek: file:cipherfleet.kek.json\ntables:\n"+tables, 0o644)
}

// usersTable is the manifest's table users with its column email, and more of that column.
func usersTable(more string) string {
	return "- table: users\n  columns:\n  - {source: email, schemes: {1: {padding: 16}}" + more + "}\n"
}

// backfilled is a table whose one column is backfilled and as the manifest wants it.
func backfilled(t *testing.T) (*shell, *testenv.DB) {
	t.Helper()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	s.intent(usersTable(""))
	if c := s.column(); len(c.Flags) > 0 || *c.Reach != "backfilled" || c.Phase != lifecycle.PhaseBackfilled {
		t.Fatalf("before: %+v", c)
	}
	return s, db
}

// swap does by hand what a cutover does to names and capture, and records it.
func swap(t *testing.T, db *testenv.DB) {
	t.Helper()
	c := ddl.Column{ID: 1, Table: pg.Table{Schema: "public", Name: "users"}, Source: "email", Target: "email_encrypted", Key: []string{"id"}}
	for _, sql := range c.Capture().Undo {
		db.Run(t, sql)
	}
	db.Run(t, `ALTER TABLE users RENAME email TO email_plaintext; ALTER TABLE users RENAME email_encrypted TO email`)
	c.Source, c.Target = "email_plaintext", "email"
	for _, sql := range c.ReverseCapture().Do {
		db.Run(t, sql)
	}
	db.Run(t, cutOverSQL)
}

const cutOverSQL = `INSERT INTO cipherfleet.events (table_name, column_name, event, phase, details) VALUES ('public.users', 'email', 'cut_over', 'cut-over',
 '{"strategy": "swap", "plain_name": "email_plaintext", "sealed_name": "email", "plain_was": "email", "sealed_was": "email_encrypted"}')`

// uncaught runs SQL that capture does not see.
func uncaught(sql string) string {
	const each = `DO $$ DECLARE name text; BEGIN FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal LOOP EXECUTE format('ALTER TABLE users %s TRIGGER %%I', name); END LOOP; END $$;`
	return fmt.Sprintf(each, "DISABLE") + sql + ";" + fmt.Sprintf(each, "ENABLE ALWAYS")
}

// flagged is a drift that one flag is for.
type flagged struct {
	sql      string
	manifest string // "": as it was
	then     []string
	flags    []string
}

func flagCases() map[string]flagged {
	const eql = `CREATE SCHEMA eql_v2; CREATE TYPE public.eql_v2_encrypted AS (data jsonb); CREATE TABLE public.eql_v2_configuration (id bigint, state text, data jsonb);`
	wanting := usersTable(", type: eql_v2_encrypted, transform: proxy, target: sealed")
	wanting = strings.Replace(wanting, "schemes: {1: {padding: 16}}, ", "", 1)
	return map[string]flagged{
		status.FlagSourceType:     {sql: dropCapture + `ALTER TABLE users ALTER email TYPE varchar(99)`, flags: []string{status.FlagSourceType, status.FlagCaptureMissing}},
		status.FlagKeyChanged:     {sql: `ALTER TABLE users DROP CONSTRAINT users_pkey`, flags: []string{status.FlagKeyChanged}},
		status.FlagCheckAltered:   {sql: `ALTER TABLE users DROP CONSTRAINT cipherfleet_1_cell, ADD CONSTRAINT cipherfleet_1_cell CHECK (email_encrypted IS NULL OR true)`, flags: []string{status.FlagCheckAltered}},
		status.FlagCaptureAltered: {sql: `CREATE OR REPLACE FUNCTION cipherfleet.capture_1() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`, flags: []string{status.FlagCaptureAltered}},
		status.FlagIndexMissing:   {manifest: usersTable(", indexes: [{name: email_bidx}]"), flags: []string{status.FlagIndexMissing}},
		status.FlagIndexUnwanted:  {sql: `CREATE INDEX "Stray" ON users (email_encrypted)`, flags: []string{status.FlagIndexUnwanted}},
		status.FlagIndexDiffers: {then: []string{"index", "new", "users.email", "email_bidx", "--normalise", "lower-trim"},
			manifest: usersTable(", indexes: [{name: email_bidx, normalise: digits}]"), flags: []string{status.FlagIndexDiffers, status.FlagIndexUnready}},
		"index as wanted":             {sql: `ALTER TABLE users ADD email_bidx bytea; CREATE INDEX "by cell" ON users (md5(email_encrypted))`, manifest: usersTable(", indexes: [{name: email_bidx}, {name: by cell}]")},
		status.FlagUncovered:          {sql: `UPDATE users SET email = 'new@example.org' WHERE id = 1`, flags: []string{status.FlagUncovered}},
		status.FlagStale:              {sql: uncaught(`UPDATE users SET email = 'new@example.org' WHERE id = 1`), then: []string{"verify", "--table", "users"}, flags: []string{status.FlagStale}},
		status.FlagQuarantined:        {sql: `INSERT INTO cipherfleet.quarantine (job_id, column_id, relid, key, key_hash, reason) SELECT id, 1, relid, '{1}', 'h', 'r' FROM cipherfleet.jobs`, flags: []string{status.FlagQuarantined}},
		status.FlagSchemeMix:          {manifest: strings.Replace(usersTable(", scheme: 2"), "padding: 16}", "padding: 16}, 2: {padding: 32}", 1), flags: []string{status.FlagSchemeMix}},
		status.FlagPhase:              {sql: cutOverSQL, flags: []string{status.FlagPhase, status.FlagCaptureMissing}},
		"phase-contradicted by names": {sql: `ALTER TABLE users RENAME email TO email_plaintext; ALTER TABLE users RENAME email_encrypted TO email`, flags: []string{status.FlagPhase}},
		"phase-contradicted by events": {sql: `INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'email', 'dropped', 'dropped')`,
			flags: []string{status.FlagPhase}},
		status.FlagJobIdle:       {sql: `UPDATE cipherfleet.jobs SET state = 'sweeping'`, flags: []string{status.FlagJobIdle}},
		"job with a live worker": {sql: `UPDATE cipherfleet.jobs SET state = 'sweeping'; INSERT INTO cipherfleet.workers VALUES ('w', 'worker', 1, 1, 'b', now(), now() + interval '1 minute')`},
		status.FlagTargetType:    {manifest: usersTable(", type: text"), flags: []string{status.FlagTargetType}},
		status.FlagEQLNotRegistered: {sql: eql + `ALTER TABLE users ADD sealed eql_v2_encrypted; INSERT INTO eql_v2_configuration VALUES (1, 'active', '{"tables": {"other": {"email": {}}}}'), (2, NULL, '[]'), (3, 'active', NULL)`,
			manifest: strings.Replace(wanting, "source: email", "source: note", 1), flags: []string{status.FlagEQLNotRegistered}},
		status.FlagEQLPending: {sql: eql + `ALTER TABLE users ADD sealed eql_v2_encrypted; INSERT INTO eql_v2_configuration VALUES (1, 'pending', '{"v": 1, "tables": {"users": {"note": {"indexes": {}}}}}')`,
			manifest: strings.Replace(wanting, "source: email", "source: note", 1), flags: []string{status.FlagEQLPending}},
		status.FlagEQLNotReady: {sql: eql + `INSERT INTO eql_v2_configuration VALUES (1, 'encrypting', '{"tables": {"users": {"note": 7}}}')`,
			manifest: strings.Replace(wanting, "source: email", "source: note", 1), flags: []string{status.FlagEQLPending, status.FlagEQLNotReady}},
		"EQL active": {sql: eql + `ALTER TABLE users ADD sealed eql_v2_encrypted; INSERT INTO eql_v2_configuration VALUES (1, 'pending', '{"tables": {"users": {"note": {}}}}'), (2, 'active', '{"tables": {"users": {"note": {}}}}')`,
			manifest: strings.Replace(wanting, "source: email", "source: note", 1)},
		"EQL of another shape":       {sql: `CREATE TABLE public.eql_v2_configuration (what int)`},
		status.FlagNotInDatabase:     {manifest: usersTable("") + "  - {source: gone, schemes: {1: {}}}\n", flags: []string{status.FlagNotInDatabase}},
		"not-in-database by a table": {manifest: usersTable("") + "- schema: \"S.x\"\n  table: \"T; DROP\"\n  columns: [{source: email, schemes: {1: {}}}]\n", flags: []string{status.FlagNotInDatabase}},
	}
}

const dropCapture = `DO $$ DECLARE name text; BEGIN FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal LOOP EXECUTE format('DROP TRIGGER %I ON users', name); END LOOP; END $$;`

// TestStatusFlagsEveryDrift: of the manifest, the log, the rows, the keys and EQL. What is done to the table itself is in
// TestStatusFlagsDrift.
func TestStatusFlagsEveryDrift(t *testing.T) {
	t.Parallel()
	for name, test := range flagCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, db := backfilled(t)
			if test.sql != "" {
				db.Run(t, test.sql)
			}
			if test.manifest != "" {
				s.intent(test.manifest)
			}
			if len(test.then) > 0 {
				s.run(test.then...)
			}
			report := parsed[status.Report](t, s.must("status", "--json").out)
			var flags []string
			for _, c := range report.Columns {
				flags = append(flags, c.Flags...)
			}
			if !slices.Equal(flags, test.flags) {
				t.Errorf("flags are %v, want %v: %+v", flags, test.flags, report.Columns)
			}
		})
	}
}

func TestStatusAfterACutover(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]flagged{
		"nothing":              {},
		"a rollback would":     {sql: `UPDATE users SET email_plaintext = NULL WHERE id < 5`},
		"uncovered":            {sql: uncaught(`UPDATE users SET email = NULL WHERE id = 1`), flags: []string{status.FlagUncovered}},
		"capture-missing":      {sql: `DROP TRIGGER "~cipherfleet_1_reverse_update" ON users`, flags: []string{status.FlagCaptureMissing}},
		"capture-disabled":     {sql: `ALTER TABLE users DISABLE TRIGGER "~cipherfleet_1_reverse_insert"`, flags: []string{status.FlagCaptureDisabled}},
		"source-renamed":       {sql: `ALTER TABLE users RENAME email_plaintext TO old`, flags: []string{status.FlagSourceRenamed}},
		"target-renamed":       {sql: `ALTER TABLE users RENAME email TO mail`, flags: []string{status.FlagTargetRenamed}},
		"phase-contradicted":   {sql: `ALTER TABLE users RENAME email TO email_encrypted; ALTER TABLE users RENAME email_plaintext TO email`, flags: []string{status.FlagPhase}},
		"check-altered":        {sql: `ALTER TABLE users DROP CONSTRAINT cipherfleet_1_cell, ADD CONSTRAINT cipherfleet_1_cell CHECK (email IS NOT NULL OR true)`, flags: []string{status.FlagCheckAltered}},
		"check-not-validated":  {sql: `UPDATE pg_constraint SET convalidated = false WHERE conname = 'cipherfleet_1_cell'`, flags: []string{status.FlagCheckNotValidated}},
		"source and key as is": {sql: `ALTER TABLE users RENAME id TO no`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, db := backfilled(t)
			swap(t, db)
			if test.sql != "" {
				db.Run(t, test.sql)
			}
			c := s.column()
			if !slices.Equal(c.Flags, test.flags) && len(c.Flags)+len(test.flags) > 0 {
				t.Errorf("flags are %v, want %v", c.Flags, test.flags)
			}
			if name == "nothing" && (c.Column != "email" || c.Target != "email" || *c.Plaintext != "email_plaintext" || *c.Reach != "backfilled" || c.Phase != lifecycle.PhaseCutOver || *c.Coverage.Behind != 0) {
				t.Errorf("%+v", c)
			}
			if name == "a rollback would" && (*c.Coverage.Behind != 4 || c.Coverage.Uncovered != 0 || c.Coverage.Covered != 100) {
				t.Errorf("%+v", c.Coverage)
			}
		})
	}
}

// TestStatusSeesAPlaintextGone: who may not write sees the flag, whoever may records it, and then nothing is missing.
func TestStatusSeesAPlaintextGone(t *testing.T) {
	t.Parallel()
	s, db := backfilled(t)
	swap(t, db)
	db.Run(t, `ALTER TABLE users DROP email_plaintext CASCADE`)
	_, at := role(t, db, "looks", `GRANT USAGE ON SCHEMA cipherfleet TO %s`, `GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet TO %s`)
	reader := newShell(t, at)
	unchanged(t, db, func() {
		if c := reader.column(); !slices.Equal(c.Flags, []string{status.FlagPlaintextMissing}) || c.Phase != lifecycle.PhaseCutOver || c.Coverage.Uncovered != 0 {
			t.Errorf("a reader sees %+v", c)
		}
	})
	if c := s.column(); len(c.Flags) > 0 || c.Phase != lifecycle.PhaseDropped || c.Column != "email" || c.Coverage.Uncovered != 0 {
		t.Errorf("%+v", c)
	}
	if text := s.must("status").out; !strings.HasPrefix(text, "public.users.email into email: dropped (wanted: backfilled)\n") || strings.Contains(text, "flags") {
		t.Errorf("a person reads\n%s", text)
	}
	db.Run(t, `DROP TABLE users`)
	if c := s.column(); len(c.Flags) > 0 {
		t.Errorf("a dropped column of a dropped table has flags %v", c.Flags)
	}
}

// TestStatusNamesWhoMissed the target, and who did long ago is not named.
func TestStatusNamesWhoMissed(t *testing.T) {
	t.Parallel()
	s, db := backfilled(t)
	db.Run(t, `SET application_name = 'billing'; UPDATE users SET email = 'new@example.org' WHERE id < 4; RESET application_name`)
	db.Run(t, `INSERT INTO cipherfleet.missed_writes (column_id, at, application, role, writes) VALUES (1, now() - interval '2 days', 'old', 'r', 7), (1, now() - interval '1 hour', 'cron', 'r', 9)`)
	c := s.column()
	if len(c.MissedBy) != 2 || c.MissedBy[0].Application != "billing" || c.MissedBy[0].Writes != 3 || c.MissedBy[1].Application != "cron" || *c.PerMinute != 0.3 || *c.Missed != 3 {
		t.Errorf("%+v, %f a minute", c.MissedBy, *c.PerMinute)
	}
	if text := s.must("status").out; !strings.Contains(text, `application "billing" as role`) {
		t.Errorf("a person reads\n%s", text)
	}
}

// TestStatusOfHostileNames: whatever a name holds, it is a name.
func TestStatusOfHostileNames(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	table, column := `T "x"; DROP -- %s`, `e'mail`
	db.Run(t, `CREATE SCHEMA "S.p"; CREATE TABLE "S.p".`+pg.Ident(table)+` ("I d" int PRIMARY KEY, `+pg.Ident(column)+` text); INSERT INTO "S.p".`+pg.Ident(table)+` VALUES (1, 'a'), (2, NULL)`)
	s := newShell(t, db.URL).withKey()
	s.must("init", "--schema", "S.p", "--table", table, "--column", column)
	s.must("backfill", "--schema", "S.p", "--table", table, "--column", column, "--prepare")
	for _, args := range [][]string{nil, {"--exact"}, {"--table", table}, {"--table", "S.p." + table}} {
		if c := s.column(args...); c.Table != "S.p."+table || c.Column != column || c.Coverage.Covered != 2 || len(c.Flags) > 0 || *c.Reach != "backfilled" {
			t.Errorf("%v: %+v", args, c)
		}
	}
	db.Run(t, `ALTER TABLE "S.p".`+pg.Ident(table)+` RENAME TO "t %d"`)
	if c := s.column(); !slices.Equal(c.Flags, []string{status.FlagTableRenamed}) || *c.Reach != "backfilled" {
		t.Errorf("renamed: %+v", c)
	}
}

// TestStatusWatches until SIGINT, and that is no failure.
func TestStatusWatches(t *testing.T) {
	t.Parallel()
	s, _ := backfilled(t)
	p := s.start("status", "--watch=100ms")
	testenv.Eventually(t, time.Minute, func() error {
		if strings.Count(p.out.String(), " public.users.email backfilled: 100 of 100 rows (100.0 %)\n") < 3 {
			return errors.New("it was not shown three times")
		}
		return nil
	})
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if o := p.end(t); o.code != app.CodeDone || o.err != "" || strings.Contains(o.out, "\x1b") {
		t.Errorf("exit code %d: %s\n%s", o.code, o.err, o.out)
	}
	s.run("status", "--watch=1ms").refusedWith(t, app.CodeUsage, "--watch wants at least 100ms", "status --help")
}

// TestEveryFlagIsExplained: in the help, and in the manual.
func TestEveryFlagIsExplained(t *testing.T) {
	t.Parallel()
	source, manual := string(must(os.ReadFile("../control/status/drift.go"))), string(must(os.ReadFile("../../docs/operations.md")))
	flags := regexp.MustCompile(`Flag\w+\s*= "([a-z-]+)"`).FindAllStringSubmatch(source, -1)
	if len(flags) < 30 {
		t.Fatalf("there are %d flags", len(flags))
	}
	for _, flag := range flags {
		if !strings.Contains(manual, "`"+flag[1]+"`") || !strings.Contains(statusLong, flag[1]) {
			t.Errorf("%s is not explained", flag[1])
		}
	}
}

// After a cutover by name somebody may go on writing the plaintext alone: its cell is of another value then, which only
// a verification sees; that there is such a writer is seen at once, and who he is.
func TestStatusNamesWhoWritesThePlaintextAloneAfterACutover(t *testing.T) {
	t.Parallel()
	s, db := backfilled(t)
	s.must("verify", "--table", "users")
	db.Run(t, `UPDATE users SET email = 'before@example.org' WHERE id = 2`)
	s.must("cutover", "users.email", "--strategy", "by-name", "--soak", "0")
	if c := s.column(); len(c.Flags) > 0 || len(c.MissedBy) > 0 {
		t.Errorf("after the cutover: %v, %+v", c.Flags, c.MissedBy)
	}
	db.Run(t, `SET application_name = 'forgotten'; UPDATE users SET email = 'alone@example.org' WHERE id = 1; RESET application_name`)
	c := s.column()
	if !slices.Equal(c.Flags, []string{status.FlagPlaintextWritten}) || len(c.MissedBy) != 1 || c.MissedBy[0].Application != "forgotten" || c.MissedBy[0].Writes != 1 {
		t.Errorf("flags %v, %+v", c.Flags, c.MissedBy)
	}
	if out := s.must("status").out; !strings.Contains(out, "the plaintext was written without its cell") || !strings.Contains(out, `"forgotten"`) || strings.Contains(out, "in the last day") {
		t.Errorf("a person reads %s", out)
	}
	if o := s.run("verify", "--table", "users"); o.code != app.CodeUnproven {
		t.Errorf("a verification ended with %d", o.code)
	}
	if c := s.column(); !slices.Equal(c.Flags, []string{status.FlagPlaintextWritten, status.FlagStale}) {
		t.Errorf("flags once it was verified: %v", c.Flags)
	}
	db.Run(t, `DELETE FROM users WHERE id = 1`)
	s.must("verify", "--table", "users")
	if c := s.column(); len(c.Flags) > 0 || len(c.MissedBy) > 0 {
		t.Errorf("once every cell was found right: %v, %+v", c.Flags, c.MissedBy)
	}
}

func TestStatusSaysWhetherAColumnIsStrict(t *testing.T) {
	t.Parallel()
	s, _ := backfilled(t)
	const line = "writes that miss the target fail"
	if out := s.must("status").out; strings.Contains(out, line) || s.column().Strict {
		t.Errorf("of a column that is not strict: %s", out)
	}
	s.must("backfill", "--table", "users", "--column", "email", "--strict")
	if out := s.must("status").out; !strings.Contains(out, line) || !s.column().Strict {
		t.Errorf("of a strict one: %s", out)
	}
}
