package control

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestLeasesThatRanOutLongAgoArePruned, and no other: neither one that is live, for however long it was taken, nor one
// that ran out just now, nor one that somebody holds, who is not waited for.
func TestLeasesThatRanOutLongAgoArePruned(t *testing.T) {
	t.Parallel()
	p, db := leading(t)
	db.Run(t, `INSERT INTO cipherfleet.workers (id, kind, revision, seen_at, expires_at) SELECT 'killed-' || g, 'client', 0, now() - interval '3 days', now() - interval '2 days' FROM generate_series(1, 6000) g`)
	db.Run(t, `INSERT INTO cipherfleet.workers (id, kind, revision, seen_at, expires_at) VALUES
 ('live', 'worker', 0, now(), now() + interval '1 second'), ('slow', 'client', 0, now() - interval '9 days', now() + interval '1 day'),
 ('late', 'client', 0, now() - interval '59 minutes', now() - interval '50 minutes'), ('held', 'client', 0, now() - interval '3 days', now() - interval '2 days')`)
	left := func() string {
		return strings.Join(testenv.Column[string](t, db, `SELECT id FROM cipherfleet.workers ORDER BY id`), " ")
	}
	err := db.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT FROM cipherfleet.workers WHERE id = 'held' FOR UPDATE`); err != nil {
			return err
		}
		if err := p.prune(t.Context()); err != nil {
			return err
		}
		if have := left(); have != "held late live slow" {
			t.Errorf("left are %s", have)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.keeper().look(t.Context()); err != nil { // as in its rounds
		t.Fatal(err)
	}
	if have := left(); have != "late live slow" {
		t.Errorf("left are %s", have)
	}
	db.Run(t, `UPDATE cipherfleet.installation SET coordinator_epoch = coordinator_epoch + 1; INSERT INTO cipherfleet.workers (id, kind, revision, seen_at, expires_at) VALUES ('old', 'client', 0, now(), now() - interval '2 days')`)
	if err := p.prune(context.WithoutCancel(t.Context())); !errors.Is(err, ErrDeposed) {
		t.Errorf("who was deposed: %v", err)
	}
}
