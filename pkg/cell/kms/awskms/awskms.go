// Package awskms is the kind of key-encryption key that lives in AWS KMS, for programs that are linked with it.
//
// A key is named by its ARN: aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID, or …:alias/NAME. It never leaves AWS. What it
// is bound to goes along as the encryption context "associatedData", in hexadecimal: ids only, which CloudTrail shows,
// and stock Tink reads the result. Credentials, endpoints and retries are those of AWS's own tools: environment, shared
// configuration, the role of the machine or the pod. A program opens such keys when its main hands Kind over; an
// application hands a client of its own to OpenWith.
package awskms

import (
	"context"
	"errors"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	awsapi "github.com/aws/aws-sdk-go-v2/service/kms"
	tinkaws "github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
)

const scheme = "aws-kms"

// named is the form of a URI: the ARN of a key or of an alias, and its region.
var named = regexp.MustCompile(`^aws-kms://(arn:aws[a-z0-9-]*:kms:([a-z0-9-]{1,32}):[0-9]{12}:(?:key|alias)/[A-Za-z0-9/_-]{1,250})$`)

// Kind lets a program open the keys of AWS KMS.
func Kind() kms.Kind { return kms.Kind{Scheme: scheme, Open: Open} }

// Open returns the key that uri names, with the credentials that AWS's own tools would find. It does not call AWS.
func Open(ctx context.Context, uri string) (cell.KEK, error) {
	found := named.FindStringSubmatch(uri)
	if found == nil {
		return nil, unknown()
	}
	settings, err := config.LoadDefaultConfig(ctx, config.WithRegion(found[2]))
	if err != nil {
		return nil, &cell.KEKError{Class: cell.KEKDenied, URI: uri, Err: errors.New("the shared AWS configuration cannot be read"), Hint: "look at AWS_PROFILE, AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE"}
	}
	return OpenWith(ctx, uri, Config{API: awsapi.NewFromConfig(settings)})
}

// Config says how to reach AWS KMS.
type Config struct {
	API      tinkaws.KMSAPI // such as a *kms.Client of the AWS SDK, in the key's region
	Patience time.Duration  // for one call with its retries; 0: 30 s
}

// OpenWith returns the key that uri names, reached through c. It does not call AWS.
func OpenWith(ctx context.Context, uri string, c Config) (cell.KEK, error) {
	found := named.FindStringSubmatch(uri)
	if found == nil || c.API == nil {
		return nil, unknown()
	}
	aead, err := tinkaws.NewAEADWithContext(ctx, found[1], tinkaws.WithKMS(c.API))
	if err != nil {
		return nil, unknown()
	}
	return remote(uri, aead, c.Patience), nil
}

// unknown shows nothing of the URI: who misspells it may have put a credential there.
func unknown() error {
	return &cell.KEKError{Class: cell.KEKUnknown, URI: scheme + ":…", Err: errors.New("the URI names no key of AWS KMS"),
		Hint: "write the ARN of a key or alias, as in aws-kms://arn:aws:kms:eu-central-1:111122223333:alias/cipherfleet"}
}

// remote is the key that AWS KMS encrypts and decrypts with.
func remote(uri string, aead tink.AEADWithContext, patience time.Duration) cell.KEK {
	return &kms.Remote{Name: uri, Service: "AWS KMS", Patience: patience, Encrypt: aead.EncryptWithContext, Decrypt: aead.DecryptWithContext, Refused: refused}
}
