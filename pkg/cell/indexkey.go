package cell

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"maps"
)

// IndexKey is a blind index with the id under which the registry keeps its key.
type IndexKey struct {
	BlindIndex
	KeyID uint32
}

const blindCanaryLabel = "cfbidx-canary/1"

// ID is what the wrapped key of the index is bound to.
func (k IndexKey) ID(registry [16]byte) DEKID {
	return DEKID{Registry: registry, Column: k.Column, KeyID: k.KeyID, Suite: SuiteBlindIndex}
}

// Canary is what proves later that dek is the key of this index in this installation, and that the index is still what it
// was: a keyed hash of all that, which is the token of no value.
func (k IndexKey) Canary(registry [16]byte, dek DEK) ([]byte, error) {
	if err := k.Validate(); err != nil {
		return nil, fmt.Errorf("make canary: %w", err)
	}
	if err := dek.fits(SuiteBlindIndex); err != nil {
		return nil, fmt.Errorf("make canary of blind index %d: %w", k.Number, err)
	}
	mac := hmac.New(sha256.New, *dek.secret.key)
	_, _ = mac.Write([]byte(blindCanaryLabel)) // a hash never fails
	_, _ = mac.Write(k.ID(registry).aad())
	_, _ = fmt.Fprintf(mac, "/%d/%d/%d", k.Number, k.Normaliser, k.Length)
	return mac.Sum(nil), nil
}

// CheckCanary compares; it fails with ErrAuth when key, registry or any field of the index is another than it was.
func (k IndexKey) CheckCanary(registry [16]byte, dek DEK, canary []byte) error {
	want, err := k.Canary(registry, dek)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, canary) {
		return fmt.Errorf("check canary of key %d: %w", k.KeyID, ErrAuth)
	}
	return nil
}

// AddIndex makes the key of a blind index usable. Adding the same again changes nothing; another key, or another
// definition under the same number, fails: indexes are immutable.
func (k *Keyring) AddIndex(index IndexKey, dek DEK) error { return k.addIndex(index, dek, terms{}) }

func (k *Keyring) addIndex(index IndexKey, dek DEK, t terms) error {
	if err := index.Validate(); err != nil {
		return fmt.Errorf("add blind index: %w", err)
	}
	if err := dek.fits(SuiteBlindIndex); err != nil {
		return fmt.Errorf("add blind index %d of column %d: %w", index.Number, index.Column, err)
	}
	next := newBlinding(k.registry, index.BlindIndex, dek, t)
	k.writing.Lock()
	defer k.writing.Unlock()
	b := k.blinder(index)
	if b.index != index.BlindIndex {
		return fmt.Errorf("add blind index %d of column %d: it is already known with another definition", index.Number, index.Column)
	}
	old := b.state.Load()
	if old.gone == nil && !old.key.equal(dek) {
		return fmt.Errorf("add blind index %d of column %d: it has another key", index.Number, index.Column)
	}
	if old.gone == nil && (old.terms.now == nil) != (t.now == nil) { // between terms and none the first of them stays
		return nil
	}
	b.state.Store(next)
	return nil
}

// blinder is that of an index, which is known afterwards. The caller holds k.writing.
func (k *Keyring) blinder(index IndexKey) *Blinder {
	if b, known := (*k.indexes.Load())[index.Number]; known {
		return b
	}
	b := &Blinder{index: index.BlindIndex}
	b.state.Store(&blinding{gone: ErrUnknownKey})
	next := maps.Clone(*k.indexes.Load())
	next[index.Number] = b
	k.indexes.Store(&next)
	return b
}

// withholdIndex takes the key of a blind index away; why is what every use of it returns from now on.
func (k *Keyring) withholdIndex(index IndexKey, why error) {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.blinder(index).state.Store(&blinding{gone: why})
}

// Blinder is what makes the tokens of an index, by its number in the registry: the same one for as long as the keyring
// lives. An index that nobody has added is an ErrUnknownKey.
func (k *Keyring) Blinder(number uint32) (*Blinder, error) {
	b, known := (*k.indexes.Load())[number]
	if !known {
		return nil, fmt.Errorf("blind index %d: %w", number, ErrUnknownKey)
	}
	return b, nil
}
