package foreign

import (
	"bytes"
	"context"
	"fmt"
)

// Unwrapper asks the transit engine of a Vault or OpenBao server; the key that kms.OpenWith returns for a vault: URI
// is one.
type Unwrapper interface {
	Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error)
}

// Transit reads values that an application had Vault or OpenBao encrypt, "vault:v1:…", without associated data and
// under a key that is not derived. It asks the server for each of them.
type Transit struct{ key Unwrapper }

// NewTransit returns a reader that decrypts with key.
func NewTransit(key Unwrapper) *Transit { return &Transit{key: key} }

// Open decrypts one value. A failure of the server keeps its class.
func (t *Transit) Open(ctx context.Context, v Value) ([]byte, error) {
	if v.Cell == nil {
		return nil, nil
	}
	if !bytes.HasPrefix(v.Cell, []byte("vault:v")) {
		return nil, fmt.Errorf("open transit value: %w", ErrForm)
	}
	plaintext, err := t.key.Unwrap(ctx, v.Cell, nil)
	if err != nil {
		return nil, fmt.Errorf("open transit value: %w", err)
	}
	return plaintext, nil
}
