package cell

import "fmt"

const canaryLabel = "cfcanary/1"

// Canary seals a cell that proves, whenever it opens, that dek is the key of this scheme in this
// installation and that the scheme is still what it was. It is bound to a key part that no row
// has, so it opens nowhere in the column.
func Canary(registry [16]byte, s Scheme, dek DEK) ([]byte, error) {
	k, bound, err := canaryRing(registry, s, dek)
	if err != nil {
		return nil, fmt.Errorf("seal canary: %w", err)
	}
	return k.Seal(nil, bound, canaryAddress(s), canaryText(s))
}

// CheckCanary opens a canary and compares. It fails when key, registry or any field of the scheme
// is another than the one it was sealed with.
func CheckCanary(registry [16]byte, s Scheme, dek DEK, canary []byte) error {
	k, bound, err := canaryRing(registry, s, dek)
	if err != nil {
		return fmt.Errorf("check canary: %w", err)
	}
	text, h, err := k.Open(nil, canaryAddress(s), canary)
	if err != nil {
		return fmt.Errorf("check canary of key %d: %w", s.KeyID, err)
	}
	if h != bound.Header() || string(text) != string(canaryText(s)) {
		return fmt.Errorf("check canary of key %d: %w", s.KeyID, ErrAuth)
	}
	return nil
}

// canaryRing holds the scheme alone, as row-bound whatever its suite.
func canaryRing(registry [16]byte, s Scheme, dek DEK) (*Keyring, Scheme, error) {
	k := NewKeyring(registry)
	if err := s.Validate(); err != nil {
		return nil, s, err
	}
	s.RowBound, s.Columns = true, ""
	return k, s, k.add(s, dek, terms{})
}

func canaryAddress(s Scheme) Address {
	return Address{Column: s.Column, Key: appendPart(AppendKeyCount(nil, 1), tagCanary, nil)}
}

// canaryText tells what of the scheme neither header nor padding does: the binding before it was forced.
func canaryText(s Scheme) []byte {
	if s.Columns != "" {
		return append(append([]byte(canaryLabel), 2), s.Columns...)
	}
	bound := byte(0)
	if s.RowBound {
		bound = 1
	}
	return append([]byte(canaryLabel), bound)
}
