package cell

import (
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/daead/aessiv"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"
	"github.com/tink-crypto/tink-go/v2/secretdata"
)

// keyset returns the Tink keyset that holds only this key, as one of the suite.
func (d DEK) keyset(s Suite) (*keyset.Handle, error) {
	if err := d.fits(s); err != nil {
		return nil, fmt.Errorf("make keyset: %w", err)
	}
	k, err := tinkKey(s, secretdata.NewBytesFromData(*d.secret.key, insecuresecretdataaccess.Token{}))
	if err != nil {
		return nil, fmt.Errorf("make keyset: %w", err)
	}
	m := keyset.NewManager()
	keyID, err := m.AddKey(k)
	if err != nil {
		return nil, fmt.Errorf("make keyset: %w", err)
	}
	if err := m.SetPrimary(keyID); err != nil {
		return nil, fmt.Errorf("make keyset: %w", err)
	}
	return m.Handle()
}

// tinkKey returns the key as Tink has it, without output prefix.
func tinkKey(s Suite, material secretdata.Bytes) (key.Key, error) {
	switch s {
	case SuiteXAES256GCM:
		parameters, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, SaltSize)
		if err != nil {
			return nil, err
		}
		return xaesgcm.NewKey(material, 0, parameters)
	case SuiteAES256SIV:
		parameters, err := aessiv.NewParameters(SIVKeySize, aessiv.VariantNoPrefix)
		if err != nil {
			return nil, err
		}
		return aessiv.NewKey(material, 0, parameters)
	case SuiteBlindIndex:
		parameters, err := hmacprf.NewParameters(KeySize, hmacprf.SHA256)
		if err != nil {
			return nil, err
		}
		return hmacprf.NewKey(material, parameters)
	}
	return nil, fmt.Errorf("%v has no keys", s)
}

// dekOf takes the only key out of an unwrapped keyset. It must be exactly what tinkKey makes for the suite.
func dekOf(handle *keyset.Handle, s Suite) (DEK, error) {
	if handle.Len() != 1 {
		return DEK{}, fmt.Errorf("the wrapped keyset holds %d keys, want 1", handle.Len())
	}
	entry, err := handle.Primary()
	if err != nil {
		return DEK{}, errors.New("the wrapped keyset has no enabled primary key")
	}
	found, ok := entry.Key().(interface{ KeyBytes() secretdata.Bytes })
	if !ok {
		return DEK{}, errors.New("the wrapped key is of another kind")
	}
	material := found.KeyBytes()
	want, err := tinkKey(s, material)
	if err != nil {
		return DEK{}, fmt.Errorf("the wrapped key is of another length: %w", err)
	}
	if !want.Equal(entry.Key()) {
		return DEK{}, errors.New("the wrapped key is of another kind, or has other parameters")
	}
	return DEKFromBytes(material.Data(insecuresecretdataaccess.Token{}))
}
