package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// MayRetire refuses what [Registrar.RetireScheme] would refuse, without changing anything: a scheme that is written
// with ([*StateError]), or that a program with a live lease may still write ([*NotReadyError]).
func MayRetire(ctx context.Context, tx pg.Tx, column uint32, number uint16) error {
	_, err := mayRetire(ctx, tx, column, number)
	return err
}

func mayRetire(ctx context.Context, tx pg.Tx, column uint32, number uint16) (SchemeRow, error) {
	all, err := Schemes(ctx, tx, column)
	if err != nil {
		return SchemeRow{}, err
	}
	s, err := named(all, column, number)
	if err != nil || s.State == SchemeRetired {
		return s, err
	}
	active := slices.IndexFunc(all, func(s SchemeRow) bool { return s.State == SchemeActive })
	switch {
	case s.State == SchemeDestroyed:
		return s, &StateError{Column: column, Scheme: number, State: s.State, Reason: "there is nothing left to retire", Advice: "list the schemes with scheme ls"}
	case s.State == SchemeActive || active < 0:
		return s, &StateError{Column: column, Scheme: number, State: s.State, Reason: "the column has no other scheme to be sealed with",
			Advice: "activate another one, and seal the cells anew with rotate"}
	}
	return s, carried(ctx, tx, NotReadyError{Column: column, Scheme: number, Revision: all[active].Activated, Act: "retired"})
}

// RetireScheme records, in the transaction of the proof, that no cell of a scheme is left and none can come: its keys
// are kept, but nobody loads them any more. The proof is the caller's: a constraint that Postgres has validated. It
// refuses what [MayRetire] refuses. A retired scheme stays as it is.
func (r Registrar) RetireScheme(ctx context.Context, tx pg.Tx, column uint32, number uint16) error {
	if err := bumpRevision(ctx, tx); err != nil {
		return err
	}
	s, err := mayRetire(ctx, tx, column, number)
	if err != nil || s.State == SchemeRetired {
		return err
	}
	return r.markRetired(ctx, tx, s)
}

// RetireGone retires a column whose cells are gone with the column of the table that held them, as the caller proves in
// the same transaction: nothing is left that its schemes open, and nothing takes its cells any more. Their keys are kept
// as those of any retired scheme.
func (r Registrar) RetireGone(ctx context.Context, tx pg.Tx, column uint32) error {
	all, err := Schemes(ctx, tx, column)
	if err != nil {
		return err
	}
	if err := Retire(ctx, tx, column); err != nil {
		return err
	}
	for _, s := range all {
		if s.State == SchemeRetired || s.State == SchemeDestroyed {
			continue
		}
		if err := r.markRetired(ctx, tx, s); err != nil {
			return err
		}
	}
	return nil
}

func (r Registrar) markRetired(ctx context.Context, tx pg.Tx, s SchemeRow) error {
	_, err := tx.Exec(ctx, `UPDATE cipherfleet.schemes SET state = 'retired', retired_at = pg_catalog.clock_timestamp() WHERE column_id = $1 AND number = $2`, s.Column, s.Number)
	if err != nil {
		return fmt.Errorf("retire scheme %d of column %d: %w", s.Number, s.Column, err)
	}
	return r.tell(ctx, tx, s.Column, change{Scheme: s.Number, From: s.State, To: SchemeRetired, Key: s.KeyID})
}

// RetainedError refuses to destroy keys before the time for which they are kept is over.
type RetainedError struct {
	Whose
	Column uint32
	Scheme uint16
	Until  time.Time
}

// Error says until when.
func (e *RetainedError) Error() string {
	return fmt.Sprintf("scheme %d of %s is retained until %s", e.Scheme, e.Of(e.Column), e.Until.UTC().Format(time.RFC3339))
}

// Hint says why.
func (e *RetainedError) Hint() string {
	return "its keys open the cells in backups of before its retirement; the time was set when the scheme was made, and is not shortened"
}

const destroySQL = `UPDATE cipherfleet.schemes SET state = 'destroyed', destroyed_at = pg_catalog.clock_timestamp()
 WHERE column_id = $1 AND number = $2 AND retired_at + retain <= pg_catalog.clock_timestamp()`

const destroyKeysSQL = `UPDATE cipherfleet.deks SET wrapped = NULL, destroyed_at = pg_catalog.clock_timestamp() WHERE column_id = $1 AND scheme = $2 AND wrapped IS NOT NULL`

// DestroyScheme deletes the wrapped keys of a retired scheme, for good, once its retention is over ([*RetainedError]).
// The caller proves in the same transaction that still no cell of it is left. A destroyed scheme stays as it is.
func (r Registrar) DestroyScheme(ctx context.Context, tx pg.Tx, column uint32, number uint16) error {
	if err := bumpRevision(ctx, tx); err != nil {
		return err
	}
	all, err := Schemes(ctx, tx, column)
	if err != nil {
		return err
	}
	s, err := named(all, column, number)
	switch {
	case err != nil || s.State == SchemeDestroyed:
		return err
	case s.State != SchemeRetired:
		return &StateError{Column: column, Scheme: number, State: s.State, Reason: "it is not retired, so there may be cells that nobody could open without its key",
			Advice: "retire it first"}
	}
	tag, err := tx.Exec(ctx, destroySQL, column, number)
	switch {
	case err != nil:
		return fmt.Errorf("destroy scheme %d of column %d: %w", number, column, err)
	case tag.RowsAffected() == 0:
		return &RetainedError{Column: column, Scheme: number, Until: s.Retired.Add(s.Retain)}
	}
	if _, err := tx.Exec(ctx, destroyKeysSQL, column, number); err != nil {
		return fmt.Errorf("destroy the keys of scheme %d of column %d: %w", number, column, err)
	}
	return r.tell(ctx, tx, column, change{Scheme: number, From: SchemeRetired, To: SchemeDestroyed, Key: s.KeyID})
}

// named finds a scheme by its number.
func named(all []SchemeRow, column uint32, number uint16) (SchemeRow, error) {
	i := slices.IndexFunc(all, func(s SchemeRow) bool { return s.Number == number })
	if i < 0 {
		return SchemeRow{}, &StateError{Column: column, Scheme: number, Advice: "list the schemes there are with scheme ls"}
	}
	return all[i], nil
}
