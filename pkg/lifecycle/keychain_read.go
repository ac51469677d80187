package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// chainSQL is every key of every scheme, whatever became of it. That of no tenant comes first: a scheme is known by it.
const chainSQL = `SELECT s.column_id, s.number, s.suite, s.codec, ` + bindingSQL + `, s.padding, s.nulls, s.state, coalesce(d.id, 0), coalesce(d.kek, ''), d.wrapped, d.canary,
 coalesce(d.tenant, ''), coalesce(s.tenant_column, ''), ` + retainSQL + `, ` + schemeOf + `
 FROM cipherfleet.schemes s LEFT JOIN cipherfleet.deks d ON d.column_id = s.column_id AND d.scheme = s.number
 WHERE pg_catalog.cardinality($1::bigint[]) = 0 OR s.column_id = ANY ($1) ORDER BY d.tenant IS NOT NULL, d.id`

// read brings the keychain to the registry's present revision.
func (k *Keychain) read(ctx context.Context) error {
	began := k.config.Now()
	installation, err := ReadInstallation(ctx, k.q) // first: keys newer than the revision do no harm, older ones would
	if err != nil {
		return err
	}
	if installation.Registry != k.ring.Registry() {
		return errors.New("refresh keys: the registry is another installation's now")
	}
	before := k.seen.Load()
	if k.whole && installation.Revision == before.revision {
		k.began = began
		return nil
	}
	keys, err := collect(ctx, k.q, scanKey, chainSQL, k.config.Columns)
	if err != nil {
		return fmt.Errorf("refresh keys: %w", err)
	}
	next := &seen{revision: before.revision, active: map[uint32]cell.Scheme{}, tenants: map[tenancy]cell.Scheme{}, choosers: maps.Clone(before.choosers)}
	if next.choosers == nil {
		next.choosers = map[tenancy]string{}
	}
	whole, err := k.follow(ctx, keys, next)
	if err == nil {
		var had bool
		had, err = k.followIndexes(ctx, next)
		whole = whole && had
	}
	if k.whole = whole; whole {
		next.revision = installation.Revision
	}
	if err != nil { // it was broken off
		next.active, next.tenants = joined(before.active, next.active), joined(before.tenants, next.tenants)
		next.indexes = before.indexes
		k.seen.Store(next)
		return err
	}
	k.began = began
	k.seen.Store(next)
	return nil
}

// joined is both; what comes after counts.
func joined[K comparable](before, after map[K]cell.Scheme) map[K]cell.Scheme {
	all := maps.Clone(after)
	for name, s := range before {
		if _, ok := after[name]; !ok {
			all[name] = s
		}
	}
	return all
}

// follow makes the keyring hold what keys say. It is whole when nothing is missing that somebody could still have.
func (k *Keychain) follow(ctx context.Context, keys []key, next *seen) (whole bool, err error) {
	whole = true
	present := map[uint32]bool{}
	for _, one := range keys {
		present[one.scheme.KeyID] = true
		if one.scheme.KeyID == 0 {
			k.config.Log.ErrorContext(ctx, "a scheme has no key", "error", one.damage(errKeyGone))
			whole = whole && one.closed()
			continue
		}
		had, err := k.link(ctx, one)
		if err != nil {
			return false, fmt.Errorf("load key %d of %s: %w", one.scheme.KeyID, one.of.Of(one.scheme.Column), err)
		}
		whole = whole && had
		next.choosers[tenancy{one.scheme.Column, one.scheme.Number, ""}] = one.tenantColumn // it never changes
		switch {
		case one.tenant != "" && one.gone() == nil:
			next.tenants[tenancy{one.scheme.Column, one.scheme.Number, one.tenant}] = one.scheme
		case one.tenant == "" && one.state == SchemeActive:
			next.active[one.scheme.Column] = one.scheme
		}
	}
	for id, old := range k.known {
		if !present[id] {
			k.cache.Withhold(old.scheme, old.damage(errKeyGone))
			delete(k.known, id)
		}
	}
	return whole, nil
}

// closed says that nothing is sealed or opened under the key's scheme any more.
func (k key) closed() bool { return k.state == SchemeRetired || k.state == SchemeDestroyed }

// gone is why a key is not to be loaded, or nil.
func (k key) gone() error {
	switch {
	case k.state == SchemeDestroyed, k.wrapped == nil && k.tenant != "":
		return cell.ErrKeyDestroyed
	case k.state == SchemeRetired:
		return cell.ErrKeyRetired
	case k.wrapped == nil:
		return k.damage(errKeyGone)
	}
	return nil
}

// link loads one key, or withholds it. Only what may pass by itself is an error.
func (k *Keychain) link(ctx context.Context, one key) (had bool, err error) {
	id := one.scheme.KeyID
	if why := one.gone(); why != nil {
		k.withhold(ctx, one, why)
		return one.closed() || one.tenant != "", nil
	}
	old, held := k.known[id], k.cache.Holds(one.scheme)
	if held && bytes.Equal(old.wrapped, one.wrapped) {
		return true, nil
	}
	err = k.cache.LoadUnder(ctx, one.kek, one.scheme, one.wrapped, one.canary)
	var kek *cell.KEKError
	switch why := cell.Verdict(err); {
	case err == nil:
		k.known[id] = one
		return true, nil
	case why != nil:
		k.withhold(ctx, one, fmt.Errorf("%w: %w", why, err))
		return errors.Is(why, cell.ErrKeyDestroyed), nil
	case held: // its wrap is damaged or cannot be had; what was loaded before stays until its lifetime is over
		k.config.Log.WarnContext(ctx, "a key cannot be loaded again", "column", one.scheme.Column, "scheme", one.scheme.Number, "key", id, "error", err)
		return false, nil
	case errors.Is(err, cell.ErrAuth), errors.As(err, &kek) && kek.Class == cell.KEKCorrupt:
		k.withhold(ctx, one, one.damage(err))
		return false, nil
	case errors.Is(err, cell.ErrUnapproved):
		k.withhold(ctx, one, err)
		return false, nil
	}
	return false, err
}

func (k *Keychain) withhold(ctx context.Context, one key, why error) {
	if _, known := k.known[one.scheme.KeyID]; !one.closed() && (!known || k.cache.Holds(one.scheme)) {
		k.config.Log.WarnContext(ctx, "a key is not to be had", "column", one.scheme.Column, "scheme", one.scheme.Number, "key", one.scheme.KeyID, "error", why)
	}
	k.known[one.scheme.KeyID] = one
	k.cache.Withhold(one.scheme, why)
}
