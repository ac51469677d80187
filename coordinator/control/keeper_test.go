package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// doneSQL is a table whose only column was backfilled by a job.
const doneSQL = `CREATE TABLE users (id bigint PRIMARY KEY, email text, cell bytea);
INSERT INTO cipherfleet.columns (id, relid, source_attnum, target_attnum, schema_name, table_name, source, target, type)
 OVERRIDING SYSTEM VALUE VALUES (7, 'users'::regclass, 2, 3, 'public', 'users', 'email', 'cell', 'text');
INSERT INTO cipherfleet.jobs (id, relid, spec, state, pass) VALUES ('00000000-0000-0000-0000-000000000001', 'users'::regclass, '{"schema": "public", "table": "users", "key": ["id"],
 "columns": [{"id": 7, "source": "email", "target": "cell", "source_attnum": 2, "target_attnum": 3, "scheme": 1, "log_table": "public.users", "log_column": "email"}], "quarantine_budget": 0}', 'done', 1);
INSERT INTO cipherfleet.ranges (job_id, relid, pass, state) SELECT '00000000-0000-0000-0000-000000000001', 'users'::regclass, p, 'done' FROM generate_series(0, 1) p;
INSERT INTO cipherfleet.events (table_name, column_name, event, phase, job_id) SELECT 'public.users', 'email', e, p, '00000000-0000-0000-0000-000000000001'
 FROM (VALUES ('schema_added', 'schema-added'), ('dual_writing', 'dual-writing'), ('backfill_started', 'backfilling'), ('backfilled', 'backfilled')) v(e, p)`

// keeping is a leader that keeps a table which is done, without workers.
func keeping(t *testing.T) (*keeper, *testenv.DB) {
	t.Helper()
	p, db := leading(t)
	p.Tracer, p.Log, p.CatchUp = noop.NewTracerProvider().Tracer(""), slog.New(slog.NewJSONHandler(io.Discard, nil)), time.Nanosecond
	db.Run(t, doneSQL)
	k := p.keeper()
	t.Cleanup(k.stop)
	return k, db
}

func lookAround(t *testing.T, k *keeper) {
	t.Helper()
	if err := k.look(t.Context()); err != nil {
		t.Fatal(err)
	}
}

const miss = `INSERT INTO cipherfleet.missed_writes (column_id, at, application, role) VALUES (7, clock_timestamp(), 'web', 'app')`

// endSweep is what workers and rounds would do.
const endSweep = `UPDATE cipherfleet.ranges SET state = 'done'; UPDATE cipherfleet.jobs SET state = 'done';
INSERT INTO cipherfleet.events (table_name, column_name, event, phase, job_id) VALUES ('public.users', 'email', 'backfilled', 'backfilled', '00000000-0000-0000-0000-000000000001')`

func wantState(t *testing.T, db *testenv.DB, want, why string) {
	t.Helper()
	if state := testenv.One[string](t, db, `SELECT state FROM cipherfleet.jobs`); state != want {
		t.Errorf("%s: the job is %s, want %s", why, state, want)
	}
}

func TestAKeeperSweepsForAMissedWriteAndForNothingElse(t *testing.T) {
	t.Parallel()
	k, db := keeping(t)
	lookAround(t, k)
	wantState(t, db, "done", "nothing was missed")
	db.Run(t, `INSERT INTO cipherfleet.missed_writes (column_id, at, application, role) VALUES (7, now() - interval '1 hour', 'web', 'app'), (8, now(), 'web', 'app')`)
	lookAround(t, k)
	wantState(t, db, "done", "a write was missed before the job began, and one of another column")
	db.Run(t, miss)
	lookAround(t, k)
	wantState(t, db, "sweeping", "a write was missed")
	db.Run(t, endSweep)
	lookAround(t, k)
	wantState(t, db, "done", "the missed write was swept")
	db.Run(t, `UPDATE cipherfleet.columns SET target = target; INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'email', 'cut_over', 'cut-over')`)
	db.Run(t, miss)
	k.paces = map[string]*pace{}
	lookAround(t, k)
	wantState(t, db, "done", "the column is cut over")
}

