package index_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// partedSQL is a table in parts: one with its columns at other numbers, in a schema of its own, and one that is parted again.
const partedSQL = `CREATE TABLE users (gone int, id bigint PRIMARY KEY, email text, note text) PARTITION BY RANGE (id); ALTER TABLE users DROP COLUMN gone;
CREATE SCHEMA "Other, one"; CREATE TABLE "Other, one"."Low $1" (note text, junk int, email text, id bigint NOT NULL); ALTER TABLE "Other, one"."Low $1" DROP COLUMN junk;
ALTER TABLE users ATTACH PARTITION "Other, one"."Low $1" FOR VALUES FROM (0) TO (8);
CREATE TABLE mid PARTITION OF users FOR VALUES FROM (8) TO (100) PARTITION BY HASH (id);
CREATE TABLE mid_0 PARTITION OF mid FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE mid_1 PARTITION OF mid FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE rest PARTITION OF users DEFAULT`

// parted is an office whose table has partitions, and whose blind index is filled and not built.
func parted(t *testing.T) *office {
	t.Helper()
	o := openWith(t, partedSQL)
	o.Backfill(t)
	o.make(parts())
	o.token("bidx")
	return o
}

func parts() index.Wanted { return index.Wanted{Name: "bidx", Bytes: 16, Few: true} }

// heldSQL is how many relations of the tree have a valid index of the tokens that is part of the one above, how many have
// none, and how many indexes of ours are in nobody's.
const heldSQL = `SELECT concat_ws(' ', count(*) FILTER (WHERE held), count(*) FILTER (WHERE NOT held), (SELECT count(*) FROM pg_class c WHERE c.relkind = 'i' AND c.relname ~ '^cipherfleet_token_1_index' AND NOT c.relispartition))
 FROM (SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class r ON r.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE i.indrelid = t.relid AND a.attname = 'bidx'
  AND i.indisvalid AND (i.indrelid = 'users'::regclass OR r.relispartition)) AS held FROM pg_partition_tree('users') t) h`

func (o *office) holds(why, want string) {
	o.t.Helper()
	if have := testenv.One[string](o.t, o, heldSQL); have != want {
		o.t.Errorf("%s: %s, want %s", why, have, want)
	}
}

// TestEachPartitionHasItsIndex, at each level, and those that come later get theirs with the triggers.
func TestEachPartitionHasItsIndex(t *testing.T) {
	t.Parallel()
	o := parted(t)
	o.holds("before", "0 6 0")
	before := o.planBuild(0)
	if n := len(before.Statements); n != 5 || strings.Count(strings.Join(before.Statements, "\n"), "CONCURRENTLY") != 4 {
		t.Errorf("%d statements: %q", n, before.Statements)
	}
	o.build(0)
	o.stands("bidx/1 ready, valid, tokens, key")
	o.holds("built", "6 0 0")
	if p := o.planBuild(0); len(p.Statements) > 0 {
		t.Errorf("what is left to do: %q", p.Statements)
	}
	const lookup = `SELECT id FROM users WHERE bidx = ANY (ARRAY[decode(md5('9'), 'hex')])`
	if id := testenv.Column[int64](t, o, lookup); !slices.Equal(id, []int64{9}) {
		t.Errorf("found %v", id)
	}
	o.Run(t, `CREATE TABLE late PARTITION OF users FOR VALUES FROM (100) TO (200);
		CREATE TABLE later (LIKE users INCLUDING CONSTRAINTS); ALTER TABLE users ATTACH PARTITION later FOR VALUES FROM (200) TO (300)`)
	o.holds("two came", "8 0 0")
	for _, id := range []int64{50, 150, 250} { // tokens are kept right there too
		o.Run(t, `INSERT INTO users (id, email) VALUES ($1, 'new')`, id)
		o.Write(t, id, o.Cell(t, id, "new"))
	}
	if n := testenv.One[int](t, o, `SELECT count(*) FROM users WHERE bidx IS NULL`); n != 3 {
		t.Errorf("%d rows have no token", n)
	}
	if x, err := o.r.Show(t.Context(), o.name, "bidx", 0, true); err != nil || x.Missed != 3 || x.Built != index.BuiltValid {
		t.Errorf("%+v, %v", x, err)
	}
}

