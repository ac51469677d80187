package backfill

import (
	"context"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Following is the job with the schemes that its columns are sealed under now, by a keychain, and with what chooses
// their keys.
func (j Job) Following(chain *lifecycle.Keychain) Job {
	active := map[uint32]cell.Scheme{}
	for _, c := range j.Spec.Columns {
		if s, ok := chain.Active(c.ID); ok {
			active[c.ID] = s
		}
	}
	return j.Under(active).choosing(chain.TenantColumn)
}

// MayReverse is nil if the job may open what cells it opens into plaintext; see [lifecycle.MayDecrypt].
func MayReverse(ctx context.Context, q pg.Querier, job Job) error {
	for _, c := range job.Spec.Columns {
		if !c.Reverse {
			continue
		}
		if err := lifecycle.MayDecrypt(ctx, q, c.ID); err != nil {
			return err
		}
	}
	return nil
}

// WithKeys has a transform ask a keychain for keys that it does not know, and for those of tenants, which are made on
// demand.
func WithKeys(t transform.Transform, chain *lifecycle.Keychain, db *pg.DB) transform.Transform {
	tenant := func(of interface{ Scheme() cell.Scheme }) transform.KeyFor {
		return func(ctx context.Context, tenant string) (cell.Scheme, error) {
			return chain.TenantKey(ctx, db, of.Scheme(), tenant)
		}
	}
	switch t := transform.Inner(t).(type) {
	case *transform.Reencrypt:
		t.Learn, t.Key = chain.Learn, tenant(t)
	case *transform.Encrypt:
		t.Learn, t.Key = chain.Learn, tenant(t)
	case *transform.Blind:
		t.Learn = chain.Learn
	case *transform.Decrypt:
		t.Learn = chain.Learn
	}
	return t
}
