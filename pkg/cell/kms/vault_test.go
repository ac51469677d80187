package kms_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/kmstest"
)

func answers(status int, says ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		fail(w, status, says...)
		return true
	}
}

// says answers 200 with this text.
func says(text string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = w.Write([]byte(text)) // the caller sees what is missing
		return true
	}
}

// hangUp promises more than it sends, then breaks the connection.
func hangUp(w http.ResponseWriter, _ *http.Request) bool {
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write([]byte(`{"data":{"plaintext":"`)) // what is sent is not enough
	panic(http.ErrAbortHandler)
}

// stall answers when the caller has gone.
func stall(_ http.ResponseWriter, r *http.Request) bool {
	_, _ = io.Copy(io.Discard, r.Body) // only then the server looks whether the caller is there
	<-r.Context().Done()
	return true
}

func TestVaultConforms(t *testing.T) {
	t.Parallel()
	kmstest.Conform(t, func(t *testing.T) kmstest.Subject {
		t.Helper()
		s := newTransit(t)
		c := s.config(t)
		misbehave := func(how func(http.ResponseWriter, *http.Request) bool) func() {
			return func() { s.set(func(s *transit) { s.misbehave = how }) }
		}
		heal := misbehave(nil)
		answer := func(class cell.KEKClass, status int, says ...string) kmstest.Fault {
			return kmstest.Fault{Cause: misbehave(answers(status, says...)), Class: class, Heal: heal}
		}
		state := func(class cell.KEKClass, change, back func(*transit)) kmstest.Fault {
			return kmstest.Fault{Cause: func() { s.set(change) }, Class: class, Heal: func() { s.set(back) }}
		}
		impatient := c
		impatient.Timeout = 50 * time.Millisecond
		slow := misbehave(stall)
		return kmstest.Subject{
			Open:    func() (cell.KEK, error) { return kms.OpenWith(t.Context(), s.uri(), kms.Config{Vault: c}) },
			Secrets: []string{vaultToken, vaultToken[4:], "c29tZSBieXRlcw"},
			Faults: map[string]kmstest.Fault{
				"unavailable":             answer(cell.KEKUnavailable, http.StatusServiceUnavailable, "Vault is sealed"),
				"internal error":          answer(cell.KEKUnavailable, http.StatusInternalServerError, "internal error "+vaultToken),
				"bad gateway":             answer(cell.KEKUnavailable, http.StatusBadGateway),
				"standby":                 answer(cell.KEKUnavailable, http.StatusTemporaryRedirect),
				"behind":                  answer(cell.KEKUnavailable, http.StatusPreconditionFailed, "required index state not present"),
				"recovering":              answer(cell.KEKUnavailable, 472),
				"performance standby":     answer(cell.KEKUnavailable, 473),
				"throttled":               answer(cell.KEKUnavailable, http.StatusTooManyRequests, "request path: rate limit quota exceeded"),
				"denied":                  state(cell.KEKDenied, func(s *transit) { clear(s.tokens) }, func(s *transit) { s.tokens[vaultToken] = true }),
				"unauthorized":            answer(cell.KEKDenied, http.StatusUnauthorized),
				"disabled":                answer(cell.KEKDisabled, http.StatusBadRequest, "ciphertext or signature version is disallowed by policy (too old)"),
				"engine unmounted":        answer(cell.KEKDisabled, http.StatusNotFound, `no handler for route "team/transit/". route entry not found.`),
				"another namespace":       state(cell.KEKDisabled, func(s *transit) { s.namespace = "x" }, func(s *transit) { s.namespace = "" }),
				"destroyed":               state(cell.KEKDestroyed, func(s *transit) { s.noKey = true }, func(s *transit) { s.noKey = false }),
				"another key":             state(cell.KEKDestroyed, func(s *transit) { s.noKey = true }, func(s *transit) { s.noKey = false }),
				"a key without AEAD":      state(cell.KEKCorrupt, func(s *transit) { s.key.noAEAD = true }, func(s *transit) { s.key.noAEAD = false }),
				"empty answer":            {Cause: misbehave(says("{}")), Class: cell.KEKCorrupt, Heal: heal},
				"empty plaintext":         {Cause: misbehave(says(`{"data":{"plaintext":"","ciphertext":""}}`)), Class: cell.KEKCorrupt, Heal: heal},
				"nothing":                 {Cause: misbehave(says("")), Class: cell.KEKUnavailable, Heal: heal},
				"no content":              {Cause: misbehave(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusNoContent); return true }), Class: cell.KEKCorrupt, Heal: heal},
				"another key's bytes":     {Cause: misbehave(says(`{"data":{"plaintext":"c29tZSBieXRlcw==","ciphertext":"vault:v1:c29tZSBieXRlcw=="}}`)), Class: cell.KEKCorrupt, ByCell: true, Heal: heal},
				"plaintext is no base64":  {Cause: misbehave(says(`{"data":{"plaintext":"c29tZSBieXRlcw*","ciphertext":"c29tZSBieXRlcw"}}`)), Class: cell.KEKCorrupt, Heal: heal},
				"a page of a proxy":       {Cause: misbehave(says("<html>maintenance c29tZSBieXRlcw</html>")), Class: cell.KEKUnavailable, Heal: heal},
				"without end":             {Cause: misbehave(says(`"` + strings.Repeat("x", 1<<20+1) + `"`)), Class: cell.KEKCorrupt, Heal: heal},
				"truncated answer":        {Cause: misbehave(hangUp), Class: cell.KEKUnavailable, Heal: heal},
				"truncated JSON":          {Cause: misbehave(says(`{"data":{"plaintext":"c29tZSBieXRlcw`)), Class: cell.KEKUnavailable, Heal: heal},
				"slow answer":             {Cause: func() { c.Timeout = impatient.Timeout; slow() }, Class: cell.KEKUnavailable, Anew: true, Heal: func() { c.Timeout = time.Minute; heal() }},
				"ignores associated data": state(cell.KEKCorrupt, func(s *transit) { s.noAAD = true }, func(s *transit) { s.noAAD = false }),
				"gone":                    {Cause: s.Close, Class: cell.KEKUnavailable},
			},
		}
	})
}

