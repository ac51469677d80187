package cell

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

// Lifetimes say how long a DEK is used without asking its KEK again.
type Lifetimes struct {
	Soft time.Duration // after at most this time it is asked again; so long may a revocation take to be noticed
	Hard time.Duration // without an answer it is used this long, and not a moment longer
}

// DefaultLifetimes asks again every five minutes and bears an outage of twelve hours.
func DefaultLifetimes() Lifetimes { return Lifetimes{Soft: 5 * time.Minute, Hard: 12 * time.Hour} }

// Cache keeps the keys of a keyring as long as their KEK allows. Load adds a key, Refresh asks again for those whose
// time has come. When the KEK denies, is disabled or destroyed, the key is dropped at once, everywhere; when it is
// unavailable, or answers nonsense, the key stays until its hard lifetime is over, whether or not anybody refreshes.
// It is safe for concurrent use.
type Cache struct {
	keyring   *Keyring
	kek       KEK
	lifetimes Lifetimes
	now       func() time.Time
	asking    sync.Mutex // one at a time, so that no answer is overtaken by an older one
	mu        sync.Mutex
	keys      map[cachedKey]*lease // guarded by mu
}

type cachedKey struct {
	slot
	keyID uint32
}

// keyed is what a key is of: a [Scheme] or an [IndexKey].
type keyed interface {
	cached() cachedKey
	dekID(registry [16]byte) DEKID
	prove(registry [16]byte, dek DEK, canary []byte) error
	join(k *Keyring, dek DEK, t terms) error
	leave(k *Keyring, why error)
}

func (s Scheme) cached() cachedKey { return cachedKey{slot{s.Column, s.Number}, s.KeyID} }
func (s Scheme) dekID(registry [16]byte) DEKID {
	return DEKID{Registry: registry, Column: s.Column, KeyID: s.KeyID, Suite: s.Suite}
}
func (s Scheme) prove(registry [16]byte, dek DEK, canary []byte) error {
	return CheckCanary(registry, s, dek, canary)
}
func (s Scheme) join(k *Keyring, dek DEK, t terms) error { return k.add(s, dek, t) }
func (s Scheme) leave(k *Keyring, why error)             { k.withhold(s, why) }

func (k IndexKey) cached() cachedKey             { return cachedKey{slot{column: k.Column}, k.KeyID} } // no scheme has the number 0
func (k IndexKey) dekID(registry [16]byte) DEKID { return k.ID(registry) }
func (k IndexKey) prove(registry [16]byte, dek DEK, canary []byte) error {
	return k.CheckCanary(registry, dek, canary)
}
func (k IndexKey) join(ring *Keyring, dek DEK, t terms) error { return ring.addIndex(k, dek, t) }
func (k IndexKey) leave(ring *Keyring, why error)             { ring.withholdIndex(k, why) }

// lease is what a key is confirmed with.
type lease struct {
	of              keyed
	kek             string // the URI that it was wrapped under; "": whatever unwraps it
	wrapped, canary []byte
	due             time.Time // when to ask again
	until           time.Time // the hard end
}

// retryPart of the soft lifetime passes between two attempts while the KEK is unavailable.
const retryPart = 10

// NewCache returns a cache that adds to keyring what kek unwraps; now is the clock.
func NewCache(keyring *Keyring, kek KEK, l Lifetimes, now func() time.Time) (*Cache, error) {
	if l.Soft <= 0 || l.Hard < l.Soft {
		return nil, fmt.Errorf("make key cache: lifetimes of %v and %v: the soft one must be positive, the hard one not shorter", l.Soft, l.Hard)
	}
	return &Cache{keyring: keyring, kek: kek, lifetimes: l, now: now, keys: map[cachedKey]*lease{}}, nil
}

// Load unwraps the key of a scheme, has its canary prove it, and makes it usable in the keyring. On failure nothing
// is added, and a key that was loaded before is treated as Refresh would.
func (c *Cache) Load(ctx context.Context, s Scheme, wrapped, canary []byte) error {
	return c.load(ctx, &lease{of: s, wrapped: wrapped, canary: canary})
}

// LoadIndex is [Cache.LoadUnder] of the key of a blind index.
func (c *Cache) LoadIndex(ctx context.Context, uri string, k IndexKey, wrapped, canary []byte) error {
	return c.load(ctx, &lease{of: k, kek: uri, wrapped: wrapped, canary: canary})
}

func (c *Cache) load(ctx context.Context, l *lease) error {
	c.asking.Lock()
	defer c.asking.Unlock()
	c.mu.Lock()
	if old, ok := c.keys[l.of.cached()]; ok {
		l.until = old.until
	}
	c.mu.Unlock()
	return c.confirm(ctx, l)
}

// Holds reports whether a key was loaded and not taken away since, though its hard lifetime may be over.
func (c *Cache) Holds(s Scheme) bool { return c.holds(s) }

// HoldsIndex is the same of the key of a blind index.
func (c *Cache) HoldsIndex(k IndexKey) bool { return c.holds(k) }

