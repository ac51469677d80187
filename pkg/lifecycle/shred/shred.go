// Package shred deletes the keys of tenants, for good.
//
// Words: a tenant is a value of the column by which a scheme chooses a row's key; it is shredded when every key that it
// has in a column is deleted, so that nobody can open its cells any more; the rows of its keys stay in the registry, and
// with them their ids, by which such cells are told from others.
package shred

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// NoTenantError says that there is nothing to shred.
type NoTenantError struct {
	lifecycle.Whose
	Column uint32
}

// Error does not name the tenant, which may be a person.
func (e *NoTenantError) Error() string {
	return fmt.Sprintf("%s has no key of this tenant, nor had it one", e.Of(e.Column))
}

// Hint says what to look at.
func (e *NoTenantError) Hint() string {
	return "a tenant is a value of the scheme's tenant column, spelled as Postgres prints it; key ls shows the tenants there are"
}

const shredSQL = `UPDATE cipherfleet.deks d SET wrapped = NULL, destroyed_at = pg_catalog.clock_timestamp()
 WHERE d.column_id = $1 AND d.tenant = $2 AND d.wrapped IS NOT NULL RETURNING d.scheme, d.id`

// Tenant deletes every wrapped key of a tenant of a column, for good, in the caller's transaction: once that is committed
// nobody can open the tenant's cells any more, as soon as those that hold the keys have refreshed. It returns how many
// keys there were; none, if it was done before. A tenant without keys is a [*NoTenantError]. What those who hold the keys
// may still write is the caller's to keep out.
func Tenant(ctx context.Context, tx pg.Tx, r lifecycle.Registrar, column uint32, tenant string) (keys int, err error) {
	if tenant == "" {
		return 0, errors.New("shred: no tenant is named")
	}
	held := false
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM cipherfleet.deks d WHERE d.column_id = $1 AND d.tenant = $2 AND d.wrapped IS NOT NULL)`, column, tenant).Scan(&held)
	if err != nil {
		return 0, fmt.Errorf("look for the keys of a tenant: %w", err)
	}
	if !held {
		return 0, known(ctx, tx, column, tenant)
	}
	if _, err := lifecycle.BeginChange(ctx, tx); err != nil {
		return 0, err
	}
	type shred struct {
		scheme uint16
		key    uint32
	}
	shreds, err := pg.Collect(ctx, tx, shredSQL, func(row pgx.CollectableRow) (s shred, err error) { return s, row.Scan(&s.scheme, &s.key) }, column, tenant)
	if err != nil {
		return 0, fmt.Errorf("shred a tenant of column %d: %w", column, err)
	}
	for _, s := range shreds {
		if err := r.TellKey(ctx, tx, column, s.scheme, s.key, "tenant shredded"); err != nil {
			return 0, err
		}
	}
	return len(shreds), nil
}

const keysSQL = `SELECT d.id FROM cipherfleet.deks d JOIN cipherfleet.schemes s ON s.column_id = d.column_id AND s.number = d.scheme
 WHERE d.column_id = $1 AND d.tenant IS NOT NULL AND d.wrapped IS NULL AND s.state IN ('readable', 'active') ORDER BY d.id`

// Keys are the ids of a column's keys that were shredded while cells under them are not refused as of a retired
// scheme.
func Keys(ctx context.Context, q pg.Querier, column uint32) ([]uint32, error) {
	keys, err := pg.Collect(ctx, q, keysSQL, pgx.RowTo[uint32], column)
	if err != nil {
		return nil, fmt.Errorf("read the shredded keys of column %d: %w", column, err)
	}
	return keys, nil
}

// known is a NoTenantError unless the tenant ever had a key.
func known(ctx context.Context, tx pg.Tx, column uint32, tenant string) error {
	var had bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM cipherfleet.deks d WHERE d.column_id = $1 AND d.tenant = $2)`, column, tenant).Scan(&had)
	if err == nil && !had {
		err = &NoTenantError{Column: column}
	}
	return err
}