// TestAnOldServerIsRefusedAtRegistration: it takes associated data and ignores them, so whoever registers a key there
// is told, and a derived key of the same server is bound by its context instead.
func TestAnOldServerIsRefusedUnlessItsKeyIsDerived(t *testing.T) {
	t.Parallel()
	s := newTransit(t)
	s.noAAD = true
	kek := s.open(t, s.config(t))
	dek, err := cell.NewDEK()
	if err != nil {
		t.Fatal(err)
	}
	_, err = cell.WrapDEK(t.Context(), kek, kmstest.Identity(), dek)
	if cell.KEKClassOf(err) != cell.KEKCorrupt || !strings.Contains(err.Error(), "ignores associated data") {
		t.Errorf("not derived: %v", err)
	}
	s.set(func(s *transit) { s.key.derived = true })
	if _, err := cell.WrapDEK(t.Context(), kek, kmstest.Identity(), dek); err != nil {
		t.Errorf("derived: %v", err)
	}
}

func TestAKeyThatRotatesKeepsUnwrapping(t *testing.T) {
	t.Parallel()
	s := newTransit(t)
	kek := s.open(t, s.config(t))
	old := kmstest.MustWrap(t, kek)
	s.rotate()
	fresh := kmstest.MustWrap(t, kek)
	if !strings.HasPrefix(string(old), "vault:v1:") || !strings.HasPrefix(string(fresh), "vault:v2:") {
		t.Fatalf("%.9s, %.9s", old, fresh)
	}
	if got, err := kek.Unwrap(t.Context(), old, []byte("aad")); err != nil || string(got) != "some bytes" {
		t.Fatalf("%q, %v", got, err)
	}
	s.set(func(s *transit) { s.key.minDecrypt = 2 })
	if _, err := kek.Unwrap(t.Context(), old, []byte("aad")); cell.KEKClassOf(err) != cell.KEKDisabled {
		t.Fatalf("below the least version: %v", err)
	}
	if got, err := kek.Unwrap(t.Context(), fresh, []byte("aad")); err != nil || string(got) != "some bytes" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestWhatPassesIsTriedAgainButNotForever(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 412, 500, 502, 503} {
		s := newTransit(t)
		kek := s.open(t, s.config(t)) // three tries
		for _, c := range []struct{ failures, want int }{{0, 1}, {2, 3}, {3, 3}, {9, 3}} {
			left := c.failures
			s.set(func(s *transit) {
				s.requests = 0
				s.misbehave = func(w http.ResponseWriter, _ *http.Request) bool {
					s.mu.Lock()
					defer s.mu.Unlock()
					if left--; left < 0 {
						return false
					}
					fail(w, status)
					return true
				}
			})
			_, err := kek.Wrap(t.Context(), []byte("some bytes"), []byte("aad"))
			if requests, _ := s.counts(); requests != c.want || (err == nil) != (c.failures < 3) {
				t.Errorf("%d, %d times: %d requests, %v", status, c.failures, requests, err)
			}
		}
	}
}

func TestWhatDoesNotPassIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 403, 404, 405} {
		s := newTransit(t)
		kek := s.open(t, s.config(t))
		s.set(func(s *transit) { s.misbehave = answers(status, "no") })
		if _, err := kek.Wrap(t.Context(), []byte("some bytes"), []byte("aad")); err == nil {
			t.Errorf("%d: no error", status)
		}
		if requests, _ := s.counts(); requests != 1 {
			t.Errorf("%d: %d requests", status, requests)
		}
	}
}

// TestACallerWhoLeavesIsNotKeptWaiting: while the server stalls, and in the pause between two tries.
func TestACallerWhoLeavesIsNotKeptWaiting(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(http.ResponseWriter, *http.Request) bool{"stalled": stall, "between two tries": answers(503)} {
		s := newTransit(t)
		c := s.config(t)
		c.Timeout, c.Pause = time.Hour, time.Hour
		kek := s.open(t, c)
		seen := make(chan struct{}, 1)
		s.set(func(s *transit) {
			s.misbehave = func(w http.ResponseWriter, r *http.Request) bool {
				seen <- struct{}{}
				return how(w, r)
			}
		})
		ctx, leave := context.WithCancel(t.Context())
		result := make(chan error)
		go func() {
			_, err := kek.Wrap(ctx, []byte("some bytes"), []byte("aad"))
			result <- err
		}()
		<-seen
		leave()
		if err := <-result; cell.KEKClassOf(err) != cell.KEKUnavailable || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARoleLogsInOnceAndAgainWhenItsTokenDies(t *testing.T) {
	t.Parallel()
	s := newTransit(t)
	c := s.config(t)
	c.Token, c.Role, c.JWTFile = kms.Secret{}, s.role, filepath.Join(t.TempDir(), "jwt")
	writeFile(t, c.JWTFile, s.jwt+"\n")
	kek := s.open(t, c)
	for range 3 {
		kmstest.MustWrap(t, kek)
	}
	if _, logins := s.counts(); logins != 1 {
		t.Errorf("%d logins for three calls", logins)
	}
	s.set(func(s *transit) { clear(s.tokens) })
	kmstest.MustWrap(t, kek)
	if _, logins := s.counts(); logins != 2 {
		t.Errorf("%d logins after the token died", logins)
	}
	s.set(func(s *transit) { clear(s.tokens); s.jwt = "another" })
	if _, err := kek.Wrap(t.Context(), []byte("some bytes"), nil); cell.KEKClassOf(err) != cell.KEKDenied {
		t.Errorf("the service account is refused: %v", err)
	}
	writeFile(t, c.JWTFile, "another")
	kmstest.MustWrap(t, kek) // Kubernetes has written a new one
}

// TestALoginThatStallsKeepsNobodyButItself: who waits for another's login can leave.
func TestALoginThatStallsKeepsNobodyButItself(t *testing.T) {
	t.Parallel()
	s := newTransit(t)
	c := s.config(t)
	c.Token, c.Role, c.JWTFile, c.Timeout = kms.Secret{}, s.role, filepath.Join(t.TempDir(), "jwt"), time.Hour
	writeFile(t, c.JWTFile, s.jwt)
	kek := s.open(t, c)
	inside := make(chan struct{})
	s.set(func(s *transit) {
		s.misbehave = func(w http.ResponseWriter, r *http.Request) bool {
			close(inside) // a second login would panic
			return stall(w, r)
		}
	})
	first, leave := context.WithCancel(t.Context())
	result := make(chan error)
	wrap := func(ctx context.Context) {
		_, err := kek.Wrap(ctx, []byte("some bytes"), nil)
		result <- err
	}
	go wrap(first)
	<-inside
	second, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	go wrap(second)
	if err := <-result; cell.KEKClassOf(err) != cell.KEKUnavailable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who waited: %v", err)
	}
	leave()
	if err := <-result; cell.KEKClassOf(err) != cell.KEKUnavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("who logged in: %v", err)
	}
}

