package kms_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
)

// transit is a server that answers as the transit engine and the Kubernetes auth method do, after their API
// documentation: real AES-256-GCM, key versions, derivation, associated data, tokens, namespaces. misbehave, when
// set, sees every request first and answers it itself when it returns true.
type transit struct {
	*httptest.Server
	mu        sync.Mutex
	key       transitKey
	noKey     bool
	noAAD     bool // a server before 1.13: it does not know associated_data
	tokens    map[string]bool
	role, jwt string
	namespace string
	misbehave func(http.ResponseWriter, *http.Request) bool
	requests  int
	logins    int
}

type transitKey struct {
	versions   [][]byte
	minDecrypt int
	derived    bool
	noAEAD     bool // of a type that takes no associated data
}

const vaultToken = "hvs.CAESIJtesttokentesttokentest"

func newTransit(t *testing.T) *transit {
	t.Helper()
	s := &transit{tokens: map[string]bool{vaultToken: true}, role: "fleet", jwt: "header.claims.signature"}
	s.rotate()
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *transit) rotate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	s.key.versions = append(s.key.versions, key)
}

// set changes the server while nobody is served.
func (s *transit) set(change func(*transit)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *transit) counts() (requests, logins int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.logins
}

func fail(w http.ResponseWriter, status int, says ...string) {
	if says == nil {
		says = []string{}
	}
	reply(w, status, map[string]any{"errors": says})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller sees what is missing
}

func (s *transit) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests++
	misbehave := s.misbehave
	s.mu.Unlock()
	if misbehave != nil && misbehave(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var body map[string]string
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	switch err := json.NewDecoder(r.Body).Decode(&body); {
	case r.Method != http.MethodPost || r.Header.Get("X-Vault-Request") != "true":
		fail(w, http.StatusMethodNotAllowed)
	case err != nil:
		fail(w, http.StatusBadRequest, "error parsing JSON")
	case r.Header.Get("X-Vault-Namespace") != s.namespace:
		fail(w, http.StatusNotFound, "no handler for route")
	case path == "auth/kubernetes/login":
		s.login(w, body)
	case !s.tokens[r.Header.Get("X-Vault-Token")]:
		fail(w, http.StatusForbidden, "permission denied")
	case path == "team/transit/encrypt/cipherfleet":
		s.encrypt(w, body)
	case path == "team/transit/decrypt/cipherfleet":
		s.decrypt(w, body)
	default:
		fail(w, http.StatusNotFound, fmt.Sprintf("no handler for route %q. route entry not found.", path))
	}
}

func (s *transit) login(w http.ResponseWriter, body map[string]string) {
	s.logins++
	switch {
	case body["role"] != s.role:
		fail(w, http.StatusBadRequest, fmt.Sprintf("invalid role name %q", body["role"]))
	case body["jwt"] != s.jwt:
		fail(w, http.StatusForbidden, "permission denied")
	default:
		token := fmt.Sprintf("hvs.login%d", s.logins)
		s.tokens[token] = true
		reply(w, http.StatusOK, map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": 3600, "renewable": true}})
	}
}

// aead returns the cipher of a version and the associated data that counts.
func (s *transit) aead(version int, body map[string]string) (cipher.AEAD, []byte, string) {
	key := s.key.versions[version-1]
	context, err := base64.StdEncoding.DecodeString(body["context"])
	if err != nil {
		return nil, nil, "failed to base64-decode context"
	}
	aad, err := base64.StdEncoding.DecodeString(body["associated_data"])
	if err != nil {
		return nil, nil, "failed to base64-decode associated_data"
	}
	switch {
	case s.noAAD:
		aad = nil
	case s.key.noAEAD && len(aad) > 0:
		return nil, nil, "'[0].associated_data' provided for non-AEAD cipher suite rsa-2048"
	}
	if s.key.derived {
		if len(context) == 0 {
			return nil, nil, "missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information must be included in order to perform operations with the key"
		}
		if key, err = hkdf.Key(sha256.New, key, nil, string(context), 32); err != nil {
			return nil, nil, "error deriving"
		}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, "error making cipher"
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, nil, "error making cipher"
	}
	return gcm, aad, ""
}

func (s *transit) encrypt(w http.ResponseWriter, body map[string]string) {
	if s.noKey {
		fail(w, http.StatusBadRequest, "encryption key not found")
		return
	}
	plaintext, err := base64.StdEncoding.DecodeString(body["plaintext"])
	if err != nil || body["plaintext"] == "" {
		fail(w, http.StatusBadRequest, "missing plaintext to encrypt")
		return
	}
	version := len(s.key.versions)
	gcm, aad, wrong := s.aead(version, body)
	if wrong != "" {
		fail(w, http.StatusBadRequest, wrong)
		return
	}
	sealed := base64.StdEncoding.EncodeToString(gcm.Seal(nil, nil, plaintext, aad))
	reply(w, http.StatusOK, map[string]any{"data": map[string]any{"ciphertext": fmt.Sprintf("vault:v%d:%s", version, sealed), "key_version": version}})
}

func (s *transit) decrypt(w http.ResponseWriter, body map[string]string) {
	if s.noKey {
		fail(w, http.StatusBadRequest, "encryption key not found")
		return
	}
	rest, ok := strings.CutPrefix(body["ciphertext"], "vault:v")
	number, text, found := strings.Cut(rest, ":")
	version, err := strconv.Atoi(number)
	sealed, decodeErr := base64.StdEncoding.DecodeString(text)
	switch {
	case !ok || !found:
		fail(w, http.StatusBadRequest, "invalid ciphertext: no prefix")
		return
	case err != nil:
		fail(w, http.StatusBadRequest, "invalid ciphertext: version number could not be decoded")
		return
	case version < 1 || version > len(s.key.versions):
		fail(w, http.StatusBadRequest, "invalid ciphertext: version is too new")
		return
	case version < s.key.minDecrypt:
		fail(w, http.StatusBadRequest, "ciphertext or signature version is disallowed by policy (too old)")
		return
	case decodeErr != nil:
		fail(w, http.StatusBadRequest, "invalid ciphertext: could not decode base64")
		return
	}
	gcm, aad, wrong := s.aead(version, body)
	if wrong != "" {
		fail(w, http.StatusBadRequest, wrong)
		return
	}
	plaintext, err := gcm.Open(nil, nil, sealed, aad)
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid ciphertext: unable to decrypt")
		return
	}
	reply(w, http.StatusOK, map[string]any{"data": map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plaintext)}})
}

func (s *transit) uri() string {
	return "vault://" + s.Listener.Addr().String() + "/team/transit/cipherfleet"
}

// config reaches the server with a token, and does not wait long.
func (s *transit) config(t *testing.T) kms.Vault {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return kms.Vault{Token: kms.NewSecret(vaultToken), CAFile: ca, Timeout: time.Minute, Tries: 3, Pause: time.Millisecond}
}

func (s *transit) open(t *testing.T, c kms.Vault) cell.KEK {
	t.Helper()
	kek, err := kms.OpenWith(t.Context(), s.uri(), kms.Config{Vault: c})
	if err != nil {
		t.Fatal(err)
	}
	return kek
}
