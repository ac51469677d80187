package kms

import (
	"context"
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// several are more than one key: the first wraps, each unwraps what was wrapped under it. That is how an installation goes
// from one to another while its programs run.
type several []cell.KEK

// Split is the URIs of a list: what stands between commas behind which a key of a known kind is named.
func Split(list string) []string {
	var uris []string
	for part := range strings.SplitSeq(list, ",") {
		if trimmed := strings.TrimSpace(part); len(uris) == 0 || kindOf(trimmed) {
			uris = append(uris, trimmed)
			continue
		}
		uris[len(uris)-1] += "," + part // of a file's name
	}
	return uris
}

// kindOf says that a text begins as the URI of a key does.
func kindOf(text string) bool {
	scheme, _, ok := strings.Cut(text, ":")
	return ok && (scheme == "file" || scheme == "vault" || scheme == "vault+http" || linked(scheme))
}

func openSeveral(ctx context.Context, uris []string, c Config) (cell.KEK, error) {
	var all several
	for i, uri := range uris {
		kek, err := OpenWith(ctx, uri, c)
		switch class := cell.KEKClassOf(err); {
		case err == nil:
		case i == 0 || class == "" || class == cell.KEKUnknown:
			return nil, err
		default: // it may be over, or come back; who needs it is told then
			kek = &late{uri: uri, config: c}
		}
		if _, twice := all.Under(kek.URI()); twice {
			return nil, &cell.KEKError{Class: cell.KEKUnknown, URI: kek.URI(), Hint: "name each key-encryption key once: the first one wraps, all of them unwrap", Err: fmt.Errorf("it is named twice")}
		}
		all = append(all, kek)
	}
	return all, nil
}

// late is a key that could not be opened: whoever needs it tries again.
type late struct {
	uri    string
	config Config
}

// URI is its own.
func (l *late) URI() string { return l.uri }

// Wrap opens it first.
func (l *late) Wrap(ctx context.Context, dek, aad []byte) ([]byte, error) {
	kek, err := OpenWith(ctx, l.uri, l.config)
	if err != nil {
		return nil, err
	}
	return kek.Wrap(ctx, dek, aad)
}

// Unwrap opens it first.
func (l *late) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	kek, err := OpenWith(ctx, l.uri, l.config)
	if err != nil {
		return nil, err
	}
	return kek.Unwrap(ctx, wrapped, aad)
}

// URI is that of the key that wraps.
func (s several) URI() string { return s[0].URI() }

// Wrap wraps under the first.
func (s several) Wrap(ctx context.Context, dek, aad []byte) ([]byte, error) {
	return s[0].Wrap(ctx, dek, aad)
}

// Under is one of them.
func (s several) Under(uri string) (cell.KEK, bool) {
	for _, kek := range s {
		if kek.URI() == uri {
			return kek, true
		}
	}
	return nil, false
}

// Unwrap tries each, in their order. If none does it, what counts is that one of them is out of reach: it may be the right
// one, and what is loaded stays; else what the first said that did not only find a key of somebody else's.
func (s several) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	var said error
	for _, kek := range s {
		dek, err := kek.Unwrap(ctx, wrapped, aad)
		if err == nil {
			return dek, nil
		}
		class, before := cell.KEKClassOf(err), cell.KEKClassOf(said)
		if said == nil || before == cell.KEKCorrupt || class == cell.KEKUnavailable && before != cell.KEKUnavailable {
			said = err
		}
	}
	return nil, said
}
