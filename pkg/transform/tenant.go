package transform

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// KeyFor is the scheme with the key of one tenant, which is made if there is none yet.
type KeyFor func(ctx context.Context, tenant string) (cell.Scheme, error)

// KeysFor has the keys of many tenants made that there are not yet, together.
type KeysFor func(ctx context.Context, tenants []string) error

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

// prepare has the keys made that a batch will ask for, where there is more than one.
func (s *sealers) prepare(ctx context.Context, keys KeysFor, values []Value) error {
	if keys == nil {
		return nil
	}
	var names []string
	asked := map[string]bool{}
	for i := range values {
		tenant := values[i].Tenant
		if len(tenant) == 0 || values[i].In == nil || s.tenants[string(tenant)] != nil || asked[string(tenant)] {
			continue
		}
		name := string(tenant)
		asked[name], names = true, append(names, name)
	}
	if len(names) < 2 {
		return nil
	}
	return keys(ctx, names)
}

// errNameless is of an empty text: a NULL says that a row is nobody's.
var errNameless = fmt.Errorf("%w: its tenant has no name", ErrValue)

// of is what seals a value. A tenant that was shredded gets no key, nor does one without a name: that is the row's fault.
func (s *sealers) of(ctx context.Context, key KeyFor, v *Value) (*cell.Sealer, error) {
	if v.Tenant == nil {
		return s.own, nil
	}
	if known := s.tenants[string(v.Tenant)]; known != nil {
		return known, nil
	}
	if len(v.Tenant) == 0 {
		return nil, errNameless
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