func TestALoginThatFails(t *testing.T) {
	t.Parallel()
	s := newTransit(t)
	good := s.config(t)
	good.Token, good.Role, good.JWTFile = kms.Secret{}, s.role, filepath.Join(t.TempDir(), "jwt")
	writeFile(t, good.JWTFile, s.jwt)
	empty := filepath.Join(t.TempDir(), "empty")
	writeFile(t, empty, " \n")
	for name, c := range map[string]struct {
		change func(*kms.Vault)
		class  cell.KEKClass
	}{
		"unknown role":     {func(c *kms.Vault) { c.Role = "another" }, cell.KEKDenied},
		"no such method":   {func(c *kms.Vault) { c.LoginPath = "k8s" }, cell.KEKDenied},
		"no JWT":           {func(c *kms.Vault) { c.JWTFile += "x" }, cell.KEKUnavailable},
		"an empty JWT":     {func(c *kms.Vault) { c.JWTFile = empty }, cell.KEKDenied},
		"no other trusted": {func(c *kms.Vault) { c.CAFile = "" }, cell.KEKUnavailable},
	} {
		bad := good
		c.change(&bad)
		_, err := s.open(t, bad).Wrap(t.Context(), []byte("some bytes"), nil)
		var e *cell.KEKError
		if !errors.As(err, &e) || e.Class != c.class || e.Hint == "" || strings.Contains(err.Error(), s.jwt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.set(func(s *transit) {
		s.misbehave = func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, "/login") && says(`{"auth":{}}`)(w, r)
		}
	})
	if _, err := s.open(t, good).Wrap(t.Context(), []byte("some bytes"), nil); cell.KEKClassOf(err) != cell.KEKDenied || !strings.Contains(err.Error(), "holds no token") {
		t.Errorf("a login without a token: %v", err)
	}
}

func TestATokenFileIsReadAgainWhenItsTokenDies(t *testing.T) {
	t.Parallel()
	s := newTransit(t)
	c := s.config(t)
	c.Token, c.TokenFile = kms.NewSecret("not asked for"), filepath.Join(t.TempDir(), "token")
	writeFile(t, c.TokenFile, vaultToken+"\n")
	kek := s.open(t, c)
	kmstest.MustWrap(t, kek)
	s.set(func(s *transit) { clear(s.tokens); s.tokens["hvs.next"] = true })
	if _, err := kek.Wrap(t.Context(), []byte("some bytes"), nil); cell.KEKClassOf(err) != cell.KEKDenied {
		t.Errorf("the old token: %v", err)
	}
	writeFile(t, c.TokenFile, "hvs.next")
	kmstest.MustWrap(t, kek)
}

func TestANamespaceTravelsWithEveryRequest(t *testing.T) {
	t.Parallel()
	s := newTransit(t)
	s.namespace = "team/a"
	c := s.config(t)
	c.Namespace = "team/a"
	kmstest.MustWrap(t, s.open(t, c))
}