// TestATokenMovesWithItsRow to another partition if its writer knows what he writes, and is taken away if he does not.
func TestATokenMovesWithItsRow(t *testing.T) {
	t.Parallel()
	o := parted(t)
	move := func(writer, set string, from, to int) string {
		t.Helper()
		tx, err := o.Begin(t.Context())
		check(t, err)
		defer tx.Rollback(t.Context()) //nolint:errcheck // it is committed
		for _, sql := range []string{fmt.Sprintf(`SELECT set_config('cipherfleet.writer', '%s', true)`, writer), fmt.Sprintf(`UPDATE users SET id = %d%s WHERE id = %d`, to, set, from)} {
			_, err := tx.Exec(t.Context(), sql)
			check(t, err)
		}
		check(t, tx.Commit(t.Context()))
		return testenv.One[string](t, o, `SELECT CASE WHEN bidx IS NULL THEN 'none' WHEN bidx = decode(md5($2), 'hex') THEN 'its own' WHEN bidx = decode(md5('new'), 'hex') THEN 'the new one' ELSE 'another' END FROM users WHERE id = $1`, to, fmt.Sprint(from))
	}
	const changed = `, email_encrypted = set_byte(email_encrypted, 30, 255 - get_byte(email_encrypted, 30))`
	for i, c := range []struct{ writer, set, want string }{
		{"client", changed, "none"}, {"client", changed + `, bidx = '\x01'::bytea || decode(md5('new'), 'hex')`, "the new one"}, {"client", "", "none"}, {"", changed, "none"},
		{"client", "", "its own"}, {"rotation", changed, "its own"}, {"", changed, "none"}, {"", "", "none"}, {"", changed + `, bidx = decode(md5('new'), 'hex')`, "none"}, {"fleet", "", "none"},
	} {
		if i == 4 { // from here nothing takes a cell away that is of another row
			o.Run(t, fmt.Sprintf(`ALTER TABLE users DISABLE TRIGGER "~cipherfleet_%[1]d_insert", DISABLE TRIGGER "~cipherfleet_%[1]d_update"`, o.ID))
		}
		if have := move(c.writer, c.set, i+1, 1000+i); have != c.want {
			t.Errorf("%q moves a row%s: %s, want %s", c.writer, c.set, have, c.want)
		}
	}
}

// TestWhatWasKilledBetweenPartitionsGoesOn: between any two statements, and in the middle of any.
func TestWhatWasKilledBetweenPartitionsGoesOn(t *testing.T) {
	t.Parallel()
	for done := range 6 {
		t.Run(fmt.Sprint(done), func(t *testing.T) {
			t.Parallel()
			o := parted(t)
			var kept []string
			for i, sql := range o.planBuild(0).Statements[:done] {
				o.Run(t, sql)
				if i < 4 {
					kept = testenv.Column[string](t, o, `SELECT oid::text FROM pg_class WHERE relkind = 'i' AND relname ~ '^cipherfleet_token_1_index_' ORDER BY 1`)
				}
			}
			if left := o.planBuild(0).Statements; len(left) != 5-done {
				t.Errorf("what is left to do: %q", left)
			}
			if done > 0 && done < 5 { // the last was killed in its middle
				name := testenv.One[string](t, o, `UPDATE pg_index SET indisvalid = false WHERE indexrelid = (SELECT max(oid) FROM pg_class WHERE relkind = 'i' AND relname ~ '^cipherfleet_token_1_index_') RETURNING indexrelid::text`)
				kept = slices.DeleteFunc(kept, func(s string) bool { return s == name })
				if left := o.planBuild(0).Statements; len(left) != 5-done+2 || strings.Count(strings.Join(left, "\n"), "DROP INDEX CONCURRENTLY") != 1 {
					t.Errorf("of what is half built: %q", left)
				}
			}
			o.build(0)
			o.stands("bidx/1 ready, valid, tokens, key")
			o.holds("built", "6 0 0")
			for _, oid := range kept {
				if testenv.One[int](t, o, `SELECT count(*) FROM pg_class WHERE oid = $1::text::oid`, oid) == 0 {
					t.Error("what was built was built again")
				}
			}
		})
	}
}

