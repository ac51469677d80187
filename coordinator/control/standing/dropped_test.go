package standing_test

import (
	"sync"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// registered is a table whose column 1, email, is registered and cut over by name.
func registered(t *testing.T) *testenv.DB {
	t.Helper()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id int PRIMARY KEY, email text, cell bytea, CONSTRAINT cipherfleet_1_cell CHECK (cell IS NULL OR octet_length(cell) >= 32));
INSERT INTO cipherfleet.columns (relid, source_attnum, target_attnum, schema_name, table_name, source, target, type) VALUES ('users'::regclass, 2, 3, 'public', 'users', 'email', 'cell', 'text');
INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'email', 'advanced', 'cut-over')`)
	return db
}

// TestDroppedIsRecordedWhenItIsSeen and not when something else looks like it.
func TestDroppedIsRecordedWhenItIsSeen(t *testing.T) {
	t.Parallel()
	const dropIt = `ALTER TABLE users DROP email; `
	for name, tc := range map[string]struct {
		change string
		seen   int
	}{
		"dropped by hand":            {dropIt, 1},
		"and the table renamed":      {dropIt + `ALTER TABLE users RENAME TO people`, 1},
		"and made again, empty":      {dropIt + `ALTER TABLE users ADD email text`, 1},
		"there":                      {`SELECT`, 0},
		"renamed":                    {`ALTER TABLE users RENAME email TO mail`, 0},
		"the table is gone":          {`DROP TABLE users`, 0},
		"another phase":              {dropIt + `INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'email', 'advanced', 'backfilled')`, 0},
		"recorded already":           {dropIt + `INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.users', 'email', 'dropped', 'dropped')`, 0},
		"another table of that oid":  {dropIt + `ALTER TABLE users DROP CONSTRAINT cipherfleet_1_cell`, 0},
		"another column of that oid": {dropIt + `ALTER TABLE users DROP CONSTRAINT cipherfleet_1_cell, ADD other bytea, ADD CONSTRAINT cipherfleet_1_cell CHECK (other IS NULL)`, 0},
		"retired":                    {dropIt + `UPDATE cipherfleet.columns SET retired_at = now()`, 0},
		"a run is at work": {dropIt + `INSERT INTO cipherfleet.events (table_name, column_name, event, phase, job_id, rows_total)
 VALUES ('public.users', 'email', 'backfill_started', 'cut-over', gen_random_uuid(), 1)`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := registered(t)
			db.Run(t, tc.change)
			before := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events`)
			recorded, err := standing.RecordDropped(t.Context(), db.DB)
			if err != nil || len(recorded) != tc.seen || tc.seen > 0 && (recorded[0].ID != 1 || recorded[0].Source != "email") {
				t.Errorf("it recorded %+v, %v", recorded, err)
			}
			if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events`); n != before+tc.seen {
				t.Errorf("%d events were appended, want %d", n-before, tc.seen)
			}
			if again, err := standing.RecordDropped(t.Context(), db.DB); err != nil || len(again) > 0 {
				t.Errorf("again it recorded %+v, %v", again, err)
			}
		})
	}
}

// TestDroppedIsRecordedOnce, whoever looks at the same time.
func TestDroppedIsRecordedOnce(t *testing.T) {
	t.Parallel()
	db := registered(t)
	db.Run(t, `ALTER TABLE users DROP email`)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := standing.RecordDropped(t.Context(), db.DB); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'dropped' AND phase = 'dropped' AND details->>'attnum' = '2'`); n != 1 {
		t.Errorf("it was recorded %d times", n)
	}
}

// A column whose event was taken back at the commit is not recorded, and is not said to be.
func TestWhatDidNotCommitIsNotRecorded(t *testing.T) {
	t.Parallel()
	db := registered(t)
	db.Run(t, `ALTER TABLE users DROP email;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON cipherfleet.events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
	if recorded, err := standing.RecordDropped(t.Context(), db.DB); err == nil || len(recorded) > 0 {
		t.Errorf("it recorded %+v, %v", recorded, err)
	}
}
