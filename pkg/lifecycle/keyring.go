package lifecycle

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Keys are the loaded keys of one installation, as of one revision of its registry.
type Keys struct {
	Keyring  *cell.Keyring
	Revision int64                  // when the installation's is greater, load again
	Active   map[uint32]cell.Scheme // by column id: what it is sealed with
	// Digests are, by column id, what digests of its values are keyed with: derived from its oldest key that can be read.
	Digests map[uint32]cell.DigestKey
}

// LoadKeys unwraps and proves every readable or active key of the given columns, or of all when none is given. One key
// that does not open its canary fails the whole: cells sealed or opened with it would be lost or refused.
func LoadKeys(ctx context.Context, q pg.Querier, kek cell.KEK, columns ...uint32) (*Keys, error) {
	installation, err := ReadInstallation(ctx, q) // first: keys newer than the revision do no harm, older ones would
	if err != nil {
		return nil, err
	}
	if columns == nil {
		columns = []uint32{}
	}
	keys, err := collect(ctx, q, scanKey, keySQL+` AND (pg_catalog.cardinality($1::bigint[]) = 0 OR s.column_id = ANY ($1)) ORDER BY d.id`, columns)
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	loaded := &Keys{Keyring: cell.NewKeyring(installation.Registry), Revision: installation.Revision, Active: map[uint32]cell.Scheme{},
		Digests: map[uint32]cell.DigestKey{}}
	for _, k := range keys {
		if err := loaded.add(ctx, installation.Registry, kek, k); err != nil {
			return nil, fmt.Errorf("load key %d of %s: %w", k.scheme.KeyID, k.of.Of(k.scheme.Column), err)
		}
	}
	return loaded, nil
}

func (k *Keys) add(ctx context.Context, registry [16]byte, kek cell.KEK, one key) error {
	dek, err := one.unwrap(ctx, registry, kek)
	if err != nil {
		return err
	}
	defer dek.Wipe()
	if err := k.Keyring.Add(one.scheme, dek); err != nil {
		return err
	}
	if _, older := k.Digests[one.scheme.Column]; !older {
		if k.Digests[one.scheme.Column], err = dek.DigestKey(registry, one.scheme.Column); err != nil {
			return err
		}
	}
	if one.state == SchemeActive {
		k.Active[one.scheme.Column], _ = k.Keyring.Scheme(one.scheme.Column, one.scheme.Number)
	}
	return nil
}
