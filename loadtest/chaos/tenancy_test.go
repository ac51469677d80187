package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// wanderers are rows of the beginning, behind those of the customers, that somebody moves from firm to firm who knows of
// no cells.
const wanderers = 200

// TestARotationToColumnsUnderFaults: cells come to be bound to the firm of their rows while customers read, write and move
// theirs from firm to firm, and somebody who knows of no cells moves others. A worker, a customer and the coordinator are
// killed. No read fails, no write is lost, and every cell opens by the firm that its row has at the end.
func TestARotationToColumnsUnderFaults(t *testing.T) {
	t.Parallel()
	withCustomers(t, (*rotation).bind, lifecycle.PhaseCutOver, lifecycle.PhaseBackfilled, lifecycle.PhaseDropped)
}

// bind is the course of a seed.
func (w *rotation) bind(ctx context.Context) {
	w.bound = true
	rows := make([][]any, wanderers)
	for i := range rows {
		rows[i] = []any{founders + i + 1, portrait(w.plan.seed, int64(founders+i+1), 0)}
	}
	w.db.Run(w.t, "ALTER TABLE people ADD firm int NOT NULL DEFAULT 0")
	conn, err := w.connect(ctx)
	w.must(err)
	defer conn.Close(ctx)
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"people"}, []string{"id", "email"}, pgx.CopyFromRows(rows))
	w.must(err)
	w.prepare(ctx)
	w.openCustomers()
	everybody := []int{0, 1, 2, sleeper}
	w.goesOn(everybody...)
	w.watch()
	w.must(w.command(ctx, "scheme", "new", "people.email", "--binding", "columns", "--columns", "firm"))
	outside, home := context.WithCancel(ctx)
	var wandering, operating sync.WaitGroup
	defer operating.Wait()
	defer wandering.Wait()
	defer home()
	moved, refusals := 0, 0
	wandering.Go(func() { moved, refusals = w.wander(outside) })
	rotated := make(chan error, 1)
	operating.Go(func() {
		rotated <- w.command(outside, "rotate", "people.email", "--to", "2", "--chunk-rows", "50", "--user-triggers", "fire")
	})
	w.strike(ctx)
	w.must(<-rotated)
	w.goesOn(1-w.killed, 2, sleeper)
	home()
	wandering.Wait()
	if moved == 0 || (refusals == 0) != (w.phase == lifecycle.PhaseBackfilled) {
		w.t.Errorf("a column that is %s: %d rows were moved by somebody else, %d were not", w.phase, moved, refusals)
	}
	if w.phase == lifecycle.PhaseBackfilled { // where the plaintext is the truth, what he moved has lost its cell
		w.must(w.command(ctx, "backfill", "--table", "people", "--column", "email", "--user-triggers", "fire"))
	}
	w.retire(ctx)
	w.goesOn(1-w.killed, 2, sleeper)
	w.dismiss(ctx)
	w.findFirms(ctx)
	w.everyValueIsAsRecorded(ctx)
	w.theOldSchemeIsGone()
	w.fleetEndsInOrder(ctx)
	w.nothingLeaked()
}

const wanderSQL = `UPDATE people SET firm = firm + 1 WHERE id = $1`

// wander moves rows that are nobody's until ctx ends, and says how often it did, and how often it was refused.
func (w *rotation) wander(ctx context.Context) (moved, refused int) {
	for n := 0; ctx.Err() == nil; n++ {
		_, err := w.db.Exec(ctx, wanderSQL, founders+1+n%wanderers)
		switch {
		case err == nil:
			moved++
		case pg.Code(err) == "23514":
			refused++
		case ctx.Err() == nil && pg.ClassOf(err) != pg.ClassLock:
			w.t.Errorf("move a row: %v", err)
			return moved, refused
		}
	}
	return moved, refused
}

// findFirms keeps where each row is when all is over.
func (w *rotation) findFirms(ctx context.Context) {
	w.t.Helper()
	w.firms = map[int64]int32{}
	rows, err := w.db.Query(ctx, `SELECT id, firm FROM people`)
	w.must(err)
	var id int64
	var firm int32
	_, err = pgx.ForEachRow(rows, []any{&id, &firm}, func() error { w.firms[id] = firm; return nil })
	w.must(err)
}

// whereabouts is where a row's cell has to open.
func (w *rotation) whereabouts(keyring *cell.Keyring, id int64) cell.Address {
	a := cell.Address{Column: w.column, Key: address([]any{id})}
	if scheme, _ := keyring.Scheme(w.column, 2); w.bound {
		a.Bound = []cell.Bound{{Columns: scheme.Columns, Key: address([]any{w.firms[id]})}}
	}
	return a
}

// said is how a customer says what he does. Where rows have a firm, only he moves his.
type said struct{ update, insert, read string }

func (c *customer) says() said {
	if c.Bound {
		return said{`UPDATE people SET {email = $2 key $1 with firm $3} WHERE id = $1 AND firm = $3`,
			`INSERT INTO people (id, firm, {email ...}) VALUES ($1, $3, {email $2 key $1 with firm $3})`,
			`SELECT id, firm, {email} FROM people WHERE id BETWEEN $1 AND $2`}
	}
	return said{`UPDATE people SET {email = $2 key $1} WHERE id = $1`,
		`INSERT INTO people (id, {email ...}) VALUES ($1, {email $2 key $1})`,
		`SELECT id, {email} FROM people WHERE id BETWEEN $1 AND $2`}
}

// with are the arguments of a row's statement.
func (c *customer) with(id int64, value any) []any {
	if c.Bound {
		return []any{c.people, id, value, c.firms[id]}
	}
	return []any{c.people, id, value}
}

// move makes a row another firm's, in one transaction with its cell. A client whose lease has run out moves none.
func (c *customer) move(ctx context.Context, id int64) error {
	firm := int32(c.chance.IntN(5))
	err := c.client.Do(ctx, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
			return c.people.RebindWith(ctx, tx, client.Key{id}, map[string]any{"firm": firm})
		})
	})
	switch {
	case errors.Is(err, client.ErrLeaseExpired):
		return nil
	case err != nil:
		return fmt.Errorf("move row %d: %w", id, err)
	}
	c.firms[id] = firm
	return nil
}

// recordOfWanderers is what is known of rows that nobody's record knows.
func (w *rotation) recordOfWanderers(all map[int64]*history) {
	for id := int64(founders + 1); w.bound && id <= founders+wanderers; id++ {
		all[id] = &history{acts: map[int]string{0: acked}}
	}
}