// A later job over the same column is in charge of it, and one over another column of the table is in charge of that.
func TestAKeeperSweepsForEachColumnByTheLastJobOverIt(t *testing.T) {
	t.Parallel()
	k, db := keeping(t)
	db.Run(t, `ALTER TABLE users ADD phone text, ADD phone_cell bytea; INSERT INTO users VALUES (1, 'uncovered', NULL, 'uncovered')`) // as an index of uncovered rows says
	for _, sql := range strings.SplitAfter(doneSQL, ";\n")[1:] {
		db.Run(t, strings.NewReplacer("VALUES (7, 'users'::regclass, 2, 3", "VALUES (8, 'users'::regclass, 4, 5", `"id": 7`, `"id": 8`, "email", "phone", "cell", "phone_cell",
			`_attnum": 2`, `_attnum": 4`, `_attnum": 3`, `_attnum": 5`, "000001'", "000002'").Replace(sql))
		if !strings.HasPrefix(sql, "INSERT INTO cipherfleet.columns") {
			db.Run(t, strings.ReplaceAll(sql, "000001'", "000003'"))
		}
	}
	db.Run(t, `UPDATE cipherfleet.jobs SET created_at = created_at + interval '1 second' * right(id::text, 1)::int`)
	states := func(want string) {
		t.Helper()
		if have := testenv.One[string](t, db, `SELECT string_agg(state, ' ' ORDER BY id) FROM cipherfleet.jobs`); have != want {
			t.Errorf("the jobs are %s, want %s", have, want)
		}
	}
	if idle, err := k.plane.jobs().Idle(t.Context()); err != nil || len(idle) != 2 {
		t.Errorf("%d jobs are in charge of a column, %v", len(idle), err)
	}
	k.plane.CatchUp = time.Minute
	db.Run(t, miss+"; "+strings.ReplaceAll(miss, "(7", "(8"))
	for _, step := range []struct{ then, job, column string }{{"done sweeping done", "000002'", "phone"}, {"done done sweeping", "000003'", "email"}, {"done done done", "000003'", "email"}} {
		k.looked = time.Time{}
		lookAround(t, k)
		states(step.then)
		db.Run(t, strings.NewReplacer("000001'", step.job, "email", step.column).Replace(endSweep))
	}
}

func TestAKeeperThatIsNotToCatchUpLeavesTheJobDone(t *testing.T) {
	t.Parallel()
	k, db := keeping(t)
	k.plane.CatchUp = 0
	db.Run(t, miss)
	lookAround(t, k)
	wantState(t, db, "done", "it is not to catch up")
}

// The log remembers each sweep, so a table that misses writes all the time is swept less and less often.
func TestAKeeperSweepsATableThatGoesOnMissingLessOften(t *testing.T) {
	t.Parallel()
	k, db := keeping(t)
	k.plane.CatchUp = time.Minute
	const job = "00000000-0000-0000-0000-000000000001"
	db.Run(t, `INSERT INTO users VALUES (1, 'uncovered')`) // an index of uncovered rows says the same as the record
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, longestPause, longestPause} {
		db.Run(t, miss)
		k.looked = time.Time{}
		lookAround(t, k)
		wantState(t, db, "sweeping", "a write was missed")
		db.Run(t, endSweep)
		if at := k.paces[job]; at.pause != want {
			t.Errorf("after sweep %d it pauses %v, want %v", i+1, at.pause, want)
		}
		db.Run(t, miss)
		k.looked = time.Time{}
		lookAround(t, k)
		wantState(t, db, "done", "it pauses")
		k.paces[job].due = time.Time{}
	}
	db.Run(t, `DELETE FROM users`)
	k.looked, k.paces[job].seen = time.Time{}, 1000
	lookAround(t, k)
	if at := k.paces[job]; at.pause != 0 {
		t.Errorf("after a pause without a missed write it pauses %v", at.pause)
	}
}