// TestAnApplicationsOwnValuesOpen: what an application had the engine encrypt, without associated data.
func TestAnApplicationsOwnValuesOpen(t *testing.T) {
	t.Parallel()
	s := newTransit(t)
	kek := s.open(t, s.config(t))
	sealed, err := kek.Wrap(t.Context(), []byte("alice@example.com"), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := foreign.NewTransit(kek).Open(t.Context(), foreign.Value{Cell: sealed})
	if err != nil || string(got) != "alice@example.com" {
		t.Fatalf("%q, %v", got, err)
	}
	bound := kmstest.MustWrap(t, kek)
	if got, err := foreign.NewTransit(kek).Open(t.Context(), foreign.Value{Cell: bound}); cell.KEKClassOf(err) != cell.KEKCorrupt || got != nil {
		t.Fatalf("with associated data: %q, %v", got, err)
	}
}

// TestATokenGoesNowhereElse: a redirect to another server is not followed.
func TestATokenGoesNowhereElse(t *testing.T) {
	t.Parallel()
	s, thief := newTransit(t), newTransit(t)
	s.set(func(s *transit) {
		s.misbehave = func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, thief.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
	})
	c := s.config(t)
	if _, err := s.open(t, c).Wrap(t.Context(), []byte("some bytes"), nil); cell.KEKClassOf(err) != cell.KEKUnavailable {
		t.Error(err)
	}
	if requests, _ := thief.counts(); requests != 0 {
		t.Errorf("%d requests went to another server", requests)
	}
}

func TestVaultURIs(t *testing.T) {
	t.Parallel()
	c := kms.Config{Vault: kms.Vault{Token: kms.NewSecret("t")}}
	for _, uri := range []string{
		"vault://vault.example.com/transit/key", "vault://vault.example.com:8200/a/b/c-d.e_f", "vault://[::1]:8200/transit/key",
		"vault+http://127.0.0.1:8100/transit/key", "vault+http://localhost/transit/key", "vault+http://[::1]/transit/key",
	} {
		kek, err := kms.OpenWith(t.Context(), uri, c)
		if err != nil || kek.URI() != uri || !kms.Known(uri) || kms.Path(uri, "") != "" {
			t.Errorf("%s: %v", uri, err)
		}
	}
	for _, uri := range []string{
		"vault:", "vault:transit/hunter2", "vault://", "vault:///transit/hunter2", "vault://host", "vault://host/", "vault://host/hunter2", "vault://host/transit/",
		"vault://host//hunter2", "vault://host/../hunter2", "vault://host/transit/hunter2/", "vault://host/tran%2fsit/hunter2", "vault://host/tr ansit/hunter2",
		"vault://user:hunter2@host/transit/key", "vault://hunter2@host/transit/key", "vault://host/transit/key?token=hunter2", "vault://host/transit/key?",
		"vault://host/transit/key#hunter2", "vault://host:hunter2/transit/key", "vault+http://vault.example.com/transit/hunter2", "vault+http://10.0.0.1/transit/hunter2",
	} {
		_, err := kms.OpenWith(t.Context(), uri, c)
		var e *cell.KEKError
		if !errors.As(err, &e) || e.Class != cell.KEKUnknown || e.Hint == "" || strings.Contains(err.Error(), "hunter2") || kms.Known(uri) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// FuzzVaultURI: what opens is kept as it is and holds no credential; everything else is refused without a trace of it.
func FuzzVaultURI(f *testing.F) {
	for _, uri := range []string{
		"vault://vault.example.com/transit/key", "vault+http://[::1]:8100/a/b/c", "vault://u:p@host/transit/key", "vault:opaque", "vault://host/transit/key?x#y", "vault://host/%2e%2e/key", "vault://../0/0",
	} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if !strings.HasPrefix(uri, "vault") {
			uri = "vault:" + uri
		}
		kek, err := kms.OpenWith(t.Context(), uri, kms.Config{Vault: kms.Vault{Token: kms.NewSecret("t")}})
		if (err == nil) != kms.Known(uri) {
			t.Fatalf("%q: known %v, %v", uri, kms.Known(uri), err)
		}
		if err == nil && (kek.URI() != uri || strings.ContainsAny(uri, "@?#% ") || strings.Contains(uri, "/..")) {
			t.Fatalf("%q opens as %q", uri, kek.URI())
		}
		if err != nil && cell.KEKClassOf(err) != cell.KEKUnknown {
			t.Fatalf("%q: %v", uri, err)
		}
	})
}

func TestWithoutCredentialsAVaultIsNotOpened(t *testing.T) {
	t.Parallel()
	s := newTransit(t)
	c := s.config(t)
	for name, change := range map[string]func(*kms.Vault){
		"no token":       func(c *kms.Vault) { c.Token = kms.Secret{} },
		"no authority":   func(c *kms.Vault) { c.CAFile += "x" },
		"no certificate": func(c *kms.Vault) { writeFile(t, c.CAFile+"y", "none"); c.CAFile += "y" },
	} {
		bad := c
		change(&bad)
		_, err := kms.OpenWith(t.Context(), s.uri(), kms.Config{Vault: bad})
		var e *cell.KEKError
		if !errors.As(err, &e) || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := kms.Open(t.Context(), s.uri(), ""); cell.KEKClassOf(err) != cell.KEKDenied {
		t.Errorf("without configuration: %v", err)
	}
}

func TestConfigurationNeverPrintsASecret(t *testing.T) {
	t.Parallel()
	c := kms.Config{Vault: kms.Vault{Token: kms.NewSecret(vaultToken)}}
	type hidden struct {
		c kms.Config
		s kms.Secret
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{c, &c, c.Vault.Token, hidden{c, c.Vault.Token}} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, vaultToken[4:]) || strings.Contains(text, fmt.Sprintf("%x", vaultToken[4:])) {
				t.Errorf("%s: %s", verb, text)
			}
		}
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
