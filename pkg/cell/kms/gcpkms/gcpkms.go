// Package gcpkms is the kind of key-encryption key that lives in Google's Cloud KMS, for programs that are linked with it.
//
// A key is named by its resource: gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K. It never leaves Google. What
// it is bound to goes along as additional authenticated data, both ways are checked by CRC32C, and stock Tink reads the
// result. Credentials are the application default credentials, as Google's own tools find them. A program opens such keys
// when its main hands Kind over; an application hands options of its own to OpenWith.
package gcpkms

import (
	"context"
	"errors"
	"regexp"
	"time"

	tinkgcp "github.com/tink-crypto/tink-go-gcpkms/v2/integration/gcpkms"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/api/option"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
)

const scheme = "gcp-kms"

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
	return remote(uri, aead, c.Patience), nil
}

// remote is the key that Cloud KMS encrypts and decrypts with.
func remote(uri string, aead tink.AEADWithContext, patience time.Duration) cell.KEK {
	return &kms.Remote{Name: uri, Service: "Cloud KMS", Patience: patience, Encrypt: aead.EncryptWithContext, Decrypt: aead.DecryptWithContext, Refused: refused}
}
