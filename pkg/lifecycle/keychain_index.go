package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Indexes are the blind indexes of a column that tokens are written to, or that something is looked up in, by name and
// generation: those that are filling and those that are ready.
func (k *Keychain) Indexes(column uint32) []Index {
	return k.seen.Load().indexes[column]
}

// Blinder makes the tokens of an index; [cell.ErrUnknownKey] if the registry, as last read, has no such index.
func (k *Keychain) Blinder(index uint32) (*cell.Blinder, error) { return k.ring.Blinder(index) }

// followIndexes makes the keyring hold the keys of the blind indexes that the registry has. It is whole when nothing is
// missing that somebody could still have.
func (k *Keychain) followIndexes(ctx context.Context, next *seen) (whole bool, err error) {
	all, err := readableIndexes(ctx, k.q, k.config.Columns)
	if err != nil {
		return false, err
	}
	whole = true
	next.indexes = map[uint32][]Index{}
	for _, x := range all {
		had, err := k.linkIndex(ctx, x)
		if err != nil {
			return false, fmt.Errorf("load key %d of blind index %d: %w", x.Key, x.ID, err)
		}
		if whole = whole && had; x.State.Written() {
			next.indexes[x.Column] = append(next.indexes[x.Column], x)
		}
	}
	for _, of := range next.indexes {
		slices.SortStableFunc(of, func(a, b Index) int {
			if a.Name != b.Name {
				return bytes.Compare([]byte(a.Name), []byte(b.Name))
			}
			return a.Generation - b.Generation
		})
	}
	return whole, nil
}

// linkIndex loads the key of one index, or withholds it. Only what may pass by itself is an error.
func (k *Keychain) linkIndex(ctx context.Context, x Index) (had bool, err error) {
	of := x.Blind()
	if x.State == IndexDropped {
		k.cache.WithholdIndex(of, cell.ErrKeyDestroyed)
		return true, nil
	}
	if x.Wrapped == nil {
		k.cache.WithholdIndex(of, x.Damage(errKeyGone))
		return false, nil
	}
	held := k.cache.HoldsIndex(of)
	if held && bytes.Equal(k.wraps[x.ID], x.Wrapped) {
		return true, nil
	}
	err = k.cache.LoadIndex(ctx, x.KEK, of, x.Wrapped, x.Canary)
	var kek *cell.KEKError
	switch why := cell.Verdict(err); {
	case err == nil:
		k.wraps[x.ID] = x.Wrapped
		return true, nil
	case why != nil:
		k.withholdIndex(ctx, x, fmt.Errorf("%w: %w", why, err))
		return errors.Is(why, cell.ErrKeyDestroyed), nil
	case held: // its wrap is damaged or cannot be had; what was loaded before stays until its lifetime is over
		k.config.Log.WarnContext(ctx, "a key cannot be loaded again", "column", x.Column, "index", x.ID, "key", x.Key, "error", err)
		return false, nil
	case errors.Is(err, cell.ErrAuth), errors.As(err, &kek) && kek.Class == cell.KEKCorrupt:
		k.withholdIndex(ctx, x, x.Damage(err))
		return false, nil
	}
	return false, err
}

func (k *Keychain) withholdIndex(ctx context.Context, x Index, why error) {
	k.config.Log.WarnContext(ctx, "a key is not to be had", "column", x.Column, "index", x.ID, "key", x.Key, "error", why)
	k.cache.WithholdIndex(x.Blind(), why)
}