func (c *Cache) holds(of keyed) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.keys[of.cached()]
	return ok
}

// Refresh asks the KEK again for every key whose soft lifetime is over, and returns what failed. While another Refresh
// or Load is under way it does nothing. A KEK that is unavailable for one key is not asked for the others.
func (c *Cache) Refresh(ctx context.Context) error {
	if !c.asking.TryLock() {
		return nil
	}
	defer c.asking.Unlock()
	var failed []error
	var out error
	for _, l := range c.due() {
		if out != nil {
			c.settle(l, c.now(), out)
			continue
		}
		err := c.confirm(ctx, l)
		failed = append(failed, err)
		if KEKClassOf(err) == KEKUnavailable {
			out = err
		}
	}
	return errors.Join(failed...)
}

// Next returns when the next key is to be refreshed; ok is false when there is none.
func (c *Cache) Next() (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.keys {
		if !ok || l.due.Before(at) {
			at, ok = l.due, true
		}
	}
	return at, ok
}

// due returns copies of the leases whose time has come.
func (c *Cache) due() []*lease {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*lease
	for _, l := range c.keys {
		if !now.Before(l.due) {
			again := *l
			list = append(list, &again)
		}
	}
	return list
}

// confirm asks the KEK for one key and does what its answer demands.
func (c *Cache) confirm(ctx context.Context, l *lease) error {
	asked := c.now() // before the answer: an answer that took long is no younger for it
	dek, err := c.unwrap(ctx, l)
	defer dek.Wipe()
	if err == nil {
		l.due = asked.Add(c.lifetimes.Soft - rand.N(c.lifetimes.Soft/retryPart+1)) // not all programs at once
		l.until = asked.Add(c.lifetimes.Hard)
		err = l.of.join(c.keyring, dek, terms{until: l.until, now: c.now})
	}
	c.settle(l, asked, err)
	return err
}

// settle keeps, postpones or drops a key after an answer.
func (c *Cache) settle(l *lease, asked time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, loaded := c.keys[l.of.cached()]
	switch why := Verdict(err); {
	case err == nil:
		c.keys[l.of.cached()] = l
	case loaded && why != nil:
		l.of.leave(c.keyring, fmt.Errorf("%w: %w", why, err))
		delete(c.keys, l.of.cached())
	case loaded:
		l.due = asked.Add(c.lifetimes.Soft / retryPart)
		c.keys[l.of.cached()] = l
		if !asked.Before(l.until) {
			l.of.leave(c.keyring, fmt.Errorf("%w: %w", ErrKeyExpired, err))
		}
	}
}

func (c *Cache) unwrap(ctx context.Context, l *lease) (DEK, error) {
	dek, err := UnwrapDEK(ctx, Under(c.kek, l.kek), l.of.dekID(c.keyring.registry), l.wrapped)
	if err != nil {
		return DEK{}, err
	}
	if err := l.of.prove(c.keyring.registry, dek, l.canary); err != nil {
		dek.Wipe()
		return DEK{}, err
	}
	return dek, nil
}

// Verdict returns what a failure of a KEK makes of a key that is held, ErrKeyRevoked or ErrKeyDestroyed; or nil if the
// key stays for now.
func Verdict(err error) error {
	switch KEKClassOf(err) {
	case KEKDenied, KEKDisabled, KEKExposed:
		return ErrKeyRevoked
	case KEKDestroyed:
		return ErrKeyDestroyed
	}
	return nil
}

// Withhold takes a key of a scheme away at once, everywhere; or, of one that was never loaded, makes known that there is
// none. Until it is loaded again, why is what every use of it returns.
func (c *Cache) Withhold(s Scheme, why error) { c.withhold(s, why) }

// WithholdIndex is the same for the key of a blind index.
func (c *Cache) WithholdIndex(k IndexKey, why error) { c.withhold(k, why) }

func (c *Cache) withhold(of keyed, why error) {
	of.leave(c.keyring, why)
	c.asking.Lock() // an answer that is under way must not bring it back
	defer c.asking.Unlock()
	c.mu.Lock()
	delete(c.keys, of.cached())
	c.mu.Unlock()
	of.leave(c.keyring, why)
}

// withhold takes a key from the keyring and from every sealer; its scheme is known afterwards, also if it was not.
func (k *Keyring) withhold(s Scheme, why error) {
	k.writing.Lock()
	defer k.writing.Unlock()
	next := maps.Clone(*k.schemes.Load())
	e, ok := next[slot{s.Column, s.Number}]
	switch key, loaded := e.keys[s.KeyID]; {
	case loaded:
		key.drop(why)
		return
	case !ok:
		e = entry{scheme: s}
	}
	e.keys = maps.Clone(e.keys)
	if e.keys == nil {
		e.keys = map[uint32]*held{}
	}
	e.keys[s.KeyID] = withheld(why)
	next[slot{s.Column, s.Number}] = e
	k.schemes.Store(&next)
}
