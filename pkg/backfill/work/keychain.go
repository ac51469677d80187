package work

import (
	"context"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
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
		if !c.Reverse || c.Origin.Own() { // cells of one column become those of another: nothing is let out
			continue
		}
		if err := lifecycle.MayDecrypt(ctx, q, c.ID); err != nil {
			return err
		}
	}
	return nil
}
