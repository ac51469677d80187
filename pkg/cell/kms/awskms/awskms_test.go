package awskms_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/awskms"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/kmstest"
)

// hangUp promises more than it sends, then breaks the connection.
func hangUp(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"Plaintext":"`) // what is sent is not enough
	panic(http.ErrAbortHandler)
}

// stall answers when the caller has gone.
func stall(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only then the server looks whether the caller is there
	<-r.Context().Done()
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) } // the caller sees what is missing
}

func TestAWSConforms(t *testing.T) {
	t.Parallel()
	kmstest.Conform(t, func(t *testing.T) kmstest.Subject {
		t.Helper()
		s := newServer(t)
		patience := time.Minute
		well := func() { s.set(func(s *server) { s.refuses, s.misbehave, s.noContext = "", nil, false }) }
		answers := func(class cell.KEKClass, status int, code, message string) kmstest.Fault {
			return kmstest.Fault{Class: class, Heal: well, Cause: func() {
				s.set(func(s *server) { s.status, s.refuses, s.message = status, code, message+" "+secret })
			}}
		}
		does := func(class cell.KEKClass, how http.HandlerFunc) kmstest.Fault {
			return kmstest.Fault{Class: class, Heal: well, Cause: func() { s.set(func(s *server) { s.misbehave = how }) }}
		}
		return kmstest.Subject{
			Open: func() (cell.KEK, error) {
				return awskms.OpenWith(t.Context(), uri, awskms.Config{API: s.client(), Patience: patience})
			},
			Secrets: []string{secret, keyID, "c29tZSBieXRlcw"},
			Faults: map[string]kmstest.Fault{
				"unavailable":         answers(cell.KEKUnavailable, 500, "KMSInternalException", ""),
				"dependency":          answers(cell.KEKUnavailable, 503, "DependencyTimeoutException", ""),
				"unknown and broken":  answers(cell.KEKUnavailable, 503, "NobodyKnowsException", ""),
				"throttled":           answers(cell.KEKUnavailable, 400, "ThrottlingException", "Rate exceeded"),
				"key store away":      answers(cell.KEKUnavailable, 400, "KMSInvalidStateException", arn+" is unavailable."),
				"denied":              answers(cell.KEKDenied, 400, "AccessDeniedException", "User is not authorized to perform: kms:Decrypt"),
				"expired credentials": answers(cell.KEKDenied, 400, "ExpiredTokenException", ""),
				"disabled":            answers(cell.KEKDisabled, 400, "DisabledException", arn+" is disabled."),
				"pending deletion":    answers(cell.KEKDisabled, 400, "KMSInvalidStateException", arn+" is pending deletion."),
				"destroyed":           answers(cell.KEKDestroyed, 400, "NotFoundException", "Key '"+arn+"' does not exist"),
				"wrong kind of key":   answers(cell.KEKCorrupt, 400, "InvalidKeyUsageException", ""),
				"another service":     answers(cell.KEKCorrupt, 400, "UnknownOperationException", ""),
				"a code of nonsense":  answers(cell.KEKUnavailable, 400, "c29tZSBieXRlcw==", ""),
				"empty answer":        does(cell.KEKCorrupt, says(`{}`)),
				"empty plaintext":     does(cell.KEKCorrupt, says(`{"Plaintext":"","CiphertextBlob":""}`)),
				"a page of a proxy":   does(cell.KEKUnavailable, says("<html>c29tZSBieXRlcw</html>")),
				"truncated answer":    does(cell.KEKUnavailable, hangUp),
				"slow answer": {Class: cell.KEKUnavailable, Anew: true, Cause: func() {
					patience = 50 * time.Millisecond
					s.set(func(s *server) { s.misbehave = stall })
				}, Heal: func() { patience = time.Minute; well() }},
				"ignores associated data": {Class: cell.KEKCorrupt, Heal: well, Cause: func() { s.set(func(s *server) { s.noContext = true }) }},
				"gone":                    {Class: cell.KEKUnavailable, Cause: s.Close},
			},
		}
	})
}

func open(t *testing.T, s *server) cell.KEK {
	t.Helper()
	kek, err := awskms.OpenWith(t.Context(), uri, awskms.Config{API: s.client()})
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

// TestAServerThatIgnoresTheContextIsRefusedAtRegistration: nothing is wrapped that could be swapped.
func TestAServerThatIgnoresTheContextIsRefusedAtRegistration(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.noContext = true
	dek, err := cell.NewDEK()
	if err != nil {
		t.Fatal(err)
	}
	_, err = cell.WrapDEK(t.Context(), open(t, s), kmstest.Identity(), dek)
	if cell.KEKClassOf(err) != cell.KEKCorrupt || !strings.Contains(err.Error(), "ignores associated data") {
		t.Error(err)
	}
}

func TestTheContextNamesIdsOnly(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	kmstest.MustWrap(t, open(t, s))
	if len(s.contexts) != 1 || len(s.contexts[0]) != 1 || s.contexts[0]["associatedData"] != hex.EncodeToString([]byte("aad")) {
		t.Errorf("%v", s.contexts)
	}
}

func TestABusyServerIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	kek := open(t, s)
	left := 2
	s.set(func(s *server) {
		s.misbehave = func(w http.ResponseWriter, r *http.Request) {
			s.set(func(s *server) {
				if left--; left == 0 {
					s.misbehave = nil
				}
			})
			refuse(w, http.StatusBadRequest, "ThrottlingException", "")
		}
	})
	kmstest.MustWrap(t, kek)
	if s.requests != 3 {
		t.Errorf("%d requests", s.requests)
	}
}

func TestURIs(t *testing.T) {
	t.Parallel()
	kind := awskms.Kind()
	config := kms.Config{Kinds: []kms.Kind{kind}}
	for _, good := range []string{
		uri, "aws-kms://arn:aws:kms:eu-central-1:111122223333:alias/cipherfleet", "aws-kms://arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd",
	} {
		if kek, err := kms.OpenWith(t.Context(), good, config); err != nil || kek.URI() != good {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"aws-kms://", "aws-kms://" + secret, "aws-kms://alias/x", uri + "?x=y", "aws-kms://" + keyID + ":" + secret + "@" + arn, "aws-kms://arn:aws:s3:eu-central-1:111122223333:key/x",
		uri + "\n", "aws-kms://arn:aws:kms::111122223333:key/x", "aws-kms://arn:aws:kms:eu-central-1:111122223333:key/",
	} {
		_, err := kms.OpenWith(t.Context(), bad, config)
		if cell.KEKClassOf(err) != cell.KEKUnknown || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if kind.Scheme != "aws-kms" || !kms.Known(uri) {
		t.Error("the programs do not know the scheme")
	}
	if _, err := awskms.OpenWith(t.Context(), uri, awskms.Config{}); err == nil {
		t.Error("opened without a client")
	}
}
