package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// refused classes an answer that is not 200. The server's own words are looked at but never passed on: they may
// quote the request.
func (s *server) refused(status int, content []byte) error {
	var answer struct{ Errors []string }
	_ = json.Unmarshal(content, &answer) // what is no JSON says nothing
	said := strings.ToLower(strings.Join(answer.Errors, "\n"))
	says := func(any ...string) bool {
		for _, text := range any {
			if strings.Contains(said, text) {
				return true
			}
		}
		return false
	}
	e := &cell.KEKError{URI: s.uri, Err: fmt.Errorf("the server answered %d %s", status, http.StatusText(status))}
	switch {
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		e.Class, e.Hint = cell.KEKDenied, "does the token live, and does its policy allow update on encrypt/ and decrypt/ of this key?"
	case status == http.StatusNotFound:
		e.Class, e.Hint = cell.KEKDisabled, "is the transit engine mounted where the URI says, in this namespace?"
	case status == http.StatusBadRequest && says("key not found"):
		e.Class, e.Hint = cell.KEKDestroyed, "the server has no key of this name: bring it back from a backup of the server, or correct the URI"
	case status == http.StatusBadRequest && says("disallowed by policy", "soft-deleted", "soft deleted", "disabled"):
		e.Class, e.Hint = cell.KEKDisabled, "the key's version is switched off: lower its min_decryption_version, or restore the key"
	case status == http.StatusBadRequest:
		e.Class, e.Hint = cell.KEKCorrupt, "the wrapped key is damaged, belongs elsewhere or was wrapped by another key; or the key is not of a type that takes associated data (use aes256-gcm96)"
	case busy(status):
		e.Class, e.Hint = cell.KEKUnavailable, "is the server unsealed and active, and below its rate limit?"
	default:
		e.Class, e.Hint = cell.KEKCorrupt, "is this a Vault or OpenBao server?"
	}
	return e
}

// busy knows the answers that pass by themselves: a node that is sealed, standby, behind or overloaded.
func busy(status int) bool {
	switch status {
	case http.StatusPreconditionFailed, http.StatusTooManyRequests, http.StatusRequestTimeout, 472, 473:
		return true
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect: // a standby that names the active node
		return true
	}
	return status >= 500
}

// unreachable classes a request without a usable answer.
func (s *server) unreachable(err error) error {
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err // without the URL
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer in time: %w", err)
	}
	return &cell.KEKError{Class: cell.KEKUnavailable, URI: s.uri, Err: err, Hint: "is the server running, does its certificate name this host, and is its authority configured?"}
}

func (s *server) denied(what string) error {
	return &cell.KEKError{Class: cell.KEKDenied, URI: s.uri, Err: errors.New(what), Hint: "name a token file with CIPHERFLEET_VAULT_TOKEN_FILE, or a role of the Kubernetes auth method with CIPHERFLEET_VAULT_ROLE"}
}

func (s *server) corrupt(what string) error {
	return &cell.KEKError{
		Class: cell.KEKCorrupt, URI: s.uri, Err: errors.New(what),
		Hint: "name the key that the keys of this database were wrapped with, on a Vault or OpenBao server of version 1.13 or 2.0 at least",
	}
}
