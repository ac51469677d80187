package kms

import (
	"context"
	"errors"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Linked returns the schemes of the kinds that live in modules of their own.
func Linked() []string { return []string{"aws-kms", "gcp-kms"} }

func linked(scheme string) bool { return slices.Contains(Linked(), scheme) }

// openLinked opens a key of a kind that the program was linked with.
func openLinked(ctx context.Context, uri, scheme string, kinds []Kind) (cell.KEK, error) {
	at := slices.IndexFunc(kinds, func(k Kind) bool { return k.Scheme == scheme })
	if at < 0 {
		return nil, &cell.KEKError{
			Class: cell.KEKUnknown, URI: scheme + ":…",
			Hint: "use the programs that `make build-kms` makes, or link your own with the module of " + scheme + ": docs/keys.md says how",
			Err:  errors.New("this program was built without " + scheme),
		}
	}
	return kinds[at].Open(ctx, uri)
}
