package transform

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// KeyFor is the scheme with the key of one tenant, which is made if there is none yet.
type KeyFor func(ctx context.Context, tenant string) (cell.Scheme, error)

// sealers seal under the keys of one scheme: its own, or that of a value's tenant.
type sealers struct {
	keyring *cell.Keyring
	own     *cell.Sealer
	tenants map[string]*cell.Sealer
}

func newSealers(keyring *cell.Keyring, s cell.Scheme) (sealers, error) {
	own, err := keyring.Sealer(s)
	if err != nil {
		return sealers{}, fmt.Errorf("open scheme %d of column %d: %w", s.Number, s.Column, err)
	}
	return sealers{keyring: keyring, own: own}, nil
}

// Scheme is what is sealed under; its key is that of all rows, or of those of no tenant.
func (s *sealers) Scheme() cell.Scheme { return s.own.Scheme() }

const mostTenants = 1000 // whose keys are kept at hand by one transform

// of is what seals a value. A tenant that was shredded gets no key: that is the row's fault.
func (s *sealers) of(ctx context.Context, key KeyFor, v *Value) (*cell.Sealer, error) {
	if v.Tenant == nil {
		return s.own, nil
	}
	if known := s.tenants[string(v.Tenant)]; known != nil {
		return known, nil
	}
	if key == nil {
		return nil, errors.New("a row names a tenant, and nobody has tenants' keys here")
	}
	scheme, err := key(ctx, string(v.Tenant))
	if errors.Is(err, cell.ErrKeyDestroyed) && cell.KEKClassOf(err) == "" {
		return nil, fmt.Errorf("%w: %w", ErrValue, err)
	}
	if err != nil {
		return nil, err
	}
	sealer, err := s.keyring.Sealer(scheme)
	if err != nil {
		return nil, err
	}
	if len(s.tenants) >= mostTenants || s.tenants == nil {
		s.tenants = map[string]*cell.Sealer{}
	}
	s.tenants[string(v.Tenant)] = sealer
	return sealer, nil
}
