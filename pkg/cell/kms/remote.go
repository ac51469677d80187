package kms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Remote is what a kind in a module of its own makes a key of: how its service is called, and what that says. It is safe
// for concurrent use if its functions are.
type Remote struct {
	Name     string        // the URI that the key was opened by
	Service  string        // what people call the service
	Patience time.Duration // for one call with its retries; 0: 30 s
	Encrypt  func(ctx context.Context, dek, aad []byte) ([]byte, error)
	Decrypt  func(ctx context.Context, wrapped, aad []byte) ([]byte, error)
	// Refused classes a failed call, and quotes of it what may be shown. URI and, where it is empty, Hint are filled in.
	Refused func(ctx context.Context, err error) *cell.KEKError
}

const remotePatience = 30 * time.Second

// URI returns the URI that the key was opened by.
func (r *Remote) URI() string { return r.Name }

// String returns the URI.
func (r *Remote) String() string { return r.Name }

// Format writes the URI whatever the verb.
func (r *Remote) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.Name) }

// MarshalText is the URI.
func (r *Remote) MarshalText() ([]byte, error) { return []byte(r.Name), nil }

// Wrap has the service encrypt under the key.
func (r *Remote) Wrap(ctx context.Context, dek, aad []byte) ([]byte, error) {
	if len(dek) == 0 {
		return nil, r.said(corrupted("there is nothing to wrap"))
	}
	return r.call(ctx, r.Encrypt, dek, aad)
}

// Unwrap has the service decrypt with the key.
func (r *Remote) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	if len(wrapped) == 0 {
		return nil, r.said(corrupted("the wrapped key is empty"))
	}
	return r.call(ctx, r.Decrypt, wrapped, aad)
}

func (r *Remote) call(ctx context.Context, do func(context.Context, []byte, []byte) ([]byte, error), in, aad []byte) ([]byte, error) {
	patient, cancel := context.WithTimeout(ctx, cmp.Or(r.Patience, remotePatience))
	defer cancel()
	out, err := do(patient, in, aad)
	switch {
	case err != nil:
		return nil, r.said(r.Refused(patient, err))
	case len(out) == 0:
		return nil, r.said(corrupted("its answer is empty"))
	}
	return out, nil
}

func corrupted(what string) *cell.KEKError {
	return &cell.KEKError{Class: cell.KEKCorrupt, Err: errors.New(what)}
}

func (r *Remote) said(e *cell.KEKError) error {
	e.URI = r.Name
	e.Hint = cmp.Or(e.Hint, "name the key that the keys of this database were wrapped with; is it "+r.Service+" that answers?")
	return e
}
