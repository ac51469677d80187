package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// KeyRow is one data key as it stands in the registry, without the key.
type KeyRow struct {
	ID        uint32
	Column    uint32
	Scheme    uint16      // 0: it is a blind index's
	Index     string      // name of the blind index; "": it is a scheme's
	State     SchemeState // of its scheme; of a blind index active, or destroyed
	Suite     cell.Suite
	Tenant    string // ""; of all rows, or of those of no tenant
	KEK       string // the URI it was wrapped under
	Created   time.Time
	Destroyed time.Time // zero: it is there
}

const keyRowsSQL = `SELECT d.id, d.column_id, coalesce(d.scheme, 0), coalesce(s.state, CASE WHEN d.wrapped IS NULL THEN 'destroyed' ELSE 'active' END),
 coalesce(s.suite, $1), coalesce(d.tenant, ''), d.kek, d.created_at, d.destroyed_at, coalesce(x.name, '')
 FROM cipherfleet.deks d LEFT JOIN cipherfleet.schemes s ON s.column_id = d.column_id AND s.number = d.scheme
 LEFT JOIN cipherfleet.blind_indexes x ON x.id = d.blind_index ORDER BY d.id`

// KeyRows are all data keys there ever were, in the order of their ids.
func KeyRows(ctx context.Context, q pg.Querier) ([]KeyRow, error) {
	rows, err := collect(ctx, q, func(row pgx.CollectableRow) (k KeyRow, err error) {
		var destroyed *time.Time
		err = row.Scan(&k.ID, &k.Column, &k.Scheme, &k.State, &k.Suite, &k.Tenant, &k.KEK, &k.Created, &destroyed, &k.Index)
		if destroyed != nil {
			k.Destroyed = *destroyed
		}
		return k, err
	}, keyRowsSQL, cell.SuiteBlindIndex)
	return rows, wrap("read keys", err)
}

// Wrapped is what became of one key of [Registrar.WrapAnew].
type Wrapped struct {
	Key     uint32
	Changed bool // else it was under that KEK already, or somebody else was quicker
}

const wrappedSQL = `SELECT s.column_id, s.number, s.suite, s.codec, ` + bindingSQL + `, s.padding, s.nulls, s.state, d.id, d.kek, d.wrapped, d.canary,
 coalesce(d.tenant, ''), coalesce(s.tenant_column, ''), ` + retainSQL + `, ` + schemeOf + `
 FROM cipherfleet.deks d JOIN cipherfleet.schemes s ON s.column_id = d.column_id AND s.number = d.scheme
 WHERE d.wrapped IS NOT NULL AND ($1 = 0 OR d.id = $1) ORDER BY d.id`

// WrapAnew wraps every key of a scheme under the KEK to, those of retired ones too; no cell is touched. With to another KEK than
// the registrar's it skips the keys that are under it already, so after a failure half-way the next call goes on; with
// the same one, every key is wrapped under its newest version. A key's new wrapping is proven before it replaces the old
// one, and once more as it was stored; should that fail, the old one comes back. Each key is one transaction with its
// event. told, if not nil, hears of each key.
func (r Registrar) WrapAnew(ctx context.Context, to cell.KEK, told func(Wrapped)) error {
	installation, err := ReadInstallation(ctx, r.DB)
	if err != nil {
		return err
	}
	keys, err := collect(ctx, r.DB, scanKey, wrappedSQL, 0)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	for _, k := range keys {
		changed, err := r.wrapAnew(ctx, installation.Registry, k, to)
		if err != nil {
			return fmt.Errorf("wrap key %d of %s under %s: %w", k.scheme.KeyID, k.of.Of(k.scheme.Column), to.URI(), err)
		}
		if told != nil {
			told(Wrapped{Key: k.scheme.KeyID, Changed: changed})
		}
	}
	return nil
}

// wrapAnew does one key.
func (r Registrar) wrapAnew(ctx context.Context, registry [16]byte, k key, to cell.KEK) (changed bool, err error) {
	if k.kek == to.URI() && r.KEK.URI() != to.URI() {
		dek, err := k.unwrap(ctx, registry, to)
		dek.Wipe()
		return false, err
	}
	dek, err := k.unwrap(ctx, registry, r.KEK)
	if err != nil {
		return false, err
	}
	defer dek.Wipe()
	next := k
	next.kek = to.URI()
	if next.wrapped, err = cell.WrapDEK(ctx, to, dekID(registry, k.scheme), dek); err != nil {
		return false, err
	}
	if changed, err = r.replace(ctx, k, next, "wrapped under another key-encryption key"); err != nil || !changed {
		return false, err
	}
	if err := r.proveStored(ctx, registry, next, to); err != nil {
		_, back := r.replace(context.WithoutCancel(ctx), next, k, "wrapped as before")
		return false, errors.Join(err, back)
	}
	return true, nil
}

const replaceSQL = `UPDATE cipherfleet.deks SET kek = $2, wrapped = $3 WHERE id = $1 AND kek = $4 AND wrapped = $5 RETURNING wrapped`

// replace puts one wrapping in the place of another, if that one still stands.
func (r Registrar) replace(ctx context.Context, old, next key, what string) (changed bool, err error) {
	err = r.DB.InTx(ctx, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, pg.Durable); err != nil {
			return fmt.Errorf("make the commit durable: %w", err)
		}
		if err := bumpRevision(ctx, tx); err != nil {
			return err
		}
		var stored []byte
		err := tx.QueryRow(ctx, replaceSQL, old.scheme.KeyID, next.kek, next.wrapped, old.kek, old.wrapped).Scan(&stored)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return fmt.Errorf("replace the wrapped key: %w", err)
		case !bytes.Equal(stored, next.wrapped):
			return errors.New("replace the wrapped key: it was stored as something else")
		}
		changed = true
		return r.tell(ctx, tx, old.scheme.Column, change{Scheme: old.scheme.Number, Key: old.scheme.KeyID, What: what})
	})
	return changed, err
}

// proveStored reads the key as everybody else will, and opens its canary with what it unwraps to.
func (r Registrar) proveStored(ctx context.Context, registry [16]byte, want key, kek cell.KEK) error {
	keys, err := collect(ctx, r.DB, scanKey, wrappedSQL, want.scheme.KeyID)
	if err != nil {
		return fmt.Errorf("read the key back: %w", err)
	}
	if len(keys) == 0 {
		return want.damage(errKeyGone)
	}
	dek, err := keys[0].unwrap(ctx, registry, kek)
	dek.Wipe()
	return err
}
