package kms

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// vault is a KEK in the transit engine of Vault or OpenBao (developer.hashicorp.com/vault/api-docs/secret/transit).
// The wrapped key is the engine's own ciphertext, "vault:v1:…". The associated data goes along twice: as
// associated_data, and as context, which binds a derived key on servers that do not know the former.
type vault struct {
	uri    string
	mount  string // path of the engine
	key    string
	server *server
}

const vaultPort = "8200"

// element is one step of a path: nothing in it needs escaping, and none is "..".
var element = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

// openVault reads vault://HOST[:PORT]/MOUNT/KEY and the files it was given; it does not call the server.
func openVault(uri string, c Vault) (cell.KEK, error) {
	base, mount, key, err := parseVault(uri)
	if err != nil {
		scheme, _, _ := strings.Cut(uri, ":")
		return nil, &cell.KEKError{
			Class: cell.KEKUnknown, URI: scheme + ":…", Err: fmt.Errorf("%w (accepted: file:PATH, vault://HOST:PORT/MOUNT/KEY)", err),
			Hint: "write file:PATH, or vault://HOST:PORT/MOUNT/KEY, for example vault://vault.example.com:8200/transit/cipherfleet; credentials are configured apart",
		}
	}
	s, err := newServer(uri, base, c)
	if err != nil {
		return nil, err
	}
	return &vault{uri: uri, mount: mount, key: key, server: s}, nil
}

// parseVault quotes nothing of the URI in its errors: it may hold a credential.
func parseVault(uri string) (base, mount, key string, err error) {
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "" || u.Hostname()[0] == '.' || strings.Contains(u.Hostname(), ".."):
		return "", "", "", errors.New("the URI names no server")
	case u.User != nil:
		return "", "", "", errors.New("the URI holds a credential")
	case strings.Contains(uri, "%") || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", "", "", errors.New("the URI has a part that means nothing")
	}
	path := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	for _, e := range path {
		if !element.MatchString(e) {
			return "", "", "", errors.New("the URI's path is not that of a key")
		}
	}
	if len(path) < 2 {
		return "", "", "", errors.New("the URI names no key within an engine")
	}
	web := &url.URL{Scheme: "https", Host: u.Host}
	if u.Scheme == "vault+http" {
		if !loopback(u.Hostname()) {
			return "", "", "", errors.New("a token may not travel in the clear to another machine: vault+http is for an agent on this one")
		}
		web.Scheme = "http"
	}
	if u.Port() == "" {
		web.Host += ":" + vaultPort
	}
	last := len(path) - 1
	return web.String(), strings.Join(path[:last], "/"), path[last], nil
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// URI returns the URI that the key was opened by.
func (k *vault) URI() string { return k.uri }

// String returns the URI.
func (k *vault) String() string { return k.uri }

// Format writes the URI whatever the verb.
func (k *vault) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.uri) }

// transitRequest is the body of encrypt and decrypt; []byte is base64 in JSON, as the API wants it.
type transitRequest struct {
	Plaintext      []byte `json:"plaintext,omitempty"`
	Ciphertext     string `json:"ciphertext,omitempty"`
	AssociatedData []byte `json:"associated_data,omitempty"`
	Context        []byte `json:"context,omitempty"`
}

// Wrap has the engine encrypt under the key's latest version.
func (k *vault) Wrap(ctx context.Context, dek, aad []byte) ([]byte, error) {
	if len(dek) == 0 {
		return nil, k.server.corrupt("there is nothing to wrap")
	}
	var answer struct {
		Data struct{ Ciphertext string }
	}
	path := k.mount + "/encrypt/" + k.key
	if err := k.server.call(ctx, path, transitRequest{Plaintext: dek, AssociatedData: aad, Context: aad}, &answer); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(answer.Data.Ciphertext, "vault:v") {
		return nil, k.server.corrupt("its answer holds no ciphertext")
	}
	return []byte(answer.Data.Ciphertext), nil
}

// Unwrap has the engine decrypt with the version that the ciphertext names.
func (k *vault) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	if !bytes.HasPrefix(wrapped, []byte("vault:v")) {
		return nil, k.server.corrupt("the wrapped key is not one of its ciphertexts")
	}
	var answer struct {
		Data struct{ Plaintext string }
	}
	path := k.mount + "/decrypt/" + k.key
	if err := k.server.call(ctx, path, transitRequest{Ciphertext: string(wrapped), AssociatedData: aad, Context: aad}, &answer); err != nil {
		return nil, err
	}
	dek, err := base64.StdEncoding.DecodeString(answer.Data.Plaintext)
	if err != nil || len(dek) == 0 {
		return nil, k.server.corrupt("its answer holds no plaintext")
	}
	return dek, nil
}

// server is one Vault and this program's way in. Safe for concurrent use.
type server struct {
	uri    string // of the key, for errors
	base   string
	config Vault
	client *http.Client

	entering chan struct{} // holds one while somebody enters or looks at token
	token    Secret        // as of the last login or reading of the file
}

// post sends one request and decodes the answer into result. Without a token it is sent without one.
func (s *server) post(ctx context.Context, path string, token Secret, body, result any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return s.corrupt("the request cannot be written")
	}
	defer clear(content)
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/v1/"+path, bytes.NewReader(content))
	if err != nil {
		return s.corrupt("the request cannot be made")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Vault-Request", "true")
	if text := token.reveal(); text != "" {
		request.Header.Set("X-Vault-Token", text)
	}
	if s.config.Namespace != "" {
		request.Header.Set("X-Vault-Namespace", s.config.Namespace)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return s.unreachable(err)
	}
	defer func() { _ = answer.Body.Close() }() // read to its end, or given up
	return s.read(answer, result)
}

// maxAnswer is more than any answer to these requests has, in bytes.
const maxAnswer = 1 << 20

func (s *server) read(answer *http.Response, result any) error {
	content, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	defer clear(content)
	switch {
	case err != nil:
		return s.unreachable(fmt.Errorf("the answer broke off: %w", err))
	case len(content) > maxAnswer:
		return s.corrupt("its answer has no end")
	case answer.StatusCode != http.StatusOK:
		return s.refused(answer.StatusCode, content)
	}
	if err := json.Unmarshal(content, result); err != nil {
		return s.unreachable(errors.New("the answer is not the server's: something stands in between, or cut it off")) // without err, which may quote
	}
	return nil
}
