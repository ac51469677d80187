package backfill

import (
	"context"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// WithKeys has a transform ask a keychain for keys that it does not know, and for those of tenants, which are made on
// demand.
func WithKeys(t transform.Transform, chain *lifecycle.Keychain, db *pg.DB) transform.Transform {
	tenant := func(of interface{ Scheme() cell.Scheme }) transform.KeyFor {
		return func(ctx context.Context, tenant string) (cell.Scheme, error) {
			return chain.TenantKey(ctx, db, of.Scheme(), tenant)
		}
	}
	tenants := func(of interface{ Scheme() cell.Scheme }) transform.KeysFor {
		return func(ctx context.Context, tenants []string) error {
			return chain.TenantKeys(ctx, db, of.Scheme(), tenants)
		}
	}
	switch t := transform.Inner(t).(type) {
	case *transform.Reencrypt:
		t.Learn, t.Key, t.Keys = chain.Learn, tenant(t), tenants(t)
	case *transform.Encrypt:
		t.Learn, t.Key, t.Keys = chain.Learn, tenant(t), tenants(t)
	case *transform.Blind:
		t.Learn = chain.Learn
	case *transform.Decrypt:
		t.Learn = chain.Learn
	}
	return t
}
