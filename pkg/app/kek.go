package app

import (
	"context"
	"regexp"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
)

// Link adds kinds of key-encryption keys that OpenKEK opens beside the ones that every program knows.
func (f *Fleet) Link(kinds ...kms.Kind) { f.kinds = append(f.kinds, kinds...) }

// OpenKEK returns the key-encryption key that uri names; a relative file: path begins at baseDir.
func (f Fleet) OpenKEK(ctx context.Context, uri, baseDir string) (cell.KEK, error) {
	return kms.OpenWith(ctx, uri, kms.Config{BaseDir: baseDir, Kinds: f.kinds, Vault: f.access()})
}

// checkKEK checks the kind of key that a URI names; whether the key is there is for whoever opens it.
func checkKEK(uri string) error {
	if uri == "" || kms.Known(uri) {
		return nil
	}
	return &VariableError{Name: "CIPHERFLEET_KEK", Was: shownKEK(uri), Accepted: "file:PATH, as in file:cipherfleet.kek.json, vault://HOST:PORT/MOUNT/KEY, or another URI of docs/keys.md"}
}

var (
	schemeOnly = regexp.MustCompile(`^[a-z][a-z0-9.+-]{0,20}$`)
	plainPath  = regexp.MustCompile(`^(/|\.{1,2}/|~/)?([\w.-]+/)*[\w.-]+\.json$`)
)

// shownKEK is what a wrong URI may show: its scheme, or a path. Anything else may be a token, or the key itself.
func shownKEK(uri string) string {
	scheme, rest, isURI := strings.Cut(uri, ":")
	switch {
	case isURI && schemeOnly.MatchString(scheme) && rest == "":
		return scheme + ":"
	case isURI && schemeOnly.MatchString(scheme):
		return scheme + ":…"
	case plainPath.MatchString(uri):
		return uri
	}
	return "(hidden: it may hold a secret)"
}
