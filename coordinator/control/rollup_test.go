package control

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// leading is a plane that leads a fresh installation, without a queue.
func leading(t *testing.T) (*Plane, *testenv.DB) {
	t.Helper()
	db := testenv.Database(t)
	p := New(Plane{DB: db.DB})
	conn, err := p.campaign(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Discard(t.Context()) })
	return p, db
}

const missedSummary = `SELECT coalesce(string_agg(concat_ws(' ', column_id, application, role, writes), '; ' ORDER BY date_trunc('minute', at), column_id, application, role, at), '') FROM cipherfleet.missed_writes`

func TestMissedWritesAreAddedUpByTheMinute(t *testing.T) {
	t.Parallel()
	p, db := leading(t)
	db.Run(t, `INSERT INTO cipherfleet.missed_writes (column_id, at, application, role)
		SELECT 7, date_trunc('minute', now()) - interval '10 minutes' + g * interval '0.01 s', 'web', 'app' FROM generate_series(0, 5999) g`)
	db.Run(t, `INSERT INTO cipherfleet.missed_writes (column_id, at, application, role, writes)
		SELECT c, date_trunc('minute', now()) - interval '9 minutes' + make_interval(secs => s), 'web', r, 2 FROM (VALUES (7), (8)) v(c), (VALUES ('app'), ('etl')) w(r), generate_series(1, 3) s`)
	db.Run(t, `INSERT INTO cipherfleet.missed_writes (column_id, application, role) SELECT 9, 'web', 'app' FROM generate_series(1, 3)`) // just now
	last := testenv.One[string](t, db, `SELECT max(at) FILTER (WHERE column_id = 8)::text FROM cipherfleet.missed_writes`)
	for range 2 { // a second time there is nothing to add up
		if err := p.rollup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := testenv.One[string](t, db, missedSummary); got != "7 web app 6000; 7 web app 6; 7 web etl 6; 8 web app 6; 8 web etl 6; 9 web app 1; 9 web app 1; 9 web app 1" {
			t.Errorf("the record is %s", got)
		}
	}
	if kept := testenv.One[string](t, db, `SELECT max(at) FILTER (WHERE column_id = 8)::text FROM cipherfleet.missed_writes`); kept != last {
		t.Errorf("the last write was at %s, now at %s", last, kept)
	}
}

func TestMissedWritesAreForgottenAfterAMonth(t *testing.T) {
	t.Parallel()
	p, db := leading(t)
	db.Run(t, fmt.Sprintf(`INSERT INTO cipherfleet.missed_writes (column_id, at, application, role)
		SELECT 7, now() - interval '31 days' - g * interval '1 minute', 'web', 'app' FROM generate_series(0, %d) g`, rollupRows))
	db.Run(t, `INSERT INTO cipherfleet.missed_writes (column_id, at, application, role) VALUES (7, now() - interval '29 days', 'web', 'app')`)
	if err := p.rollup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := testenv.One[string](t, db, missedSummary); got != "7 web app 1" {
		t.Errorf("the record is %s", got)
	}
}

// No transaction of ours deletes more than a bounded number of rows, and a coordinator that was deposed deletes none.
func TestMissedWritesAreAddedUpInParts(t *testing.T) {
	t.Parallel()
	p, db := leading(t)
	db.Run(t, `CREATE TABLE parts (rows bigint); CREATE FUNCTION part() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.parts SELECT count(*) FROM gone; RETURN NULL; END';
		CREATE TRIGGER part AFTER DELETE ON cipherfleet.missed_writes REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION part()`)
	db.Run(t, fmt.Sprintf(`INSERT INTO cipherfleet.missed_writes (column_id, at, application, role)
		SELECT 7, date_trunc('minute', now()) - interval '10 minutes', 'web', 'app' FROM generate_series(1, %d)`, 2*rollupRows+1))
	if err := p.rollup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if most := testenv.One[int](t, db, `SELECT max(rows) FROM parts`); most != rollupRows {
		t.Errorf("one transaction deleted %d rows, want %d", most, rollupRows)
	}
	if got := testenv.One[string](t, db, missedSummary); got != fmt.Sprintf("7 web app %d", 2*rollupRows+1) {
		t.Errorf("the record is %s", got)
	}
	db.Run(t, `INSERT INTO cipherfleet.missed_writes (column_id, at, application, role) SELECT 7, now() - interval '1 hour', 'web', 'app' FROM generate_series(1, 2);
		UPDATE cipherfleet.installation SET coordinator_epoch = coordinator_epoch + 1`)
	if err := p.rollup(t.Context()); !errors.Is(err, ErrDeposed) {
		t.Errorf("a deposed coordinator: %v", err)
	}
}
