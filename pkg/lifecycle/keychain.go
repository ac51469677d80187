package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// KeychainConfig of [OpenKeychain]. The zero value works.
type KeychainConfig struct {
	Columns   []uint32         // ids; none: every column's keys
	Lifetimes cell.Lifetimes   // zero: [cell.DefaultLifetimes]
	Poll      time.Duration    // how often [Keychain.Run] looks for a newer revision; 0: 10 s
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil: nothing is logged
}

const (
	defaultPoll = 10 * time.Second
	learnPause  = 100 * time.Millisecond // between two readings that cells nobody knows have caused
)

// Keychain is the keys of an installation, kept up to date: schemes that come are added to its keyring, keys that are
// revoked, retired or destroyed are taken from it, each is confirmed by its KEK within its lifetimes. It is safe for
// concurrent use.
type Keychain struct {
	q       pg.Querier
	kek     cell.KEK
	config  KeychainConfig
	ring    *cell.Keyring
	cache   *cell.Cache
	turn    chan struct{}     // holds one token: who has it may read the registry
	known   map[uint32]key    // by key id, as last read; under turn
	wraps   map[uint32][]byte // of keys of blind indexes, by index id, as last loaded; under turn
	whole   bool              // every key of the last reading that can be had is here; under turn
	began   time.Time         // when the last successful reading began; under turn
	learned time.Time         // when the last reading that Learn caused began; under turn
	seen    atomic.Pointer[seen]
}

// seen is what is known as of one reading.
type seen struct {
	revision int64 // of the last reading that was whole
	active   map[uint32]cell.Scheme
	tenants  map[tenancy]cell.Scheme
	choosers map[tenancy]string // of schemes with tenant "": the column that chooses the key
	indexes  map[uint32][]Index // by column
}

// OpenKeychain loads and proves every key. A key that its KEK refuses, or that is damaged, fails those who use it and
// nobody else; a KEK that is out of reach fails the whole. The keychain keeps q for later.
func OpenKeychain(ctx context.Context, q pg.Querier, kek cell.KEK, config KeychainConfig) (*Keychain, error) {
	config = config.withDefaults()
	installation, err := ReadInstallation(ctx, q)
	if err != nil {
		return nil, err
	}
	ring := cell.NewKeyring(installation.Registry)
	cache, err := cell.NewCache(ring, kek, config.Lifetimes, config.Now)
	if err != nil {
		return nil, err
	}
	k := &Keychain{q: q, kek: kek, config: config, ring: ring, cache: cache, turn: make(chan struct{}, 1), known: map[uint32]key{}, wraps: map[uint32][]byte{}}
	k.turn <- struct{}{}
	k.seen.Store(&seen{})
	return k, k.Refresh(ctx)
}

func (c KeychainConfig) withDefaults() KeychainConfig {
	if c.Columns == nil {
		c.Columns = []uint32{}
	}
	if c.Lifetimes == (cell.Lifetimes{}) {
		c.Lifetimes = cell.DefaultLifetimes()
	}
	if c.Poll <= 0 {
		c.Poll = defaultPoll
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Keyring is where the keys are: the same one for as long as the keychain lives.
func (k *Keychain) Keyring() *cell.Keyring { return k.ring }

// Active is what a column is sealed with; false when it has no active scheme, or is none of the keychain's columns.
func (k *Keychain) Active(column uint32) (cell.Scheme, bool) {
	s, ok := k.seen.Load().active[column]
	return s, ok
}

// Revision is the registry's newest revision of which every key is here that is not destroyed: what a lease carries. It
// is 0 while there has been none.
func (k *Keychain) Revision() int64 { return k.seen.Load().revision }

// Digest is what digests of a column's values are keyed with: derived from the oldest of its keys that can be read,
// which the KEK is asked for. ok is false when the column has no key.
func (k *Keychain) Digest(ctx context.Context, column uint32) (key cell.DigestKey, ok bool, err error) {
	loaded, err := LoadKeys(ctx, k.q, k.kek, column)
	if err != nil {
		return cell.DigestKey{}, false, err
	}
	key, ok = loaded.Digests[column]
	return key, ok, nil
}

// Refresh reads the registry if its revision moved, or if a key could not be had last time. Several at once are one. An
// error leaves what is loaded as it is, but for keys that were taken away.
func (k *Keychain) Refresh(ctx context.Context) error {
	arrived := k.config.Now()
	if err := k.take(ctx); err != nil {
		return err
	}
	defer k.give()
	if k.began.After(arrived) {
		return nil // somebody read it for us while we waited
	}
	return k.read(ctx)
}

// Learn is for whoever met err, a cell of a scheme or key that the keyring does not know: it refreshes, and says
// whether to try once more. For any other error it does nothing. However many cells nobody knows, it reads the registry
// ten times a second at most, and several at once are one.
func (k *Keychain) Learn(ctx context.Context, err error) (again bool) {
	if !errors.Is(err, cell.ErrUnknownScheme) && !errors.Is(err, cell.ErrUnknownKey) {
		return false
	}
	arrived := k.config.Now()
	if k.take(ctx) != nil {
		return false
	}
	defer k.give()
	if k.began.After(arrived) {
		return true
	}
	if !rest(ctx, k.learned.Add(learnPause).Sub(k.config.Now())) {
		return false
	}
	k.learned = k.config.Now()
	if err := k.read(ctx); err != nil {
		k.config.Log.WarnContext(ctx, "keys could not be refreshed for a cell that nobody knows", "error", err)
		return false
	}
	return true
}

// Run keeps the keychain up to date until ctx ends.
func (k *Keychain) Run(ctx context.Context) {
	for rest(ctx, k.pause()) {
		err := errors.Join(k.confirm(ctx), k.Refresh(ctx))
		if err != nil && ctx.Err() == nil {
			k.config.Log.WarnContext(ctx, "keys are not up to date", "revision", k.Revision(), "error", err)
		}
	}
}

// pause is how long until there is something to do.
func (k *Keychain) pause() time.Duration {
	next, ok := k.cache.Next()
	if due := next.Sub(k.config.Now()); ok && due < k.config.Poll {
		return max(due, learnPause)
	}
	return k.config.Poll
}

// confirm has keys confirmed whose soft lifetime is over. Whatever was taken away is asked for again from now on.
func (k *Keychain) confirm(ctx context.Context) error {
	err := k.cache.Refresh(ctx)
	if err == nil {
		return nil
	}
	if k.take(ctx) == nil {
		k.whole = false
		k.give()
	}
	return fmt.Errorf("confirm keys: %w", err)
}

func (k *Keychain) take(ctx context.Context) error {
	select {
	case <-k.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("refresh keys: %w", ctx.Err())
	}
}

func (k *Keychain) give() { k.turn <- struct{}{} }

// rest waits, and says whether ctx still goes on.
func rest(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
