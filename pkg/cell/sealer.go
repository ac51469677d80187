package cell

import (
	"bytes"
	"fmt"
)

// scratch is what one seal or open needs besides its arguments, kept for the next one.
type scratch struct {
	redacted
	sub    subkey
	check  subkey // of OpenAndCompare: derived anew from the bytes that will be stored
	aad    []byte
	padded []byte
	plain  []byte
}

// sealUnder seals by a key of a keyring, while it may be used.
func (w *scratch) sealUnder(key *held, registry [16]byte, s Scheme, dst []byte, a Address, plaintext []byte, null bool) ([]byte, error) {
	x, err := key.use()
	if err != nil {
		return nil, fmt.Errorf("seal: key %d of column %d: %w", s.KeyID, s.Column, err)
	}
	return w.seal(registry, x, s, dst, a, plaintext, null)
}

func (w *scratch) seal(registry [16]byte, x body, s Scheme, dst []byte, a Address, plaintext []byte, null bool) ([]byte, error) {
	if null && !s.SealsNulls() {
		return nil, fmt.Errorf("seal: %w", s.errKeepsNull())
	}
	if err := s.admits(a, len(plaintext)); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if s.Padding > 0 || s.SealsNulls() {
		w.padded = appendPadding(s.appendKinded(w.padded[:0], plaintext, null), 0, s.Padding)
		plaintext = w.padded
		defer clear(w.padded)
	}
	start := len(dst)
	dst = s.Header().Append(dst)
	w.aad = appendAAD(w.aad[:0], registry, dst[start:], s.RowBound, a.part(s))
	sealed, err := x.seal(&w.sub, dst, plaintext, w.aad)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return sealed, nil
}

// admits refuses an address or a length that the scheme cannot seal.
func (s Scheme) admits(a Address, n int) error {
	switch {
	case a.Column != s.Column:
		return fmt.Errorf("address of column %d, scheme of column %d: %w", a.Column, s.Column, ErrForeignColumn)
	case s.RowBound && !bindable(a.part(s)):
		return s.unbound()
	case n+s.kindSize() > MaxPlaintext:
		return fmt.Errorf("%d bytes: %w", n, ErrTooLong)
	}
	return nil
}

func (w *scratch) open(registry [16]byte, x body, s Scheme, dst []byte, a Address, cell []byte) ([]byte, error) {
	o, err := x.opener(&w.sub, cell[HeaderSize:])
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return w.unlock(o, registry, s, dst, a, cell)
}

// unlock opens a parsed cell and removes padding and kind; nil is NULL.
func (w *scratch) unlock(o opener, registry [16]byte, s Scheme, dst []byte, a Address, cell []byte) ([]byte, error) {
	if s.RowBound && !bindable(a.part(s)) {
		return nil, fmt.Errorf("open: %w", s.unbound())
	}
	h, err := Parse(cell)
	if err != nil || h != s.Header() {
		return nil, fmt.Errorf("open: header does not agree with scheme %d of column %d: %w", s.Number, s.Column, ErrAuth)
	}
	w.aad = appendAAD(w.aad[:0], registry, cell, s.RowBound, a.part(s))
	start := len(dst)
	out, err := o.unlock(dst, cell[HeaderSize:], w.aad)
	if err != nil {
		return nil, fmt.Errorf("open: scheme %d of column %d: %w", s.Number, s.Column, err)
	}
	body, ok := unpad(out[start:], s.Padding)
	null := false
	if ok {
		body, null, ok = s.kinded(body)
	}
	if !ok {
		clear(out[start:])
		return nil, fmt.Errorf("open: padding or kind of scheme %d of column %d: %w", s.Number, s.Column, ErrAuth)
	}
	if null {
		return nil, nil
	}
	if out == nil {
		out = []byte{}
	}
	return out[:start+len(body)], nil
}

// Sealer seals for one scheme and keeps its buffers. It belongs to one goroutine.
type Sealer struct {
	redacted
	registry [16]byte
	scheme   Scheme
	key      *held
	work     *scratch // behind a pointer, like all that is secret: see secret
}

// Sealer returns a sealer for a scheme that was added to the keyring exactly so.
func (k *Keyring) Sealer(s Scheme) (*Sealer, error) {
	x, err := k.sealing(s)
	if err != nil {
		return nil, fmt.Errorf("make sealer: %w", err)
	}
	return &Sealer{registry: k.registry, scheme: s, key: x, work: new(scratch)}, nil
}

// Scheme returns what the sealer seals under.
func (s *Sealer) Scheme() Scheme { return s.scheme }

// Seal is Keyring.Seal for the sealer's scheme.
func (s *Sealer) Seal(dst []byte, a Address, plaintext []byte) ([]byte, error) {
	return s.work.sealUnder(s.key, s.registry, s.scheme, dst, a, plaintext, false)
}

// OpenAndCompare proves that cell, as it will be stored, opens at address a to plaintext.
// Header, salt, nonce, ciphertext and tag are all read from cell and the associated data is
// built anew from a. The subkey is derived anew from the stored salt; only when it equals the
// one that the preceding Seal used is that one's expanded key schedule used again, which makes
// a check right after its Seal the cheap one. Any cell of the scheme may be checked.
func (s *Sealer) OpenAndCompare(a Address, cell, plaintext []byte) error {
	null, err := s.compare(a, cell, plaintext)
	if err == nil && null {
		err = s.differs()
	}
	return err
}

// compare fails if the cell holds another value; null says that it holds none.
func (s *Sealer) compare(a Address, cell, plaintext []byte) (null bool, err error) {
	h, err := Parse(cell)
	if err != nil {
		return false, fmt.Errorf("compare: %w", err)
	}
	if h.Column != a.Column {
		return false, fmt.Errorf("compare: column %d, want %d: %w", h.Column, a.Column, ErrForeignColumn)
	}
	o, err := s.openerOf(cell)
	if err != nil {
		return false, fmt.Errorf("compare: %w", err)
	}
	opened, err := s.work.unlock(o, s.registry, s.scheme, s.work.plain[:0], a, cell)
	if err != nil {
		return false, fmt.Errorf("compare: %w", err)
	}
	if opened == nil {
		return true, nil
	}
	s.work.plain = opened
	defer clear(opened)
	if !bytes.Equal(opened, plaintext) {
		return false, s.differs()
	}
	return false, nil
}

func (s *Sealer) differs() error {
	return fmt.Errorf("compare: scheme %d of column %d: %w", s.scheme.Number, s.scheme.Column, ErrDiffers)
}

// openerOf derives the subkey of a stored cell, where the suite has subkeys, and returns it expanded.
func (s *Sealer) openerOf(cell []byte) (opener, error) {
	check, sealed := &s.work.check, &s.work.sub
	key, err := s.key.use()
	if err != nil {
		return nil, err
	}
	x, ok := key.(*XAES)
	if !ok {
		return key.opener(check, cell[HeaderSize:])
	}
	x.derive(check, cell[HeaderSize:])
	if sealed.aead != nil && check.key == sealed.key {
		return sealed, nil
	}
	return check, check.expand()
}
