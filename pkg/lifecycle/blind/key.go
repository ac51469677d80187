package blind

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Registrar changes the blind indexes of the registry. Each change is one transaction, with an event for the column.
type Registrar struct{ lifecycle.Registrar }

// ConflictError refuses a blind index whose name and generation another one has: indexes are immutable.
type ConflictError struct {
	Have lifecycle.Index
	Want lifecycle.IndexDefinition
}

// Error says which one it is.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("blind index %q of %s, generation %d, is another one already (%s, %d bytes, unique %t, in %q)",
		e.Have.Name, e.Have.Of(), e.Have.Generation, e.Have.Normaliser, e.Have.Bytes, e.Have.Unique, e.Have.Token)
}

// Hint says what to do.
func (e *ConflictError) Hint() string {
	return "an index never changes: make the new one under another name, and drop the old one when that is ready"
}

// Prepare gives a blind index its id and its key: drawn, wrapped, committed with a canary, read back on another
// connection, unwrapped and proven. Nobody makes tokens with it before it is filled. One that exists must have the same
// definition ([*ConflictError]); its key is proven again. After a failure half-way the next call goes on.
func (r Registrar) Prepare(ctx context.Context, want lifecycle.IndexDefinition) (lifecycle.Index, error) {
	installation, err := lifecycle.ReadInstallation(ctx, r.DB)
	if err != nil {
		return lifecycle.Index{}, err
	}
	if err := r.persist(ctx, installation.Registry, want); err != nil {
		return lifecycle.Index{}, fmt.Errorf("persist the key of blind index %q of column %d: %w", want.Name, want.Column, err)
	}
	x, ok, err := find(ctx, r.DB, want) // as everybody else will read it
	if err == nil && !ok {
		err = errors.New("it was committed, but another connection does not see it")
	}
	if err == nil {
		err = prove(ctx, x, installation.Registry, r.KEK)
	}
	if err != nil {
		err = fmt.Errorf("prove the key of blind index %q of column %d: %w", want.Name, want.Column, err)
	}
	return x, err
}

// find is the wanted index, if there is one.
func find(ctx context.Context, q pg.Querier, want lifecycle.IndexDefinition) (lifecycle.Index, bool, error) {
	x, found, err := lifecycle.FindIndex(ctx, q, want.Column, want.Name, want.Generation)
	if err == nil && found && (x.IndexDefinition != want || x.State == lifecycle.IndexDropped) {
		err = &ConflictError{x, want}
	}
	return x, found, err
}

const idsSQL = `SELECT pg_catalog.nextval(pg_catalog.pg_get_serial_sequence('cipherfleet.blind_indexes', 'id')), pg_catalog.nextval(pg_catalog.pg_get_serial_sequence('cipherfleet.deks', 'id'))`

// persist commits an index with a fresh wrapped key, unless there is one. The KEK is asked before the transaction, and the
// connection thrown away afterwards, as for the key of a scheme.
func (r Registrar) persist(ctx context.Context, registry [16]byte, want lifecycle.IndexDefinition) error {
	if _, ok, err := find(ctx, r.DB, want); err != nil || ok {
		return err
	}
	conn, err := r.DB.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Discard(context.WithoutCancel(ctx))
	x := lifecycle.Index{IndexDefinition: want, KEK: r.KEK.URI()}
	if err := conn.QueryRow(ctx, idsSQL).Scan(&x.ID, &x.Key); err != nil {
		return fmt.Errorf("draw ids: %w", err)
	}
	if err := draw(ctx, &x, registry, r.KEK); err != nil {
		return err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit it does nothing
	if err := r.insert(ctx, tx, x); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// draw makes the key.
func draw(ctx context.Context, x *lifecycle.Index, registry [16]byte, kek cell.KEK) error {
	if err := x.Blind().Validate(); err != nil {
		return err
	}
	dek, err := cell.NewDEK()
	if err != nil {
		return err
	}
	defer dek.Wipe()
	if x.Wrapped, err = cell.WrapDEK(ctx, kek, x.Blind().ID(registry), dek); err != nil {
		return err
	}
	x.Canary, err = x.Blind().Canary(registry, dek)
	return err
}

const insertSQL = `INSERT INTO cipherfleet.blind_indexes (id, column_id, name, generation, token, normaliser, bytes, is_unique, revision) OVERRIDING SYSTEM VALUE
 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`

const insertKeySQL = `INSERT INTO cipherfleet.deks (id, column_id, blind_index, kek, wrapped, canary) OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6)`

func (r Registrar) insert(ctx context.Context, tx pg.Tx, x lifecycle.Index) error {
	revision, err := lifecycle.BeginChange(ctx, tx)
	if err != nil {
		return err
	}
	if _, ok, err := find(ctx, tx, x.IndexDefinition); err != nil || ok {
		return err // somebody else was quicker
	}
	if _, err := tx.Exec(ctx, insertSQL, x.ID, x.Column, x.Name, x.Generation, x.Token, x.Normaliser, x.Bytes, x.Unique, revision); err != nil {
		return fmt.Errorf("insert blind index: %w", err)
	}
	if _, err := tx.Exec(ctx, insertKeySQL, x.Key, x.Column, x.ID, x.KEK, x.Wrapped, x.Canary); err != nil {
		return fmt.Errorf("insert wrapped key: %w", err)
	}
	return r.TellIndex(ctx, tx, x, told(lifecycle.IndexPrepared))
}

// prove unwraps the key as it was stored and compares its canary.
func prove(ctx context.Context, x lifecycle.Index, registry [16]byte, kek cell.KEK) error {
	dek, err := x.Unwrap(ctx, registry, kek)
	dek.Wipe()
	return err
}
