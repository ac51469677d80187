package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// occupant is an application with a client of its own, that writes and reads rows of its own all the time and remembers
// what was acknowledged.
type occupant struct {
	pool  *pgxpool.Pool
	c     *client.Client
	email *client.Column
	first int64
	truth map[int64]*string
}

func newOccupant(t *testing.T, s *shell, poll time.Duration, first int64) *occupant {
	t.Helper()
	pool := must(pgxpool.New(t.Context(), s.env["DATABASE_URL"]+"&pool_max_conns=2"))
	t.Cleanup(pool.Close)
	kek := must(kms.Open(t.Context(), "file:"+filepath.Join(s.dir, "cipherfleet.kek.json"), ""))
	c := must(client.Open(t.Context(), pool, client.Config{KEK: kek, Name: fmt.Sprint("occupant ", first), Poll: poll}))
	t.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return &occupant{pool: pool, c: c, email: must(c.Column(t.Context(), "public.users", "email")), first: first, truth: map[int64]*string{}}
}

// live writes one row and reads it back.
func (o *occupant) live(ctx context.Context, n int) error {
	id, value := o.first+int64(n%20), new(string)
	if *value = fmt.Sprintf("value %d of row %d", n, id); n%7 == 0 {
		value = nil
	}
	err := o.c.Do(ctx, func(ctx context.Context) error {
		sql := `INSERT INTO users (id, {email ...}) VALUES ($1, {email $2 key $1}) ON CONFLICT (id) DO UPDATE SET {email = excluded}`
		if n%3 > 0 {
			sql = `UPDATE users SET {email = $2 key $1} WHERE id = $1`
		}
		tag, err := o.pool.Exec(ctx, sql, o.email, id, value)
		if err == nil && tag.RowsAffected() == 0 {
			_, err = o.pool.Exec(ctx, `INSERT INTO users (id, {email ...}) VALUES ($1, {email $2 key $1})`, o.email, id, value)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	o.truth[id] = value
	return o.holds(ctx, id, value)
}

// holds reads a row and compares it.
func (o *occupant) holds(ctx context.Context, id int64, want *string) error {
	var have *string
	in := client.In[string](o.email, id)
	err := o.c.Do(ctx, func(ctx context.Context) error {
		return o.pool.QueryRow(ctx, `SELECT id, {email} FROM users WHERE id = $1`, o.email, id).Scan(o.email.Row(new(int64), &have))
	})
	if err == nil && have != nil {
		err = o.c.Do(ctx, func(ctx context.Context) error { // as a cell that knows its row, too
			return o.pool.QueryRow(ctx, `SELECT {email} FROM users WHERE id = $1`, o.email, id).Scan(in)
		})
	}
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if have != nil && (!in.Valid || in.V != *have) {
		return fmt.Errorf("row %d holds another value as a cell", id)
	}
	if (have == nil) != (want == nil) || have != nil && *have != *want {
		return fmt.Errorf("row %d holds another value than was written", id)
	}
	return nil
}

// street is all of them at work.
type street struct {
	t      *testing.T
	all    []*occupant
	group  sync.WaitGroup
	stop   context.CancelFunc
	done   atomic.Int64
	failed chan error
}

func (s *street) open() {
	ctx, stop := context.WithCancel(s.t.Context())
	s.stop, s.failed = stop, make(chan error, len(s.all))
	for _, o := range s.all {
		s.group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := o.live(s.t.Context(), n); err != nil {
					s.failed <- err
					return
				}
				s.done.Add(1)
			}
		})
	}
}

// goesOn waits until they have done something more.
func (s *street) goesOn() {
	s.t.Helper()
	until := s.done.Load() + 100
	testenv.Eventually(s.t, time.Minute, func() error {
		if n := s.done.Load(); n < until && len(s.failed) == 0 {
			return fmt.Errorf("%d writes, want %d", n, until)
		}
		return nil
	})
	if len(s.failed) > 0 {
		s.t.Fatal(<-s.failed)
	}
}