// Renamed by a cutover or by hand, the columns are not what the job knew; that is no trouble of the keeper's.
func TestAKeeperLeavesRenamedColumnsAlone(t *testing.T) {
	t.Parallel()
	k, db := keeping(t)
	db.Run(t, `INSERT INTO users VALUES (1, 'uncovered')`)
	db.Run(t, `CREATE INDEX `+testenv.One[string](t, db, `SELECT 'cipherfleet_7_uncovered_' || 'users'::regclass::oid`)+` ON users (id) WHERE (cell IS NULL) = (email IS DISTINCT FROM NULL)`)
	db.Run(t, miss+`; ALTER TABLE users RENAME email TO email_plaintext; ALTER TABLE users RENAME cell TO email`)
	lookAround(t, k)
	wantState(t, db, "done", "a column was renamed")
	db.Run(t, `ALTER TABLE users RENAME email TO cell; ALTER TABLE users RENAME email_plaintext TO email`)
	db.Run(t, `INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'email', 'cut_over', 'cut-over')`)
	lookAround(t, k)
	wantState(t, db, "done", "the column is cut over")
	db.Run(t, `INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'email', 'rolled_back', 'backfilled')`)
	lookAround(t, k)
	wantState(t, db, "sweeping", "the cutover was taken back")
}

// An index is only trusted, and only left alone, while it is valid.
func TestAKeeperBuildsAnIndexAnewThatWasLeftHalfBuilt(t *testing.T) {
	t.Parallel()
	k, db := keeping(t)
	db.Run(t, `INSERT INTO users SELECT g, 'a' FROM generate_series(1, 100) g`)
	const indexSQL = `SELECT coalesce(string_agg(indisvalid::text, ' '), '') FROM pg_index WHERE indrelid = 'users'::regclass AND indpred IS NOT NULL`
	name := testenv.One[string](t, db, `SELECT 'cipherfleet_7_uncovered_' || 'users'::regclass::oid`)
	db.Run(t, `CREATE INDEX `+name+` ON users (id) WHERE cell IS NULL; UPDATE pg_index SET indisvalid = false WHERE indexrelid = '`+name+`'::regclass`)
	db.Run(t, miss)
	lookAround(t, k)
	<-k.build.ended
	if got := testenv.One[string](t, db, indexSQL); got != "true" || len(k.build.failed) > 0 {
		t.Errorf("valid indexes: %q; failed: %v", got, k.build.failed)
	}
}

