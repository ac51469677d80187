package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// wanted are keys to make: the one of a scheme, or those of tenants where the scheme has several.
type wanted struct {
	Definition
	tenants []string                                        // none: the key of all rows, or of those of no tenant
	told    func(context.Context, pg.Tx, cell.Scheme) error // appends the event
}

func (w wanted) whose() []string {
	if w.tenants == nil {
		return []string{""}
	}
	return w.tenants
}

// findKeys are those of the wanted keys that there are, by tenant. Their numbers are the registry's if want names none.
func findKeys(ctx context.Context, q pg.Querier, want wanted) (map[string]key, error) {
	keys, err := collect(ctx, q, scanKey, keySQL+` AND s.column_id = $1 AND s.number = $2 AND coalesce(d.tenant, '') = ANY ($3)`, want.Column, want.Number, want.whose())
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	found := make(map[string]key, len(keys))
	for _, k := range keys {
		if k.wrapped == nil {
			return nil, k.damage(errKeyGone)
		}
		want.KeyID = k.scheme.KeyID
		if k.scheme != want.Scheme || k.tenantColumn != want.Tenant || k.retain != want.Retain {
			return nil, &SchemeConflictError{Have: k.scheme, Want: want.Scheme}
		}
		found[k.tenant] = k
	}
	return found, nil
}

const goneSQL = `SELECT d.tenant FROM cipherfleet.deks d WHERE d.column_id = $1 AND d.scheme = $2 AND d.tenant = ANY ($3) AND d.wrapped IS NULL`

// lacking are the tenants without a key, but for those who were shredded: they get none.
func lacking(ctx context.Context, q pg.Querier, want wanted) ([]string, error) {
	found, err := findKeys(ctx, q, want)
	if err != nil {
		return nil, err
	}
	gone, err := collect(ctx, q, pgx.RowTo[string], goneSQL, want.Column, want.Number, want.whose())
	if err != nil {
		return nil, fmt.Errorf("read keys that were shredded: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(want.whose()), func(tenant string) bool {
		_, has := found[tenant]
		return has || slices.Contains(gone, tenant)
	}), nil
}

const drawSQL = `SELECT pg_catalog.nextval(pg_catalog.pg_get_serial_sequence('cipherfleet.deks', 'id')) FROM pg_catalog.generate_series(1, $1)`

// persistKeys commits a scheme with fresh wrapped DEKs, unless it has them. The KEK is asked before the transaction: it
// may be far away, and the registry stands still while the transaction is open. The connection is thrown away afterwards,
// so that whoever reads the keys next is another one.
func persistKeys(ctx context.Context, db *pg.DB, registry [16]byte, kek cell.KEK, want wanted) error {
	missing, err := lacking(ctx, db, want)
	if err != nil || len(missing) == 0 {
		return err
	}
	conn, err := db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Discard(context.WithoutCancel(ctx))
	ids, err := collect(ctx, conn, pgx.RowTo[uint32], drawSQL, len(missing))
	if err != nil {
		return fmt.Errorf("draw key ids: %w", err)
	}
	fresh := make([]key, len(missing))
	err = several(ctx, len(missing), func(ctx context.Context, i int) (err error) {
		s := want.Scheme
		s.KeyID = ids[i]
		fresh[i], err = freshKey(ctx, registry, kek, s)
		fresh[i].tenant = missing[i]
		return err
	})
	if err != nil {
		return err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit it does nothing
	if err := insertKeys(ctx, tx, want, fresh); err != nil {
		return err
	}
	return wrap("commit", tx.Commit(ctx))
}

const mostAsked = 8 // calls of a KEK at once

// several does something for each of n, some at once.
func several(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(mostAsked)
	for i := range n {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
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

const insertSchemeSQL = `INSERT INTO cipherfleet.schemes (column_id, number, suite, codec, binding, padding, nulls, state, tenant_column, retain, revision, bound_attnums, bound_tags)
 SELECT $1, $2, $3, $4, $5, $6, $12, 'readable', nullif($7, ''), $8::interval, $9, $10::int2[], nullif(pg_catalog.regexp_replace($11, '[0-9,]', '', 'g'), '')
 WHERE NOT EXISTS (SELECT FROM cipherfleet.schemes s WHERE s.column_id = $1 AND s.number >= $2)`

const insertKeySQL = `INSERT INTO cipherfleet.deks (id, column_id, scheme, kek, wrapped, canary, tenant) OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, nullif($7, ''))`

// insertKeys adds scheme and keys, unless somebody else was quicker: the registry's lock orders them.
func insertKeys(ctx context.Context, tx pg.Tx, want wanted, fresh []key) error {
	revision, err := BeginChange(ctx, tx)
	if err != nil {
		return err
	}
	missing, err := lacking(ctx, tx, want)
	if err != nil {
		return err
	}
	fresh = slices.DeleteFunc(fresh, func(k key) bool { return !slices.Contains(missing, k.tenant) })
	for _, k := range fresh {
		if want.Scheme = k.scheme; k.tenant == "" {
			if err := insertScheme(ctx, tx, want, revision); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, insertKeySQL, k.scheme.KeyID, k.scheme.Column, k.scheme.Number, k.kek, k.wrapped, k.canary, k.tenant); err != nil {
			return fmt.Errorf("insert wrapped key: %w", err)
		}
	}
	return nil
}

func insertScheme(ctx context.Context, tx pg.Tx, want wanted, revision int64) error {
	tag, err := tx.Exec(ctx, insertSchemeSQL, want.Column, want.Number, want.Suite, want.Codec, want.Binding(), want.Padding, want.Tenant, want.Retain, revision, want.BoundNumbers(), want.Columns, want.Nulls)
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

// proveKeys reads the keys as everybody else will read them, unwraps them and opens their canaries. Those of tenants who
// were shredded are missing.
func proveKeys(ctx context.Context, q pg.Querier, registry [16]byte, kek cell.KEK, want wanted) (map[string]key, error) {
	found, err := findKeys(ctx, q, want)
	if err != nil {
		return nil, err
	}
	if _, has := found[""]; !has && want.tenants == nil {
		return nil, errors.New("it was committed, but another connection does not see it")
	}
	keys := slices.Collect(maps.Values(found))
	return found, several(ctx, len(keys), func(ctx context.Context, i int) error {
		dek, err := keys[i].unwrap(ctx, registry, kek)
		dek.Wipe()
		return err
	})
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
	return &DamageError{Whose: k.of, Column: k.scheme.Column, Scheme: k.scheme.Number, Err: err}
}
