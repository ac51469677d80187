package lifecycle

import (
	"context"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// TenantKeys are the scheme with the keys of tenants: values of the scheme's tenant column, as text. The first who asks
// makes those that there are not, all of them in one transaction; they are committed, read back on another connection and
// proven before anybody gets them. However many ask at once, each tenant has one. A tenant who was shredded has none, for
// ever, and is missing.
func TenantKeys(ctx context.Context, db *pg.DB, kek cell.KEK, s cell.Scheme, tenants ...string) (map[string]cell.Scheme, error) {
	installation, err := ReadInstallation(ctx, db)
	if err != nil {
		return nil, err
	}
	all, err := Schemes(ctx, db, s.Column)
	if err != nil {
		return nil, err
	}
	row, err := readable(all, s.Column, s.Number)
	if err != nil {
		return nil, err
	}
	switch s.KeyID = row.KeyID; {
	case row.Tenant == "" || len(tenants) == 0 || slices.Contains(tenants, ""):
		return nil, fmt.Errorf("find the key of a tenant: scheme %d of column %d has none for this row", s.Number, s.Column)
	case row.Scheme != s:
		return nil, &SchemeConflictError{Have: row.Scheme, Want: s}
	}
	keys, err := Registrar{DB: db, KEK: kek}.makeKeys(ctx, installation.Registry, wanted{Definition: row.Definition, tenants: tenants})
	schemes := make(map[string]cell.Scheme, len(keys))
	for tenant, k := range keys {
		schemes[tenant] = k.scheme
	}
	return schemes, err
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

// TenantKey is that of one tenant of [TenantKeys], with the key loaded. One that is here already costs nothing. Of a
// tenant who was shredded it is cell.ErrKeyDestroyed.
func (k *Keychain) TenantKey(ctx context.Context, db *pg.DB, s cell.Scheme, tenant string) (cell.Scheme, error) {
	if found, ok := k.Tenant(s, tenant); ok {
		return found, nil
	}
	made, err := TenantKeys(ctx, db, k.kek, s, tenant)
	if err != nil {
		return cell.Scheme{}, err
	}
	found, ok := made[tenant]
	if !ok {
		return cell.Scheme{}, fmt.Errorf("the tenant was shredded: scheme %d of column %d: %w", s.Number, s.Column, cell.ErrKeyDestroyed)
	}
	return found, k.Refresh(ctx)
}

const mostKeys = 500 // made in one transaction

// TenantKeys has the keys of all these tenants here, as far as they have any: those that there are not are made together.
func (k *Keychain) TenantKeys(ctx context.Context, db *pg.DB, s cell.Scheme, tenants []string) error {
	unknown := slices.DeleteFunc(slices.Clone(tenants), func(tenant string) bool {
		_, ok := k.Tenant(s, tenant)
		return ok
	})
	for some := range slices.Chunk(unknown, mostKeys) {
		if _, err := TenantKeys(ctx, db, k.kek, s, some...); err != nil {
			return err
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	return k.Refresh(ctx)
}
