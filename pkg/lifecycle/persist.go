package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// wanted is one key to make: of a scheme, and of one tenant where the scheme has several.
type wanted struct {
	Definition
	tenant string
	told   func(context.Context, pg.Tx, cell.Scheme) error // appends the event
}

// findKey is the wanted key, or ok = false if there is none yet. Its number is the registry's if want names none.
func findKey(ctx context.Context, q pg.Querier, want wanted) (k key, ok bool, err error) {
	keys, err := collect(ctx, q, scanKey, keySQL+` AND s.column_id = $1 AND s.number = $2 AND coalesce(d.tenant, '') = $3`, want.Column, want.Number, want.tenant)
	if err != nil || len(keys) == 0 {
		return key{}, false, wrap("read key", err)
	}
	k = keys[0]
	if k.wrapped == nil {
		return key{}, false, k.damage(errKeyGone)
	}
	want.KeyID = k.scheme.KeyID
	if k.scheme != want.Scheme || k.tenantColumn != want.Tenant || k.retain != want.Retain {
		return key{}, false, &SchemeConflictError{Have: k.scheme, Want: want.Scheme}
	}
	return k, true, nil
}

// persistKey commits a scheme with a fresh wrapped DEK, unless the number has one. The KEK is asked before the
// transaction: it may be far away, and the registry stands still while the transaction is open. The connection is
// thrown away afterwards, so that whoever reads the key next is another one.
func persistKey(ctx context.Context, db *pg.DB, registry [16]byte, kek cell.KEK, want wanted) error {
	if _, ok, err := findKey(ctx, db, want); err != nil || ok {
		return err
	}
	conn, err := db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Discard(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, `SELECT pg_catalog.nextval(pg_catalog.pg_get_serial_sequence('cipherfleet.deks', 'id'))`).Scan(&want.KeyID)
	if err != nil {
		return fmt.Errorf("draw key id: %w", err)
	}
	fresh, err := freshKey(ctx, registry, kek, want.Scheme)
	if err != nil {
		return err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit it does nothing
	if err := insertKey(ctx, tx, want, fresh); err != nil {
		return err
	}
	return wrap("commit", tx.Commit(ctx))
}

// freshKey draws a DEK, wraps it and seals its canary.
func freshKey(ctx context.Context, registry [16]byte, kek cell.KEK, s cell.Scheme) (key, error) {
	if err := s.Validate(); err != nil {
		return key{}, err
	}
	dek, err := s.Suite.NewDEK()
	if err != nil {
		return key{}, err
	}
	defer dek.Wipe()
	k := key{scheme: s, kek: kek.URI()}
	if k.wrapped, err = cell.WrapDEK(ctx, kek, dekID(registry, s), dek); err != nil {
		return key{}, err
	}
	k.canary, err = cell.Canary(registry, s, dek)
	return k, err
}

func dekID(registry [16]byte, s cell.Scheme) cell.DEKID {
	return cell.DEKID{Registry: registry, Column: s.Column, KeyID: s.KeyID, Suite: s.Suite}
}

const insertSchemeSQL = `INSERT INTO cipherfleet.schemes (column_id, number, suite, codec, binding, padding, nulls, state, tenant_column, retain, revision)
 SELECT $1, $2, $3, $4, $5, $6, 'keep', 'readable', nullif($7, ''), $8::interval, $9
 WHERE NOT EXISTS (SELECT FROM cipherfleet.schemes s WHERE s.column_id = $1 AND s.number >= $2)`

const insertKeySQL = `INSERT INTO cipherfleet.deks (id, column_id, scheme, kek, wrapped, canary, tenant) OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, nullif($7, ''))`

// durable makes the commit wait for the disk where the database's default is not to.
const durable = `SELECT pg_catalog.set_config('synchronous_commit', 'on', true) WHERE pg_catalog.current_setting('synchronous_commit') = 'off'`

// insertKey adds scheme and key, unless somebody else was quicker: the registry's lock orders them.
func insertKey(ctx context.Context, tx pg.Tx, want wanted, k key) error {
	if _, err := tx.Exec(ctx, durable); err != nil {
		return fmt.Errorf("make the commit durable: %w", err)
	}
	revision, err := nextRevision(ctx, tx)
	if err != nil {
		return err
	}
	if _, ok, err := findKey(ctx, tx, want); err != nil || ok {
		return err
	}
	if want.tenant == "" {
		if err := insertScheme(ctx, tx, want, revision); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, insertKeySQL, k.scheme.KeyID, k.scheme.Column, k.scheme.Number, k.kek, k.wrapped, k.canary, want.tenant)
	return wrap("insert wrapped key", err)
}

func insertScheme(ctx context.Context, tx pg.Tx, want wanted, revision int64) error {
	tag, err := tx.Exec(ctx, insertSchemeSQL, want.Column, want.Number, want.Suite, want.Codec, binding(want.Scheme), want.Padding, want.Tenant, want.Retain, revision)
	if err != nil {
		return fmt.Errorf("insert scheme: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return &NumberError{Column: want.Column, Number: want.Number}
	}
	if want.told == nil {
		return nil
	}
	return want.told(ctx, tx, want.Scheme)
}

// proveKey reads the key as everybody else will read it, unwraps it and opens its canary.
func proveKey(ctx context.Context, q pg.Querier, registry [16]byte, kek cell.KEK, want wanted) (key, error) {
	k, ok, err := findKey(ctx, q, want)
	if err != nil {
		return key{}, err
	}
	if !ok {
		return key{}, errors.New("it was committed, but another connection does not see it")
	}
	dek, err := k.unwrap(ctx, registry, kek)
	if err != nil {
		return key{}, err
	}
	dek.Wipe()
	return k, nil
}

// unwrap is the key's DEK, proven by its canary.
func (k key) unwrap(ctx context.Context, registry [16]byte, kek cell.KEK) (cell.DEK, error) {
	if k.wrapped == nil {
		return cell.DEK{}, k.damage(errKeyGone)
	}
	dek, err := cell.UnwrapDEK(ctx, cell.Under(kek, k.kek), dekID(registry, k.scheme), k.wrapped)
	if err != nil {
		return cell.DEK{}, err
	}
	if err := cell.CheckCanary(registry, k.scheme, dek, k.canary); err != nil {
		dek.Wipe()
		return cell.DEK{}, k.damage(err)
	}
	return dek, nil
}

var errKeyGone = errors.New("its wrapped key is gone")

func (k key) damage(err error) error {
	return &DamageError{Column: k.scheme.Column, Scheme: k.scheme.Number, Err: err}
}
