package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Registrar changes the schemes and keys of the registry. Each change is one transaction, with an event of kind
// scheme_changed for the column.
type Registrar struct {
	DB     *pg.DB
	KEK    cell.KEK
	Actor  string // who asked; "": the database role
	Reason string // why; ends in the event

	silent bool // no event: whoever calls appends one
}

// Definition is what a scheme is to be.
type Definition struct {
	cell.Scheme               // its KeyID is given by the registry; Number 0 is the next one
	Tenant      string        // column whose value chooses the key; "": one key for all rows
	Retain      time.Duration // how long its keys are kept at least after it was retired; 0: 720 h
}

const defaultRetain = 720 * time.Hour

// NewScheme gives a column a scheme that can be read from now on, and returns it with its key id: a fresh DEK, wrapped,
// committed with its canary, read back on another connection, unwrapped and proven. A number that exists must have the
// same definition ([*SchemeConflictError]); its key is proven again. A new number must be the highest ([*NumberError]).
// After a failure half-way the next call goes on where this one stood.
func (r Registrar) NewScheme(ctx context.Context, d Definition) (cell.Scheme, error) {
	installation, err := ReadInstallation(ctx, r.DB)
	if err != nil {
		return cell.Scheme{}, err
	}
	if d.Retain == 0 {
		d.Retain = defaultRetain
	}
	if d.Number == 0 {
		if d.Number, err = nextNumber(ctx, r.DB, d.Column); err != nil {
			return cell.Scheme{}, err
		}
	}
	keys, err := r.makeKeys(ctx, installation.Registry, wanted{Definition: d, told: func(ctx context.Context, tx pg.Tx, s cell.Scheme) error {
		return r.tell(ctx, tx, s.Column, change{Scheme: s.Number, To: SchemeReadable, Key: s.KeyID})
	}})
	return keys[""].scheme, err
}

// makeKeys persists keys and proves them, by tenant.
func (r Registrar) makeKeys(ctx context.Context, registry [16]byte, want wanted) (map[string]key, error) {
	if err := persistKeys(ctx, r.DB, registry, r.KEK, want); err != nil {
		return nil, fmt.Errorf("persist key of scheme %d of column %d: %w", want.Number, want.Column, err)
	}
	keys, err := proveKeys(ctx, r.DB, registry, r.KEK, want)
	if err != nil {
		return nil, fmt.Errorf("prove key of scheme %d of column %d: %w", want.Number, want.Column, err)
	}
	return keys, nil
}

const nextNumberSQL = `SELECT coalesce(max(s.number), 0) + 1 FROM cipherfleet.schemes s WHERE s.column_id = $1`

func nextNumber(ctx context.Context, q pg.Querier, column uint32) (uint16, error) {
	var next int
	if err := q.QueryRow(ctx, nextNumberSQL, column).Scan(&next); err != nil {
		return 0, fmt.Errorf("number a scheme of column %d: %w", column, err)
	}
	if next > 65535 {
		return 0, fmt.Errorf("number a scheme of column %d: every number was used", column)
	}
	return uint16(next), nil
}

// StateError refuses what a scheme's state does not allow.
type StateError struct {
	Whose
	Column uint32
	Scheme uint16
	State  SchemeState // "": there is no such scheme
	Reason string
	Advice string
}

// Error says which scheme, and why not.
func (e *StateError) Error() string {
	if e.State == "" {
		return fmt.Sprintf("%s has no scheme %d", e.Of(e.Column), e.Scheme)
	}
	return fmt.Sprintf("scheme %d of %s is %s: %s", e.Scheme, e.Of(e.Column), e.State, e.Reason)
}

// Hint says what to do.
func (e *StateError) Hint() string { return e.Advice }

