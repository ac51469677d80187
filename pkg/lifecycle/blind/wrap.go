package blind

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// WrapAnew wraps the key of every blind index under the KEK to, as [lifecycle.Registrar.WrapAnew] does those of schemes:
// each is proven before it replaces the old wrapping and as it was stored, and is one transaction with its event.
func (r Registrar) WrapAnew(ctx context.Context, to cell.KEK, told func(lifecycle.Wrapped)) error {
	installation, err := lifecycle.ReadInstallation(ctx, r.DB)
	if err != nil {
		return err
	}
	all, err := lifecycle.LiveIndexes(ctx, r.DB)
	if err != nil {
		return err
	}
	for _, x := range all {
		changed, err := r.wrap(ctx, installation.Registry, x, to)
		if err != nil {
			return fmt.Errorf("wrap key %d of %s under %s: %w", x.Key, x.Of(), to.URI(), err)
		}
		if told != nil {
			told(lifecycle.Wrapped{Key: x.Key, Changed: changed})
		}
	}
	return nil
}

func (r Registrar) wrap(ctx context.Context, registry [16]byte, x lifecycle.Index, to cell.KEK) (changed bool, err error) {
	if x.KEK == to.URI() && r.KEK.URI() != to.URI() {
		return false, prove(ctx, x, registry, to)
	}
	dek, err := x.Unwrap(ctx, registry, r.KEK)
	if err != nil {
		return false, err
	}
	defer dek.Wipe()
	next := x
	next.KEK = to.URI()
	if next.Wrapped, err = cell.WrapDEK(ctx, to, x.Blind().ID(registry), dek); err != nil {
		return false, err
	}
	if changed, err = r.replace(ctx, x, next, "wrapped under another key-encryption key"); err != nil || !changed {
		return false, err
	}
	stored, _, err := lifecycle.IndexByID(ctx, r.DB, x.ID)
	if err == nil {
		err = prove(ctx, stored, registry, to)
	}
	if err != nil {
		_, back := r.replace(context.WithoutCancel(ctx), next, x, "wrapped as before")
		return false, errors.Join(err, back)
	}
	return true, nil
}

const replaceSQL = `UPDATE cipherfleet.deks SET kek = $2, wrapped = $3 WHERE id = $1 AND kek = $4 AND wrapped = $5 RETURNING wrapped`

// replace puts one wrapping in the place of another, if that one still stands.
func (r Registrar) replace(ctx context.Context, old, next lifecycle.Index, what string) (changed bool, err error) {
	err = r.DB.InTx(ctx, func(tx pg.Tx) error {
		if _, err := lifecycle.BeginChange(ctx, tx); err != nil {
			return err
		}
		var stored []byte
		err := tx.QueryRow(ctx, replaceSQL, old.Key, next.KEK, next.Wrapped, old.KEK, old.Wrapped).Scan(&stored)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return fmt.Errorf("replace the wrapped key: %w", err)
		case !bytes.Equal(stored, next.Wrapped):
			return errors.New("replace the wrapped key: it was stored as something else")
		}
		changed = true
		return r.TellIndex(ctx, tx, old, what)
	})
	return changed, err
}
