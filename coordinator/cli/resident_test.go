package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// resident is an application that lives with a table through all of its column's life. It writes plaintext alone while
// there is no cell to write, both while both are there, and cells once they have taken the plaintext's place; which of
// these it is, it sees in the transaction that writes, as an application sees it by its own version.
type resident struct {
	t       testing.TB
	db      *testenv.DB
	conn    *pgx.Conn // of its own, so that nothing of the tests' pool is in the way
	rng     *rand.Rand
	mu      sync.Mutex
	truth   map[int64]*string // what was committed last; nil: NULL
	keyring *cell.Keyring
	scheme  cell.Scheme
	next    int64
	honest  atomic.Bool // it never forgets the cell
	trouble []string    // errors that no application should have seen
	writes  int
}

// newResident knows the table as it is.
func newResident(t testing.TB, db *testenv.DB) *resident {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL+"&application_name=resident")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) }) //nolint:errcheck // the end
	r := &resident{t: t, db: db, conn: conn, truth: map[int64]*string{}, next: testenv.One[int64](t, db, `SELECT coalesce(max(id), 0) FROM users`)}
	r.rng = rand.New(rand.NewPCG(7, uint64(r.next)))
	for _, id := range testenv.Column[int64](t, db, `SELECT id FROM users`) {
		r.truth[id] = testenv.One[*string](t, db, `SELECT email FROM users WHERE id = $1`, id)
	}
	return r
}

// knows gives it the keys of this file, as pkg/lifecycle loads them, if any of a column was made yet.
func (r *resident) knows(path string) {
	r.t.Helper()
	if !testenv.One[bool](r.t, r.db, `SELECT to_regclass('cipherfleet.deks') IS NOT NULL`) || !testenv.One[bool](r.t, r.db, `SELECT EXISTS (SELECT FROM cipherfleet.deks)`) {
		return
	}
	kek, err := kms.Open(r.t.Context(), "file:"+path, "")
	if err != nil {
		r.t.Fatal(err)
	}
	keys, err := lifecycle.LoadKeys(r.t.Context(), r.db.DB, kek)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keyring = keys.Keyring
	for _, scheme := range keys.Active {
		r.scheme = scheme
	}
}

// live writes until the test says stop; each write is one transaction.
func (r *resident) live() (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			if err := r.write(context.WithoutCancel(ctx)); err != nil {
				r.mu.Lock()
				r.trouble = append(r.trouble, err.Error())
				r.mu.Unlock()
			}
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

// hasWritten waits until it wrote so many times more.
func (r *resident) hasWritten(n int) {
	r.t.Helper()
	count := func() int { r.mu.Lock(); defer r.mu.Unlock(); return r.writes }
	before := count()
	testenv.Eventually(r.t, time.Minute, func() error {
		if have := count(); have < before+n {
			return fmt.Errorf("%d writes, want %d", have, before+n)
		}
		return nil
	})
}

// stageSQL is what the application's versions differ in. The lock keeps the answer true until the transaction ends.
const stageSQL = `SELECT (SELECT atttypid = 'bytea'::regtype FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'email'),
 EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'email_encrypted')`

func (r *resident) write(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, value := 1+r.rng.Int64N(r.next), fmt.Sprintf("changed%d@example.org", r.rng.Int64())
	fresh := r.rng.IntN(4) == 0
	if fresh {
		id = r.next + 1
	}
	err := pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `LOCK TABLE users IN ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		cutOver, both := false, false
		if err := tx.QueryRow(ctx, stageSQL).Scan(&cutOver, &both); err != nil {
			return err
		}
		columns, values := []string{"email"}, []any{value}
		sealed, err := r.seal(id, value)
		switch {
		case err != nil:
			return err
		case cutOver:
			values[0] = sealed
		case both && sealed != nil && (r.honest.Load() || r.rng.IntN(3) > 0): // else it forgets now and then
			columns, values = append(columns, "email_encrypted"), append(values, sealed)
			if _, err := tx.Exec(ctx, `SET LOCAL cipherfleet.writer = 'client'`); err != nil {
				return err
			}
		}
		return r.send(ctx, tx, fresh, id, columns, values)
	})
	if err == nil {
		r.truth[id], r.next, r.writes = &value, max(r.next, id), r.writes+1
	}
	return err
}

func (r *resident) send(ctx context.Context, tx pgx.Tx, fresh bool, id int64, columns []string, values []any) error {
	var sets, places []string
	for i, c := range columns {
		sets, places = append(sets, fmt.Sprintf("%s = $%d", c, i+2)), append(places, fmt.Sprintf("$%d", i+2))
	}
	sql := fmt.Sprintf("UPDATE users SET %s WHERE id = $1", strings.Join(sets, ", "))
	if fresh {
		sql = fmt.Sprintf("INSERT INTO users (id, %s) VALUES ($1, %s)", strings.Join(columns, ", "), strings.Join(places, ", "))
	}
	tag, err := tx.Exec(ctx, sql, append([]any{pgx.QueryExecModeExec, id}, values...)...)
	if err == nil && tag.RowsAffected() != 1 {
		err = errors.New("a row is gone")
	}
	return err
}

func (r *resident) seal(id int64, value string) ([]byte, error) {
	if r.keyring == nil {
		return nil, nil
	}
	address := cell.Address{Column: r.scheme.Column, Key: cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), id)}
	return r.keyring.Seal(nil, r.scheme, address, []byte(value))
}

// remembers compares the table with what was committed: column plain holds plaintext, column sealed cells; "" is not there.
func (r *resident) remembers(plain, sealed string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, wrong := range r.trouble {
		r.t.Errorf("the application saw: %s", wrong)
	}
	r.trouble = nil
	rows, err := r.db.Query(r.t.Context(), fmt.Sprintf("SELECT id, %s::text, %s::bytea FROM users", orNothing(plain), orNothing(sealed)))
	if err != nil {
		r.t.Fatal(err)
	}
	seen := 0
	for rows.Next() {
		var id int64
		var text *string
		var sealedValue []byte
		if err := rows.Scan(&id, &text, &sealedValue); err != nil {
			r.t.Fatal(err)
		}
		seen++
		want := r.truth[id]
		if plain != "" && !same(text, want) {
			r.t.Errorf("row %d has another plaintext than was committed", id)
		}
		if sealed != "" && !same(r.opened(id, sealedValue), want) {
			r.t.Errorf("row %d has a cell of another value than was committed", id)
		}
	}
	if rows.Err() != nil || seen != len(r.truth) {
		r.t.Errorf("%d rows, want %d, %v", seen, len(r.truth), rows.Err())
	}
}

func (r *resident) opened(id int64, sealed []byte) *string {
	if sealed == nil {
		return nil
	}
	address := cell.Address{Column: r.scheme.Column, Key: cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), id)}
	plain, _, err := r.keyring.Open(nil, address, sealed)
	text := string(plain)
	if err != nil {
		text = "does not open"
	}
	return &text
}

func orNothing(column string) string {
	if column == "" {
		return "NULL"
	}
	return column
}

func same(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