// TestAnIndexOverAllPartitionsThatIsNotValidIsMadeAnew, as somebody else may leave one; and one that is gone.
func TestAnIndexOverAllPartitionsThatIsNotValidIsMadeAnew(t *testing.T) {
	t.Parallel()
	o := parted(t)
	o.Run(t, `CREATE INDEX cipherfleet_token_1_index ON ONLY users (bidx)`)
	o.stands("bidx/1 filling, invalid, tokens, key")
	if p := o.planBuild(0); len(p.Statements) != 6 || !strings.HasPrefix(p.Statements[0], "DROP INDEX IF EXISTS") {
		t.Errorf("%q", p.Statements)
	}
	o.build(0)
	o.holds("built", "6 0 0")
	o.Run(t, `DROP INDEX cipherfleet_token_1_index`)
	o.stands("bidx/1 ready, no index, tokens, key")
	o.build(0)
	o.stands("bidx/1 ready, valid, tokens, key")
	o.holds("built again", "6 0 0")
}

// TestPartitionsComeAndGoDuringABuild, which waits for a writer in the middle of one of them.
func TestPartitionsComeAndGoDuringABuild(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ sql, want string }{
		"comes":    {`CREATE TABLE late (LIKE users INCLUDING CONSTRAINTS); ALTER TABLE users ATTACH PARTITION late FOR VALUES FROM (200) TO (300)`, "7 0 0"},
		"detached": {`ALTER TABLE mid DETACH PARTITION mid_1`, "5 0 1"},
		"dropped":  {`DROP TABLE mid_1`, "5 0 0"},
		"renamed":  {`ALTER TABLE mid_1 RENAME TO "Mid 1"; ALTER TABLE mid RENAME TO middle; CREATE SCHEMA far; ALTER TABLE rest SET SCHEMA far`, "6 0 0"},
		"swapped":  {`ALTER TABLE mid_1 RENAME TO x; ALTER TABLE mid_0 RENAME TO mid_1; ALTER TABLE x RENAME TO mid_0`, "6 0 0"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			o := parted(t)
			finish := o.heldBuild(t.Context())
			o.Run(t, c.sql)
			check(t, finish())
			if what == "comes" && testenv.One[int](t, o, `SELECT count(*) FROM pg_class WHERE relname = 'cipherfleet_token_1_index_' || 'late'::regclass::oid AND relispartition`) != 1 {
				t.Error("its index was not built beside writers")
			}
			o.stands("bidx/1 ready, valid, tokens, key")
			o.holds("built", c.want)
		})
	}
}

// TestATableIsRenamedDuringABuild: that is said, and nothing is built of another table that has its name now; under its
// name the same goes on.
func TestATableIsRenamedDuringABuild(t *testing.T) {
	t.Parallel()
	for what, sql := range map[string]string{"renamed": `ALTER TABLE users RENAME TO people`, "replaced": `ALTER TABLE users RENAME TO people; CREATE TABLE users (LIKE people INCLUDING CONSTRAINTS)`} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for _, built := range []int{0, 4} { // of four partitions
				o := parted(t)
				for _, statement := range o.planBuild(0).Statements[:built] {
					o.Run(t, statement)
				}
				p := o.planBuild(0)
				o.Run(t, sql)
				_, err := o.r.Build(t.Context(), p, false)
				if code, hint := app.Explain(err); code != app.CodeUsage && code != app.CodeRefused || hint == "" {
					t.Errorf("%d: exit code %d, %v, hint %q", built, code, err, hint)
				}
				o.Run(t, `DROP TABLE IF EXISTS users; ALTER TABLE people RENAME TO users`)
				if left := o.planBuild(0).Statements; len(left) != 5-built {
					t.Errorf("%d: what is left to do: %q", built, left)
				}
				o.build(0)
				o.holds("built", "6 0 0")
			}
		})
	}
	t.Run("meanwhile", func(t *testing.T) {
		t.Parallel()
		o := parted(t)
		for _, statement := range o.planBuild(0).Statements[:3] {
			o.Run(t, statement)
		}
		writer := o.writes(`rest`)
		p, built := o.planBuild(0), make(chan error, 1)
		go func() { _, err := o.r.Build(t.Context(), p, false); built <- err }()
		o.waiting()
		o.Run(t, `ALTER TABLE users RENAME TO people; CREATE TABLE users (LIKE people INCLUDING CONSTRAINTS)`)
		check(t, writer.Rollback(t.Context()))
		err := <-built
		if code, hint := app.Explain(err); code != app.CodeRefused || hint == "" {
			t.Errorf("exit code %d, %v, hint %q", code, err, hint)
		}
		if n := testenv.One[int](t, o, `SELECT count(*) FROM pg_index WHERE indrelid = 'users'::regclass`); n != 0 {
			t.Errorf("%d indexes of another table were made", n)
		}
	})
}