// ActivateScheme has a column sealed with a readable scheme from now on; the one before stays readable. Its key is
// proven first. It refuses with a [*NotReadyError] while a live lease does not carry the scheme, unless it is the first
// that its column ever wrote.
func (r Registrar) ActivateScheme(ctx context.Context, column uint32, number uint16) error {
	const what = "activate a scheme"
	all, err := Schemes(ctx, r.DB, column)
	if err != nil {
		return err
	}
	s, err := readable(all, column, number)
	if err != nil || s.State == SchemeActive {
		return wrap(what, err)
	}
	installation, err := ReadInstallation(ctx, r.DB)
	if err != nil {
		return err
	}
	if _, err := proveKeys(ctx, r.DB, installation.Registry, r.KEK, wanted{Definition: s.Definition}); err != nil {
		return fmt.Errorf("prove key of scheme %d of column %d: %w", number, column, err)
	}
	return wrap(what, r.DB.InTx(ctx, func(tx pg.Tx) error { return r.activate(ctx, tx, column, number) }))
}

// activate does it under the registry's lock.
func (r Registrar) activate(ctx context.Context, tx pg.Tx, column uint32, number uint16) error {
	revision, err := nextRevision(ctx, tx)
	if err != nil {
		return err
	}
	all, err := Schemes(ctx, tx, column)
	if err != nil {
		return err
	}
	s, err := readable(all, column, number)
	if err != nil || s.State == SchemeActive {
		return err
	}
	if len(all) > 1 {
		if err := carried(ctx, tx, NotReadyError{Column: column, Scheme: number, Revision: s.Revision, Act: "written with"}); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `UPDATE cipherfleet.schemes SET state = 'readable' WHERE column_id = $1 AND state = 'active'`, column); err != nil {
		return fmt.Errorf("step the scheme before down: %w", err)
	}
	if _, err := tx.Exec(ctx, `UPDATE cipherfleet.schemes SET state = 'active', activated = $3 WHERE column_id = $1 AND number = $2`, column, number, revision); err != nil {
		return fmt.Errorf("step up: %w", err)
	}
	return r.tell(ctx, tx, column, change{Scheme: number, From: SchemeReadable, To: SchemeActive, Key: s.KeyID})
}

// readable finds a scheme that cells can be opened and sealed with.
func readable(all []SchemeRow, column uint32, number uint16) (SchemeRow, error) {
	s, err := named(all, column, number)
	if err == nil && (s.State == SchemeRetired || s.State == SchemeDestroyed) {
		err = &StateError{Column: column, Scheme: number, State: s.State, Reason: "nothing is sealed with it any more",
			Advice: "make a new scheme: a number is never used again"}
	}
	return s, err
}

// change is the detail of an event of kind scheme_changed.
type change struct {
	Scheme uint16      `json:"scheme,omitempty"`
	From   SchemeState `json:"from,omitempty"`
	To     SchemeState `json:"to,omitempty"`
	Key    uint32      `json:"key,omitempty"`

	Index      string `json:"index,omitempty"` // of a blind index its name; then it is about no scheme
	Generation int    `json:"generation,omitempty"`
	Token      string `json:"token,omitempty"`

	What   string `json:"what,omitempty"` // if it is no change of state
	Reason string `json:"reason,omitempty"`
}

// tell appends the event of a change.
func (r Registrar) tell(ctx context.Context, tx pgx.Tx, column uint32, c change) error {
	if r.silent {
		return nil
	}
	of, err := ColumnByID(ctx, tx, column)
	if err != nil {
		return err
	}
	c.Reason = r.Reason
	detail, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write the change of scheme %d: %w", c.Scheme, err)
	}
	_, err = (&Log{}).Append(ctx, tx, Event{Table: of.Table.String(), Column: of.Source, Kind: KindSchemeChanged, Actor: r.Actor, Detail: detail})
	return err
}

// ColumnByID is a column that was registered, whether or not it still is.
func ColumnByID(ctx context.Context, q pg.Querier, id uint32) (Column, error) {
	found, err := collect(ctx, q, scanColumn, `SELECT `+columnFields+` FROM cipherfleet.columns c WHERE c.id = $1`, id)
	if err == nil && len(found) == 0 {
		err = errors.New("it was never registered")
	}
	if err != nil {
		return Column{}, fmt.Errorf("read column %d: %w", id, err)
	}
	return found[0], nil
}