// A deadlock is no end of an index either: Postgres ends the build, for the application's transaction looks for one later.
func TestAKeeperBuildsAnIndexAgainAfterADeadlock(t *testing.T) {
	t.Parallel()
	k, db := keeping(t)
	db.Run(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''2s''', current_database()); END $$`)
	k.plane.DB = testenv.Open(t, db.URL).DB
	writer, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // it is committed
	run := func(sql string) {
		t.Helper()
		if _, err := writer.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	run(`SET LOCAL deadlock_timeout = '10min'; LOCK TABLE users IN ROW EXCLUSIVE MODE`)
	k.begin(t.Context(), map[string]uint32{"late": 7}, map[string]ddl.Step{"late": {Do: []string{`CREATE INDEX CONCURRENTLY late ON users (email)`}, Undo: []string{`DROP INDEX CONCURRENTLY IF EXISTS late`}}})
	testenv.Eventually(t, time.Minute, func() error {
		if n := testenv.One[int](t, db, `SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase LIKE 'waiting for%'`); n == 0 {
			return errors.New("the build does not wait")
		}
		return nil
	})
	run(`LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE`) // for as long as the build has not been ended
	if err := writer.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-k.build.ended
	if valid := testenv.One[bool](t, db, `SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('late')`); !valid || len(k.build.failed) > 0 {
		t.Errorf("valid: %t; failed: %v", valid, k.build.failed)
	}
}

// Columns that were one pass come apart when a later job goes over one of them, or when it is moved: a rotation is no such
// job, and while any job is at work over the table nothing is looked after.
func TestColumnsOfOneJobComeApart(t *testing.T) {
	t.Parallel()
	k, db := keeping(t)
	const second = `UPDATE cipherfleet.jobs SET spec = jsonb_set(spec, '{columns,1}', '{"id": 8, "source": "phone", "target": "phone_cell", "log_table": "public.users", "log_column": "phone"}', true);
INSERT INTO cipherfleet.events (table_name, column_name, event, phase, job_id) SELECT table_name, 'phone', event, phase, job_id FROM cipherfleet.events ORDER BY id`
	const later = `INSERT INTO cipherfleet.jobs (id, relid, spec, state, created_at) SELECT '00000000-0000-0000-0000-000000000002', relid, spec #- '{columns,1}', 'done', created_at + interval '1 s' FROM cipherfleet.jobs`
	db.Run(t, second)
	for _, step := range []struct{ sql, apart string }{
		{`SELECT`, ""}, {later, "8"}, {`UPDATE cipherfleet.jobs SET state = 'running' WHERE id::text LIKE '%2'`, ""}, {`UPDATE cipherfleet.jobs SET state = 'failed' WHERE id::text LIKE '%2'`, "8"},
		{`UPDATE cipherfleet.jobs SET spec = jsonb_set(spec, '{columns,0,rotate}', 'true') WHERE id::text LIKE '%2'`, ""}, {`DELETE FROM cipherfleet.jobs WHERE id::text LIKE '%2'`, ""},
		{`INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'phone', 'cut_over', 'cut-over')`, "7"},
		{`INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'email', 'cut_over', 'cut-over')`, ""},
	} {
		db.Run(t, step.sql)
		jobs, err := k.plane.jobs().Apart(t.Context())
		ids := ""
		for _, job := range jobs {
			ids += strconv.Itoa(int(job.Spec.Columns[0].ID))
		}
		if err != nil || ids != step.apart {
			t.Errorf("after %s: columns %q, want %q, %v", step.sql, ids, step.apart, err)
		}
	}
}

// A column that came apart from others has the null policy of its own scheme, whichever job was looked after before.
func TestAColumnThatCameApartLacksCellsOfNull(t *testing.T) {
	t.Parallel()
	k, db := keeping(t)
	db.Run(t, `ALTER TABLE users ADD phone text, ADD phone_cell bytea; INSERT INTO users VALUES (1);
INSERT INTO cipherfleet.columns (id, relid, source_attnum, target_attnum, schema_name, table_name, source, target, type)
 OVERRIDING SYSTEM VALUE VALUES (8, 'users'::regclass, 4, 5, 'public', 'users', 'phone', 'phone_cell', 'text');
INSERT INTO cipherfleet.schemes (column_id, number, suite, codec, binding, padding, nulls, state) VALUES (8, 1, 1, 1, 'pk', 16, 'seal', 'active');
UPDATE cipherfleet.jobs SET spec = jsonb_set(spec, '{columns,1}', '{"id": 8, "source": "phone", "target": "phone_cell", "log_table": "public.users", "log_column": "phone"}', true);
INSERT INTO cipherfleet.events (table_name, column_name, event, phase, job_id) SELECT table_name, 'phone', event, phase, job_id FROM cipherfleet.events ORDER BY id;
INSERT INTO cipherfleet.jobs (id, relid, spec, state, created_at) SELECT '00000000-0000-0000-0000-000000000002', relid, spec #- '{columns,1}', 'done', created_at + interval '1 s' FROM cipherfleet.jobs`)
	db.Run(t, `CREATE INDEX `+testenv.One[string](t, db, `SELECT 'cipherfleet_8_uncovered_' || 'users'::regclass::oid`)+` ON users (id) WHERE phone_cell IS NULL`)
	lookAround(t, k)
	jobs, err := k.plane.jobs().Apart(t.Context())
	if err != nil || len(jobs) != 1 {
		t.Fatalf("%d columns came apart, %v", len(jobs), err)
	}
	leaves, err := k.leaves(t.Context(), jobs[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, found, err := k.evidence(t.Context(), jobs[0], leaves, &pace{}); !found || !leaves[0].indexed || err != nil {
		t.Errorf("a row of NULL without its cell is found: %t, by its index: %t, %v", found, leaves[0].indexed, err)
	}
}
