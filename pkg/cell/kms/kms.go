// Package kms opens key-encryption keys (KEKs) by URI.
//
// A URI's scheme says where the key lives: file: is a Tink keyset in a local file, so key and
// data are as far apart as the operator puts them; vault: is a key of the transit engine of a
// Vault or OpenBao server, which never leaves it. Each kind is one file of this package and
// one case of OpenWith. aws-kms: and gcp-kms: are modules of their own, awskms and gcpkms: a
// program that is linked with one hands it over as a Kind. Every failure is a *cell.KEKError, whose hint says what to do.
// Credentials are never part of a URI: a Config carries them.
package kms

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Open returns the key that uri names, when that needs no configuration but baseDir, the folder
// of the manifest, where a relative file: path begins.
func Open(ctx context.Context, uri, baseDir string) (cell.KEK, error) {
	return OpenWith(ctx, uri, Config{BaseDir: baseDir})
}

// OpenWith returns the key that uri names. A key that is not on this machine is not asked for yet. Several URIs, with
// commas between them, are one key of which the first wraps and each unwraps.
func OpenWith(ctx context.Context, uri string, c Config) (cell.KEK, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open key-encryption key: %w", err)
	}
	if uris := Split(uri); len(uris) > 1 {
		return openSeveral(ctx, uris, c)
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	switch {
	case ok && scheme == "file" && rest != "":
		return openFile(ctx, uri, resolve(rest, c.BaseDir))
	case ok && (scheme == "vault" || scheme == "vault+http"):
		return openVault(uri, c.Vault.withDefaults())
	case ok && linked(scheme):
		return openLinked(ctx, uri, scheme, c.Kinds)
	case ok:
		return nil, unknown(scheme + ":…")
	}
	return nil, unknown("…")
}

// Known reports whether uri names kinds of keys that OpenWith can open.
func Known(uri string) bool {
	if uris := Split(uri); len(uris) > 1 {
		return !slices.ContainsFunc(uris, func(one string) bool { return !Known(one) })
	}
	scheme, rest, _ := strings.Cut(uri, ":")
	switch scheme {
	case "file":
		return rest != ""
	case "vault", "vault+http":
		_, _, _, err := parseVault(uri)
		return err == nil
	}
	return linked(scheme) && strings.HasPrefix(rest, "//")
}

// Path returns the file that a file: URI names, or "" for any other URI. Of several it is that of the key that wraps.
func Path(uri, baseDir string) string {
	uri = Split(uri)[0]
	if rest, ok := strings.CutPrefix(uri, "file:"); ok && rest != "" {
		return resolve(rest, baseDir)
	}
	return ""
}

func resolve(path, baseDir string) string {
	if rest, ok := strings.CutPrefix(path, "///"); ok { // file:///etc/kek.json is file:/etc/kek.json
		return "/" + rest
	}
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(baseDir, path)
}

// unknown shows no more of the URI than its scheme: the rest may hold a credential.
func unknown(shown string) error {
	return &cell.KEKError{
		Class: cell.KEKUnknown, URI: shown,
		Hint: "write file:PATH, for example file:cipherfleet.kek.json, or vault://HOST:PORT/MOUNT/KEY, for example vault://vault.example.com:8200/transit/cipherfleet; docs/keys.md has all kinds",
		Err:  errors.New("the URI's scheme is not known (accepted: file, vault, aws-kms, gcp-kms)"),
	}
}
