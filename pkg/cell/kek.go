package cell

import (
	"context"
	"errors"
	"fmt"
)

// KEK is a key-encryption key: it wraps DEKs, somewhere that may be far away. Every failure
// of Wrap and Unwrap is or wraps a *KEKError. Implementations are safe for concurrent use.
type KEK interface {
	// URI names the key, without credentials, as the registry stores it.
	URI() string
	// Wrap encrypts a key and binds it to aad.
	Wrap(ctx context.Context, dek, aad []byte) ([]byte, error)
	// Unwrap decrypts what Wrap returned for the same aad.
	Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error)
}

// KEKClass says what a failure of a KEK means for those who hold keys under it.
type KEKClass string

// The classes of failure.
const (
	KEKUnavailable KEKClass = "unavailable" // out of reach for now: keep what is loaded, try again
	KEKDenied      KEKClass = "denied"      // this caller may not: drop what is loaded
	KEKDisabled    KEKClass = "disabled"    // switched off by its owner: drop what is loaded
	KEKDestroyed   KEKClass = "destroyed"   // gone for good: so are the DEKs under it
	KEKExposed     KEKClass = "exposed"     // others than its owner may have it: not used until somebody has looked
	KEKUnknown     KEKClass = "unknown"     // its URI is of no kind that can be opened
	KEKCorrupt     KEKClass = "corrupt"     // key or wrapped key is damaged, or belongs elsewhere
)

// KEKError is a failure of a key-encryption key, for a person to act on. It never holds key material.
type KEKError struct {
	Class KEKClass
	URI   string
	Hint  string // what to do about it; may be empty
	Err   error
}

// Error says which key failed, how, and why.
func (e *KEKError) Error() string {
	return fmt.Sprintf("key-encryption key %s is %s: %v", e.URI, e.Class, e.Err)
}

// Unwrap returns the cause.
func (e *KEKError) Unwrap() error { return e.Err }

// KEKClassOf returns the class of the *KEKError in err's chain, or "".
func KEKClassOf(err error) KEKClass {
	var e *KEKError
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}