// close lets them come to rest, and has every row read by each of them.
func (s *street) close() {
	s.t.Helper()
	s.stop()
	s.group.Wait()
	var wrong []error
	for len(s.failed) > 0 {
		wrong = append(wrong, <-s.failed)
	}
	for _, reader := range s.all {
		for _, o := range s.all {
			for id, value := range o.truth {
				wrong = append(wrong, reader.holds(s.t.Context(), id, value))
			}
		}
	}
	if err := errors.Join(wrong...); err != nil {
		s.t.Fatal(err)
	}
}

// TestCellsMoveUnderTraffic: applications with clients that hear and such that poll, while the cells under their column
// move into one of another type, back, there again, and the old ones go. None sees an error, every value is there at the
// end, and no plaintext is in the table on the way.
func TestCellsMoveUnderTraffic(t *testing.T) {
	t.Parallel()
	for kind, strategy := range map[string]string{"text": "swap", "jsonb": "by-name"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			moveUnderTraffic(t, kind, strategy)
		})
	}
}

func moveUnderTraffic(t *testing.T, kind, strategy string) {
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text)`)
	db.Run(t, `INSERT INTO users SELECT g, CASE WHEN g % 10 > 0 THEN 'value of row ' || g END FROM generate_series(1, 500) g`)
	s := newShell(t, db.URL).withKey().with("CIPHERFLEET_KEK", "")
	s.with("CIPHERFLEET_KEK", "file:"+s.path("cipherfleet.kek.json"))
	s.must("backfill", "--table", "users", "--column", "email", "--prepare")
	s.must("verify", "--table", "users")
	s.must("cutover", "users.email", "--soak", "0")
	s.must("drop", "users.email", "--apply")
	old := &occupant{truth: map[int64]*string{}}
	for id := int64(1); id <= 500; id++ {
		if value := fmt.Sprintf("value of row %d", id); id%10 > 0 {
			old.truth[id] = &value
		} else {
			old.truth[id] = nil
		}
	}
	street := &street{t: t}
	for i, poll := range []time.Duration{20 * time.Millisecond, 300 * time.Millisecond, time.Hour} {
		street.all = append(street.all, newOccupant(t, s, poll, int64(1000*(i+1))))
	}
	step := func(args ...string) {
		t.Helper()
		street.open()
		street.goesOn()
		s.must(args...)
		street.goesOn()
		street.close()
	}
	column := "email_" + kind
	step("backfill", "--table", "users", "--column", "email", "--target", column, "--type", kind, "--transform", "reencrypt", "--from", "cipherfleet", "--prepare")
	street.open() // by now everybody has noticed
	street.goesOn()
	street.close()
	missed := testenv.One[int64](t, db, `SELECT count(*) FROM cipherfleet.missed_writes`)
	street.open()
	street.goesOn()
	street.close()
	if again := testenv.One[int64](t, db, `SELECT count(*) FROM cipherfleet.missed_writes`); again != missed {
		t.Errorf("%d writes missed the new cells, although everybody knows of them", again-missed)
	}
	s.must("backfill", "--table", "users", "--column", column)
	s.must("verify", "--table", "users")
	step("cutover", "users."+column, "--soak", "0", "--strategy", strategy)
	s.must("verify", "--table", "users")
	step("rollback", "users."+column, "--reason", "a test")
	s.must("backfill", "--table", "users", "--column", column)
	s.must("verify", "--table", "users")
	step("cutover", "users."+column, "--soak", "0", "--strategy", strategy)
	step("drop", "users."+column, "--apply")
	s.must("verify", "--table", "users")
	street.all[0].compare(t, old)
	if left := testenv.One[int](t, db, `SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 0 AND NOT attisdropped`); left != 2 {
		t.Errorf("%d columns are left, want key and cells", left)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users u WHERE u::text LIKE '%value%'`); n > 0 {
		t.Errorf("%d rows show a value", n)
	}
}

func (o *occupant) compare(t *testing.T, other *occupant) {
	t.Helper()
	for id, value := range other.truth {
		if err := o.holds(t.Context(), id, value); err != nil {
			t.Error(err)
		}
	}
}
