package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// TenantKey is the scheme with the key of one tenant: a value of the scheme's tenant column, as text. The first who asks
// for it makes it; the key is committed, read back on another connection and proven before anybody gets it. However
// many ask at once, there is one. The key of a tenant that was shredded is cell.ErrKeyDestroyed, for ever.
func TenantKey(ctx context.Context, db *pg.DB, kek cell.KEK, s cell.Scheme, tenant string) (cell.Scheme, error) {
	installation, err := ReadInstallation(ctx, db)
	if err != nil {
		return cell.Scheme{}, err
	}
	all, err := Schemes(ctx, db, s.Column)
	if err != nil {
		return cell.Scheme{}, err
	}
	row, err := readable(all, s.Column, s.Number)
	if err != nil {
		return cell.Scheme{}, err
	}
	switch s.KeyID = row.KeyID; {
	case row.Tenant == "" || tenant == "":
		return cell.Scheme{}, fmt.Errorf("find the key of a tenant: scheme %d of column %d has none for this row", s.Number, s.Column)
	case row.Scheme != s:
		return cell.Scheme{}, &SchemeConflictError{Have: row.Scheme, Want: s}
	}
	if err := notShredded(ctx, db, s, tenant); err != nil {
		return cell.Scheme{}, err
	}
	k, err := Registrar{DB: db, KEK: kek}.makeKey(ctx, installation.Registry, wanted{Definition: row.Definition, tenant: tenant})
	return k.scheme, err
}

const shreddedSQL = `SELECT EXISTS (SELECT FROM cipherfleet.deks d WHERE d.column_id = $1 AND d.scheme = $2 AND d.tenant = $3 AND d.wrapped IS NULL)`

func notShredded(ctx context.Context, q pg.Querier, s cell.Scheme, tenant string) error {
	var shredded bool
	if err := q.QueryRow(ctx, shreddedSQL, s.Column, s.Number, tenant).Scan(&shredded); err != nil {
		return fmt.Errorf("look for the key of a tenant: %w", err)
	}
	if shredded {
		return fmt.Errorf("the tenant was shredded: scheme %d of column %d: %w", s.Number, s.Column, cell.ErrKeyDestroyed)
	}
	return nil
}

// NoTenantError says that there is nothing to shred.
type NoTenantError struct{ Column uint32 }

// Error does not name the tenant, which may be a person.
func (e *NoTenantError) Error() string {
	return fmt.Sprintf("column %d has no key of this tenant, nor had it one", e.Column)
}

// Hint says what to look at.
func (e *NoTenantError) Hint() string {
	return "a tenant is a value of the scheme's tenant column, spelled as Postgres prints it; key ls shows the tenants there are"
}

const shredSQL = `UPDATE cipherfleet.deks d SET wrapped = NULL, destroyed_at = pg_catalog.clock_timestamp()
 WHERE d.column_id = $1 AND d.tenant = $2 AND d.wrapped IS NOT NULL RETURNING d.scheme, d.id`

// Shred deletes every wrapped key of a tenant of a column, for good, in the caller's transaction: once that is committed
// nobody can open the tenant's cells any more, as soon as those that hold the keys have refreshed. It returns how many
// keys there were; none, if it was done before. A tenant without keys is a [*NoTenantError]. What those who hold the keys
// may still write is the caller's to keep out.
func (r Registrar) Shred(ctx context.Context, tx pg.Tx, column uint32, tenant string) (keys int, err error) {
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
	if _, err := BeginChange(ctx, tx); err != nil {
		return 0, err
	}
	type shred struct {
		scheme uint16
		key    uint32
	}
	shreds, err := collect(ctx, tx, func(row pgx.CollectableRow) (s shred, err error) { return s, row.Scan(&s.scheme, &s.key) }, shredSQL, column, tenant)
	if err != nil {
		return 0, fmt.Errorf("shred a tenant of column %d: %w", column, err)
	}
	for _, s := range shreds {
		if err := r.tell(ctx, tx, column, change{Scheme: s.scheme, Key: s.key, What: "tenant shredded"}); err != nil {
			return 0, err
		}
	}
	return len(shreds), nil
}

const shreddedKeysSQL = `SELECT d.id FROM cipherfleet.deks d JOIN cipherfleet.schemes s ON s.column_id = d.column_id AND s.number = d.scheme
 WHERE d.column_id = $1 AND d.tenant IS NOT NULL AND d.wrapped IS NULL AND s.state IN ('readable', 'active') ORDER BY d.id`

// ShreddedKeys are the ids of a column's keys that were shredded while cells under them are not refused as of a retired
// scheme.
func ShreddedKeys(ctx context.Context, q pg.Querier, column uint32) ([]uint32, error) {
	keys, err := collect(ctx, q, pgx.RowTo[uint32], shreddedKeysSQL, column)
	return keys, wrap(fmt.Sprintf("read the shredded keys of column %d", column), err)
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

// tenancy names one tenant's key.
type tenancy struct {
	column uint32
	scheme uint16
	tenant string
}

// Tenant is the scheme with the key of a tenant, if the keychain has it; [Keychain.TenantKey] makes one.
func (k *Keychain) Tenant(s cell.Scheme, tenant string) (cell.Scheme, bool) {
	found, ok := k.seen.Load().tenants[tenancy{s.Column, s.Number, tenant}]
	return found, ok
}

// TenantColumn is the column whose value chooses the key of a scheme; "" if one key seals for all rows.
func (k *Keychain) TenantColumn(column uint32, scheme uint16) string {
	return k.seen.Load().choosers[tenancy{column, scheme, ""}]
}

// TenantKey is [TenantKey], with the key loaded. One that is here already costs nothing.
func (k *Keychain) TenantKey(ctx context.Context, db *pg.DB, s cell.Scheme, tenant string) (cell.Scheme, error) {
	if found, ok := k.Tenant(s, tenant); ok {
		return found, nil
	}
	made, err := TenantKey(ctx, db, k.kek, s, tenant)
	if err != nil {
		return cell.Scheme{}, err
	}
	return made, k.Refresh(ctx)
}
