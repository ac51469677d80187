package blind

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// StateError refuses what the state of a blind index does not allow.
type StateError struct {
	Index lifecycle.Index
	Want  lifecycle.IndexState
}

// Error says which index, and why not.
func (e *StateError) Error() string {
	return fmt.Sprintf("blind index %q of %s is %s: it cannot become %s", e.Index.Name, e.Index.Of(), e.Index.State, e.Want)
}

// Hint says what to do.
func (e *StateError) Hint() string {
	return "cipherfleet index ls says how the indexes of the column stand"
}

// before are the states that lead to a state.
func before(s lifecycle.IndexState) []lifecycle.IndexState {
	switch s {
	case lifecycle.IndexFilling:
		return []lifecycle.IndexState{lifecycle.IndexPrepared}
	case lifecycle.IndexReady:
		return []lifecycle.IndexState{lifecycle.IndexFilling}
	case lifecycle.IndexRetiring:
		return []lifecycle.IndexState{lifecycle.IndexFilling, lifecycle.IndexReady}
	case lifecycle.IndexDropped:
		return []lifecycle.IndexState{lifecycle.IndexPrepared, lifecycle.IndexRetiring}
	}
	return nil
}

const moveSQL = `UPDATE cipherfleet.blind_indexes SET state = $2, revision = $3,
 ready_at = CASE WHEN $2 = 'ready' THEN pg_catalog.clock_timestamp() ELSE ready_at END,
 dropped_at = CASE WHEN $2 = 'dropped' THEN pg_catalog.clock_timestamp() END
 WHERE id = $1`

// Move takes a blind index to another state, in the transaction of what makes it true, with an event of its column; the
// index's own line in the log begins when it is to be filled. To drop one deletes its wrapped key for good, and is a
// [*lifecycle.NotReadyError] while a program with a live lease may still work with it. An index that is there already
// stays as it is.
func (r Registrar) Move(ctx context.Context, tx pg.Tx, id uint32, to lifecycle.IndexState) error {
	revision, err := lifecycle.BeginChange(ctx, tx)
	if err != nil {
		return err
	}
	x, found, err := lifecycle.IndexByID(ctx, tx, id)
	switch {
	case err != nil:
		return err
	case !found:
		return fmt.Errorf("move blind index %d: there is no such index", id)
	case x.State == to:
		return nil
	case !slices.Contains(before(to), x.State):
		return &StateError{Index: x, Want: to}
	}
	if to == lifecycle.IndexDropped {
		if err := destroy(ctx, tx, x); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, moveSQL, id, to, revision); err != nil {
		return fmt.Errorf("move blind index %d: %w", id, err)
	}
	if to == lifecycle.IndexFilling {
		if err := r.openLog(ctx, tx, x); err != nil {
			return err
		}
	}
	return r.TellIndex(ctx, tx, x, told(to))
}

func told(to lifecycle.IndexState) string { return "blind index is " + string(to) }

// destroy deletes the wrapped key, once nobody that is there writes tokens or looks anything up by them.
func destroy(ctx context.Context, tx pg.Tx, x lifecycle.Index) error {
	if x.State == lifecycle.IndexRetiring {
		if err := x.Carried(ctx, tx); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `UPDATE cipherfleet.deks SET wrapped = NULL, destroyed_at = pg_catalog.clock_timestamp() WHERE blind_index = $1 AND wrapped IS NOT NULL`, x.ID)
	if err != nil {
		return fmt.Errorf("destroy the key of blind index %d: %w", x.ID, err)
	}
	return nil
}

// openLog begins the index's own line in the log, where its runs belong; another index may have had one of its name.
func (r Registrar) openLog(ctx context.Context, tx pg.Tx, x lifecycle.Index) error {
	of, err := lifecycle.ColumnByID(ctx, tx, x.Column)
	if err != nil {
		return err
	}
	e := x.Logged(of)
	state, err := lifecycle.Latest(ctx, tx, e.Table, e.Column)
	if err != nil && !errors.Is(err, lifecycle.ErrImpossible) {
		return err
	}
	e.Actor = r.Actor
	if state.Phase == "" {
		e.Kind, e.Phase = lifecycle.KindSchemaAdded, lifecycle.PhaseSchemaAdded
		if _, err := (&lifecycle.Log{}).Append(ctx, tx, e); err != nil {
			return err
		}
	}
	e.Kind, e.Phase = lifecycle.KindDualWriting, lifecycle.PhaseDualWriting
	_, err = (&lifecycle.Log{}).Append(ctx, tx, e)
	return err
}
