package ladder_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// unheard is a connection that is lost, once, between a commit and its answer: that of the transaction in which a word was
// said.
type unheard struct {
	net.Conn
	word string
	said bool
	lost *atomic.Bool
	gone bool
}

func (u *unheard) Write(b []byte) (int, error) {
	u.said = u.said || bytes.Contains(b, []byte(u.word))
	n, err := u.Conn.Write(b)
	if err == nil && u.said && bytes.Contains(b, []byte("commit\x00")) && u.lost.CompareAndSwap(false, true) {
		u.gone = true
		_, err = u.Conn.Read(make([]byte, 1)) // it has committed
	}
	return n, err
}

func (u *unheard) Read(b []byte) (int, error) {
	if u.gone {
		return 0, io.ErrUnexpectedEOF
	}
	return u.Conn.Read(b)
}

// losing is the database over connections of which one is lost so.
func losing(t *testing.T, db *testenv.DB, word string) (own *pg.DB, lost *atomic.Bool) {
	t.Helper()
	config, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	lost = &atomic.Bool{}
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &unheard{Conn: conn, word: word, lost: lost}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if own, err = pg.Like(t.Context(), pool, pg.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	return own, lost
}

// TestACommitThatWasNotHeardOfIsNobodyElses: what became of it is not known, and nobody is told that another one was
// quicker, and that nothing was changed. The same request finds out.
func TestACommitThatWasNotHeardOfIsNobodyElses(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	r, _ := cutOver(t, db)
	own, lost := losing(t, db, string(lifecycle.KindRolledBack))
	l := &ladder.Ladder{DB: own, Actor: "tester"}
	_, err := r.rollback(t.Context(), l)
	if code, _ := app.Explain(err); code != app.CodeUnavailable || !lost.Load() || strings.Contains(err.Error(), "somebody else") {
		t.Errorf("exit code %d, lost %t: %v", code, lost.Load(), err)
	}
	if state, err := lifecycle.Latest(t.Context(), db, "public.users", "email"); err != nil || state.Phase != lifecycle.PhaseBackfilled {
		t.Fatalf("it is %s, %v", state.Phase, err)
	}
	if again, err := r.rollback(t.Context(), l); err != nil || !again.Already {
		t.Errorf("again: %+v, %v", again, err)
	}
}
