package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Unwrap is the key of the index, proven by its canary. One that is gone, or proves to be another, is a [*DamageError].
func (x Index) Unwrap(ctx context.Context, registry [16]byte, kek cell.KEK) (cell.DEK, error) {
	if x.Wrapped == nil {
		return cell.DEK{}, x.Damage(errKeyGone)
	}
	dek, err := cell.UnwrapDEK(ctx, cell.Under(kek, x.KEK), x.Blind().ID(registry), x.Wrapped)
	if err != nil {
		return cell.DEK{}, err
	}
	if err := x.Blind().CheckCanary(registry, dek, x.Canary); err != nil {
		dek.Wipe()
		return cell.DEK{}, x.Damage(err)
	}
	return dek, nil
}

// AddIndex unwraps and proves the key of a blind index, so that its tokens can be made. One that is not to be had, for it
// is gone, damaged or revoked, is a [*DamageError], and the keys of cells do not suffer by it.
func (k *Keys) AddIndex(ctx context.Context, kek cell.KEK, x Index) error {
	dek, err := x.Unwrap(ctx, k.Keyring.Registry(), kek)
	if err != nil {
		var damage *DamageError
		if !errors.As(err, &damage) && (errors.Is(err, cell.ErrAuth) || cell.Verdict(err) != nil || cell.KEKClassOf(err) == cell.KEKCorrupt) {
			err = x.Damage(err)
		}
		return fmt.Errorf("load key %d of blind index %q of %s: %w", x.Key, x.Name, x.Of(), err)
	}
	defer dek.Wipe()
	return k.Keyring.AddIndex(x.Blind(), dek)
}