// TestAnIndexBySomebodyElse is taken if it is valid; if it is not, nothing is built before it is gone, for Postgres would
// take it all the same.
func TestAnIndexBySomebodyElse(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		sql  string
		left int // statements
		more int // indexes that are in none
	}{
		"of a partition":  {`CREATE INDEX byhand ON mid_1 (bidx DESC)`, 4, 0},
		"of several":      {`CREATE INDEX byhand ON mid (bidx)`, 3, 0},
		"of all":          {`CREATE INDEX byhand ON users (bidx)`, 5, 0},
		"of another kind": {`CREATE INDEX byhand ON mid_1 (bidx) WHERE id > 0; CREATE INDEX hashed ON mid_0 USING hash (bidx); CREATE INDEX more ON rest (bidx, id); CREATE UNIQUE INDEX own ON rest (bidx)`, 5, 0},
		"beside half of ours": {`DO $$ BEGIN EXECUTE format('CREATE INDEX %1$I ON mid_1 (bidx); UPDATE pg_index SET indisvalid = false WHERE indexrelid = ''%1$I''::regclass; CREATE INDEX byhand ON mid_1 (bidx)',
			'cipherfleet_token_1_index_' || 'mid_1'::regclass::oid); END $$`, 6, 1},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			o := parted(t)
			o.Run(t, c.sql)
			if left := o.planBuild(0).Statements; len(left) != c.left {
				t.Errorf("what is left to do: %q", left)
			}
			o.build(0)
			o.stands("bidx/1 ready, valid, tokens, key")
			o.holds("built", fmt.Sprintf("6 0 %d", c.more))
		})
	}
	for what, sql := range map[string]string{
		"half built": `CREATE INDEX "By hand" ON mid_1 (bidx); UPDATE pg_index SET indisvalid = false WHERE indexrelid = '"By hand"'::regclass`,
		"of none":    `CREATE INDEX "By hand" ON ONLY mid (bidx)`,
		"of one":     `CREATE INDEX "By hand" ON ONLY mid (bidx); CREATE INDEX half ON mid_1 (bidx); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'half'::regclass; ALTER INDEX "By hand" ATTACH PARTITION half`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			o := parted(t)
			planned := o.planBuild(0)
			o.Run(t, sql)
			for _, build := range []func() error{
				func() error { _, err := o.r.PlanBuild(t.Context(), o.name, "bidx", 0); return err },
				func() error { _, err := o.r.Build(t.Context(), planned, false); return err }, // it came since
			} {
				o.refuses(what, build)
				if err := build(); !strings.Contains(fmt.Sprint(err), `"public"."By hand"`) {
					t.Error(err)
				}
			}
			o.Run(t, `DROP INDEX "By hand"`)
			for _, statement := range o.planBuild(0).Statements[:4] {
				o.Run(t, statement)
			}
			planned = o.planBuild(0)
			o.Run(t, sql)
			o.refuses("when they are joined", func() error { _, err := o.r.Build(t.Context(), planned, false); return err })
			o.Run(t, `DROP INDEX "By hand"`)
			o.build(0)
			o.holds("built", "6 0 0")
		})
	}
}

