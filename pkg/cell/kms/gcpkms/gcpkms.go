// Package gcpkms is the kind of key-encryption key that lives in Google's Cloud KMS, for programs that are linked with it.
//
// A key is named by its resource: gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K. It never leaves Google. What
// it is bound to goes along as additional authenticated data, both ways are checked by CRC32C, and stock Tink reads the
// result. Credentials are the application default credentials, as Google's own tools find them. A program opens such keys
// when its main hands Kind over; an application hands options of its own to OpenWith.
package gcpkms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	tinkgcp "github.com/tink-crypto/tink-go-gcpkms/v2/integration/gcpkms"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/api/option"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
)

const (
	scheme   = "gcp-kms"
	patience = 30 * time.Second // for one call with its retries
)

// named is the form of a URI: the resource of a key, not of one of its versions.
var named = regexp.MustCompile(`^gcp-kms://projects/[A-Za-z0-9.:_-]{1,64}/locations/[a-z0-9-]{1,64}/keyRings/[A-Za-z0-9_-]{1,64}/cryptoKeys/[A-Za-z0-9_-]{1,64}$`)

// Kind lets a program open the keys of Cloud KMS.
func Kind() kms.Kind { return kms.Kind{Scheme: scheme, Open: Open} }

// Open returns the key that uri names, with the application default credentials. It does not call Cloud KMS.
func Open(ctx context.Context, uri string) (cell.KEK, error) { return OpenWith(ctx, uri, Config{}) }

// Config says how to reach Cloud KMS.
type Config struct {
	Options  []option.ClientOption // none: the application default credentials
	Patience time.Duration         // for one call with its retries; 0: 30 s
}

// OpenWith returns the key that uri names, reached through c. Its connection lives as long as the process.
func OpenWith(ctx context.Context, uri string, c Config) (cell.KEK, error) {
	if !named.MatchString(uri) {
		return nil, &cell.KEKError{Class: cell.KEKUnknown, URI: scheme + ":…", Err: errors.New("the URI names no key of Cloud KMS"),
			Hint: "write the key's resource, as in gcp-kms://projects/acme/locations/europe-west3/keyRings/fleet/cryptoKeys/cipherfleet"}
	}
	// What ends ctx must not end the connection.
	aead, err := tinkgcp.GetAEADWithContext(context.WithoutCancel(ctx), uri, tinkgcp.WithGoogleAPIClientOptions(c.Options...))
	if err != nil {
		return nil, &cell.KEKError{Class: cell.KEKDenied, URI: uri, Err: errors.New("there are no usable credentials"), // without err, which may quote
			Hint: "set GOOGLE_APPLICATION_CREDENTIALS, or give machine or pod a service account"}
	}
	return &key{uri: uri, aead: aead, patience: cmp.Or(c.Patience, patience)}, nil
}

// key is one key of Cloud KMS. Safe for concurrent use.
type key struct {
	uri      string
	aead     tink.AEADWithContext
	patience time.Duration
}

// URI returns the URI that the key was opened by.
func (k *key) URI() string { return k.uri }

// String returns the URI.
func (k *key) String() string { return k.uri }

// Format writes the URI whatever the verb.
func (k *key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.uri) }

// MarshalText is the URI.
func (k *key) MarshalText() ([]byte, error) { return []byte(k.uri), nil }

// Wrap has Cloud KMS encrypt under the key's primary version.
func (k *key) Wrap(ctx context.Context, dek, aad []byte) ([]byte, error) {
	if len(dek) == 0 {
		return nil, k.corrupt("there is nothing to wrap")
	}
	return k.call(ctx, k.aead.EncryptWithContext, dek, aad)
}

// Unwrap has Cloud KMS decrypt with the version that the ciphertext names.
func (k *key) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	if len(wrapped) == 0 {
		return nil, k.corrupt("the wrapped key is empty")
	}
	return k.call(ctx, k.aead.DecryptWithContext, wrapped, aad)
}

func (k *key) call(ctx context.Context, do func(context.Context, []byte, []byte) ([]byte, error), in, aad []byte) ([]byte, error) {
	patient, cancel := context.WithTimeout(ctx, k.patience)
	defer cancel()
	out, err := do(patient, in, aad)
	switch {
	case err != nil:
		return nil, k.refused(patient, err)
	case len(out) == 0:
		return nil, k.corrupt("its answer is empty")
	}
	return out, nil
}
