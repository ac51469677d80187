package cell

import (
	"sync/atomic"
	"time"
)

// held is one key of a keyring, also in the hands of sealers: dropping it takes it from all of them at once.
type held struct {
	redacted
	state atomic.Pointer[holding] // replaced as a whole, never changed in place
}

// holding is a key and its terms, or the reason why there is none any more.
type holding struct {
	cipher body
	terms  terms
	gone   error
}

// terms say until when a key may be used. The zero terms: for ever.
type terms struct {
	until time.Time
	now   func() time.Time
}

func hold(x body, t terms) *held {
	h := new(held)
	h.state.Store(&holding{cipher: x, terms: t})
	return h
}

// withheld is a key that there is none of.
func withheld(why error) *held {
	h := new(held)
	h.drop(why)
	return h
}

// use returns the cipher while it may be used. Its error wraps ErrKeyRevoked, ErrKeyDestroyed or ErrKeyExpired.
func (h *held) use() (body, error) {
	s := h.state.Load()
	switch {
	case s.gone != nil:
		return nil, s.gone
	case s.terms.now != nil && !s.terms.now().Before(s.terms.until):
		return nil, ErrKeyExpired
	}
	return s.cipher, nil
}

// renew sets new terms, also for a key that was dropped, and reports whether x is the key that it holds. Between terms
// and none the first of them stays.
func (h *held) renew(x body, t terms) bool {
	s := h.state.Load()
	switch {
	case s.gone != nil:
		h.state.Store(&holding{cipher: x, terms: t})
		return true
	case !s.cipher.equal(x):
		return false
	case s.terms.now != nil && t.now != nil:
		h.state.Store(&holding{cipher: s.cipher, terms: t})
	}
	return true
}

// drop forgets the key; why is what every use of it returns from now on.
func (h *held) drop(why error) { h.state.Store(&holding{gone: why}) }