// TestAPartitionThatComesWhenTheOthersAreJoined is seen: who joins them waits until it is there.
func TestAPartitionThatComesWhenTheOthersAreJoined(t *testing.T) {
	t.Parallel()
	o := parted(t)
	o.Run(t, `ALTER TABLE users DETACH PARTITION rest; CREATE TABLE late (LIKE users INCLUDING CONSTRAINTS)`) // a default would be locked, too
	tx, err := o.Begin(t.Context())
	check(t, err)
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // it is committed
	p, built := o.planBuild(0), make(chan error, 1)
	for _, sql := range p.Statements[:3] {
		o.Run(t, sql)
	}
	_, err = tx.Exec(t.Context(), `ALTER TABLE users ATTACH PARTITION late FOR VALUES FROM (200) TO (300)`)
	check(t, err)
	go func() { _, err := o.r.Build(t.Context(), p, false); built <- err }()
	testenv.Eventually(t, 20*time.Second, func() error {
		if testenv.One[int](t, o, `SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareLock' AND relation = 'users'::regclass`) == 0 {
			return errors.New("nobody waits")
		}
		return nil
	})
	check(t, tx.Commit(t.Context()))
	check(t, <-built)
	if testenv.One[int](t, o, `SELECT count(*) FROM pg_class WHERE relname = 'cipherfleet_token_1_index_' || 'late'::regclass::oid AND relispartition`) != 1 {
		t.Error("its index was not built beside writers")
	}
	o.holds("built", "6 0 0")
}

// TestADeadlockIsNoEndOfABuild: it waits for a transaction that then asks for what the build has, and Postgres ends the
// build. The application's transaction must not be who pays, so it is told to look for deadlocks later.
func TestADeadlockIsNoEndOfABuild(t *testing.T) {
	t.Parallel()
	o := parted(t)
	o.Run(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''2s''', current_database()); END $$`)
	o.r.DB = testenv.Open(t, o.URL).DB
	writer, finish := o.heldBuildBy(t.Context())
	for _, sql := range []string{`SET LOCAL deadlock_timeout = '10min'`, `LOCK TABLE "Other, one"."Low $1" IN SHARE UPDATE EXCLUSIVE MODE`} { // got when the build has been ended
		_, err := writer.Exec(t.Context(), sql)
		check(t, err)
	}
	check(t, finish())
	o.stands("bidx/1 ready, valid, tokens, key")
	o.holds("built", "6 0 0")
}

// TestABuildOfPartitionsThatIsCalledOff keeps what it has built, and nothing half built.
func TestABuildOfPartitionsThatIsCalledOff(t *testing.T) {
	t.Parallel()
	o := parted(t)
	o.Run(t, o.planBuild(0).Statements[1])
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	finish := o.heldBuild(ctx)
	cancel()
	if err := finish(); err == nil {
		t.Error("it says that it is ready")
	}
	if n := testenv.One[int](t, o, `SELECT count(*) FROM pg_index WHERE NOT indisvalid`); n != 0 {
		t.Errorf("%d are half built", n)
	}
	o.holds("called off", "0 6 1")
	o.build(0)
	o.holds("built", "6 0 0")
}

// TestABuildInSpiteOfATimeout that the role or the database has for each statement and lock: it takes as long as it takes,
// and so does taking away what is half built, when it is called off.
func TestABuildInSpiteOfATimeout(t *testing.T) {
	t.Parallel()
	for _, calledOff := range []bool{false, true} {
		t.Run(fmt.Sprint("called off ", calledOff), func(t *testing.T) {
			t.Parallel()
			o := parted(t)
			o.Run(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %1$I SET statement_timeout = ''1s''; ALTER DATABASE %1$I SET lock_timeout = ''1s''', current_database()); END $$`)
			o.r.DB = testenv.Open(t, o.URL).DB
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			finish, word := o.heldBuild(ctx), "CREATE INDEX"
			if calledOff {
				cancel()
				word = "DROP INDEX"
			}
			const waitsSQL = `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query ^@ $1 AND (wait_event_type = 'Lock' AND query_start < clock_timestamp() - interval '1.5 s' OR state <> 'active'))
 OR NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^(CREATE|DROP) INDEX')`
			testenv.Eventually(t, time.Minute, func() error {
				if !testenv.One[bool](t, o, waitsSQL, word) {
					return errors.New("nobody waits so long")
				}
				return nil
			})
			if err := finish(); (err != nil) != calledOff {
				t.Errorf("the build: %v", err)
			}
			if n := testenv.One[int](t, o, `SELECT count(*) FROM pg_index WHERE NOT indisvalid`); n != 0 {
				t.Errorf("%d are half built", n)
			}
		})
	}
}

