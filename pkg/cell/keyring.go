package cell

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
)

// Keyring holds the schemes and DEKs of one installation. It is safe for concurrent use,
// also while schemes are added. It prints as "redacted".
type Keyring struct {
	redacted
	registry [16]byte
	writing  sync.Mutex
	schemes  atomic.Pointer[map[slot]entry] // replaced as a whole, never changed in place
	indexes  atomic.Pointer[map[uint32]*Blinder]
	scratch  sync.Pool // of *scratch
}

type slot struct {
	column uint32
	number uint16
}

// entry is one scheme; it can have several keys, of which scheme.KeyID was added first.
type entry struct {
	scheme Scheme
	keys   map[uint32]*held
}

// NewKeyring returns an empty keyring for the installation that the registry UUID names.
func NewKeyring(registry [16]byte) *Keyring {
	k := &Keyring{registry: registry}
	k.schemes.Store(&map[slot]entry{})
	k.indexes.Store(&map[uint32]*Blinder{})
	k.scratch.New = func() any { return new(scratch) }
	return k
}

// Registry returns the UUID of the installation, which every cell is bound to.
func (k *Keyring) Registry() [16]byte { return k.registry }

// Add makes a scheme usable for sealing and opening under dek. Adding the same again changes
// nothing. The same scheme number with another key id adds a second key; with anything else
// changed, or another key under the same id, it fails: schemes are immutable.
func (k *Keyring) Add(s Scheme, dek DEK) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("add scheme: %w", err)
	}
	return k.add(s, dek, terms{})
}

// add is Add, for a key that may be used only so long, without looking at the scheme.
func (k *Keyring) add(s Scheme, dek DEK, terms terms) error {
	x, err := dek.cipher(s.Suite)
	if err != nil {
		return fmt.Errorf("add scheme %d of column %d: %w", s.Number, s.Column, err)
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	next := maps.Clone(*k.schemes.Load())
	old, ok := next[slot{s.Column, s.Number}]
	grown, what := old.grow(s, x, terms, ok)
	if what != "" {
		return fmt.Errorf("add scheme %d of column %d: %s", s.Number, s.Column, what)
	}
	next[slot{s.Column, s.Number}] = grown
	k.schemes.Store(&next)
	return nil
}

// grow returns a copy of e that also holds key x of s, or says why it cannot. A key that was dropped is held again.
func (e entry) grow(s Scheme, x body, terms terms, exists bool) (entry, string) {
	if !exists {
		return entry{scheme: s, keys: map[uint32]*held{s.KeyID: hold(x, terms)}}, ""
	}
	same := e.scheme
	same.KeyID = s.KeyID
	if same != s {
		return e, "it is already known with another definition"
	}
	if known, ok := e.keys[s.KeyID]; ok {
		if !known.renew(x, terms) {
			return e, fmt.Sprintf("key id %d already names another key", s.KeyID)
		}
		return e, ""
	}
	keys := maps.Clone(e.keys)
	keys[s.KeyID] = hold(x, terms)
	return entry{scheme: e.scheme, keys: keys}, ""
}

// Scheme returns a scheme by column id and number; its KeyID is the key added first.
func (k *Keyring) Scheme(column uint32, number uint16) (Scheme, bool) {
	e, ok := (*k.schemes.Load())[slot{column, number}]
	return e.scheme, ok
}

// find returns the scheme and key that a header asks for.
func (k *Keyring) find(h Header) (Scheme, *held, error) {
	e, ok := (*k.schemes.Load())[slot{h.Column, h.Scheme}]
	if !ok {
		return Scheme{}, nil, fmt.Errorf("scheme %d of column %d: %w", h.Scheme, h.Column, ErrUnknownScheme)
	}
	x, ok := e.keys[h.KeyID]
	if !ok {
		return Scheme{}, nil, fmt.Errorf("key %d of scheme %d of column %d: %w", h.KeyID, h.Scheme, h.Column, ErrUnknownKey)
	}
	s := e.scheme
	s.KeyID = h.KeyID
	return s, x, nil
}

// Seal appends to dst the cell that holds plaintext at address a, under a fresh random nonce.
// The scheme must have been added. An empty plaintext is sealed like any other; of NULL there is
// [Keyring.SealNull]. dst must not overlap plaintext. On error dst's contents stand.
func (k *Keyring) Seal(dst []byte, s Scheme, a Address, plaintext []byte) ([]byte, error) {
	return k.seal(dst, s, a, plaintext, false)
}

func (k *Keyring) seal(dst []byte, s Scheme, a Address, plaintext []byte, null bool) ([]byte, error) {
	key, err := k.sealing(s)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	w := k.borrow()
	defer k.giveBack(w)
	return w.sealUnder(key, k.registry, s, dst, a, plaintext, null)
}

// sealing returns the key of a scheme that was added exactly as s says.
func (k *Keyring) sealing(s Scheme) (*held, error) {
	known, x, err := k.find(s.Header())
	if err != nil {
		return nil, err
	}
	if known != s {
		return nil, fmt.Errorf("scheme %d of column %d is known with another definition: %w", s.Number, s.Column, ErrUnknownScheme)
	}
	return x, nil
}

// Open appends to dst the plaintext of a cell, if it was sealed at exactly this address, and
// returns the cell's header, also when it fails after parsing. On success the result is nil for a
// cell that holds NULL, without what was in dst, and for no other: an empty value is not nil. dst
// must not overlap cell.
func (k *Keyring) Open(dst []byte, a Address, cell []byte) ([]byte, Header, error) {
	h, err := Parse(cell)
	if err != nil {
		return nil, Header{}, fmt.Errorf("open: %w", err)
	}
	if h.Column != a.Column {
		return nil, h, fmt.Errorf("open: column %d, want %d: %w", h.Column, a.Column, ErrForeignColumn)
	}
	s, key, err := k.find(h)
	if err != nil {
		return nil, h, fmt.Errorf("open: %w", err)
	}
	x, err := key.use()
	if err != nil {
		return nil, h, fmt.Errorf("open: key %d of column %d: %w", h.KeyID, h.Column, err)
	}
	w := k.borrow()
	defer k.giveBack(w)
	plaintext, err := w.open(k.registry, x, s, dst, a, cell)
	return plaintext, h, err
}

func (k *Keyring) borrow() *scratch { return k.scratch.Get().(*scratch) }

func (k *Keyring) giveBack(w *scratch) {
	w.sub.wipe()
	k.scratch.Put(w)
}