// TestABuildUnderAHostileSearchPath calls nobody's operator in the place of Postgres's own: it would have the builder's
// rights.
func TestABuildUnderAHostileSearchPath(t *testing.T) {
	t.Parallel()
	o := parted(t)
	o.Run(t, `CREATE SCHEMA evil; CREATE FUNCTION evil.trap(oid, oid) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''trapped''; END';
CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.trap); DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = evil, pg_catalog, public', current_database()); END $$`)
	o.r.DB = testenv.Open(t, o.URL).DB
	o.build(0)
	o.holds("built", "6 0 0")
}

// TestNoIndexOfAPartitionedTableIsUnique, and nothing is changed by the wish.
func TestNoIndexOfAPartitionedTableIsUnique(t *testing.T) {
	t.Parallel()
	o := openWith(t, partedSQL)
	o.Backfill(t)
	o.refuses("unique", func() error {
		_, err := o.r.PlanNew(t.Context(), o.name, wanted())
		if code, _ := app.Explain(err); code != app.CodeRefused || !strings.Contains(fmt.Sprint(err), "is partitioned") {
			t.Errorf("exit code %d, %v", code, err)
		}
		return err
	})
}

// TestADropTakesEveryPartitionsTokens, and leaves those of one that was detached.
func TestADropTakesEveryPartitionsTokens(t *testing.T) {
	t.Parallel()
	o := parted(t)
	o.build(0)
	o.Run(t, `ALTER TABLE users DETACH PARTITION rest`)
	o.holds("one left", "5 0 1")
	_, err := o.r.Drop(t.Context(), o.planDrop(0), time.Second)
	check(t, err)
	o.stands("bidx/1 dropped, no index, no tokens, no key")
	if left := testenv.Column[string](t, o, `SELECT attrelid::regclass::text FROM pg_attribute WHERE attname = 'bidx' AND attrelid IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p'))`); !slices.Equal(left, []string{"rest"}) {
		t.Errorf("tokens are left in %v", left)
	}
	if n := testenv.One[int](t, o, `SELECT count(*) FROM pg_trigger WHERE tgname ~ '^~cipherfleet_z'`) + testenv.One[int](t, o, `SELECT count(*) FROM pg_proc WHERE proname ~ '^token_'`); n != 0 {
		t.Errorf("%d triggers and functions are left", n)
	}
	o.Run(t, `INSERT INTO rest (id, email) VALUES (5000, 'a')`)
}

// TestFewRowsOfPartitionsAreFilledFromTheirLists, once each partition has one; it reads no other row.
func TestFewRowsOfPartitionsAreFilledFromTheirLists(t *testing.T) {
	t.Parallel()
	o := parted(t)
	o.build(0)
	listed := func(want bool, why string) {
		t.Helper()
		p, err := index.PlanFill(t.Context(), o.DB.DB, messages.StartRequest{V: messages.Version, RequestID: "r", Table: "users", Columns: []messages.ColumnRequest{{Source: "email"}},
			Direction: messages.DirectionIndex, Index: "bidx"})
		check(t, err)
		if p.JobColumn().Index.Listed != want {
			t.Errorf("%s: listed %t", why, !want)
		}
	}
	lists := func(want int) map[string]string {
		t.Helper()
		_, steps, err := index.Unlisted(t.Context(), o.DB.DB, 1)
		check(t, err)
		if len(steps) != want {
			t.Fatalf("%d lists are missing, want %d", len(steps), want)
		}
		made := map[string]string{}
		for name, step := range steps {
			made[name] = step.Do[0]
		}
		return made
	}
	made := 0
	for _, sql := range lists(4) {
		listed(false, "some are missing")
		o.Run(t, sql)
		made++
	}
	lists(0)
	listed(true, "no row lacks its token")
	o.Run(t, `UPDATE users SET bidx = NULL WHERE id IN (3, 9)`)
	listed(true, "two lack theirs")
	p := o.planBuild(0)
	if p.Filled {
		t.Error("two rows lack their token")
	}
	o.Run(t, `CREATE TABLE late PARTITION OF users FOR VALUES FROM (100) TO (200)`)
	listed(false, "a partition came")
	for name, sql := range lists(1) {
		o.Run(t, sql)
		o.Run(t, `UPDATE pg_index SET indisvalid = false WHERE indexrelid = $1::regclass`, name)
	}
	listed(false, "one is half built")
	if made != 4 {
		t.Errorf("%d were made", made)
	}
}
