package kms

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/sethvargo/go-retry"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// newServer makes the client. It takes no proxy from the environment and follows no redirect: either could carry the
// token to somebody else.
func newServer(uri, base string, c Vault) (*server, error) {
	s := &server{uri: uri, base: base, config: c, entering: make(chan struct{}, 1)}
	if c.Role == "" && c.TokenFile == "" && c.Token.reveal() == "" {
		return nil, &cell.KEKError{
			Class: cell.KEKDenied, URI: uri, Err: errors.New("there is no token and no role to log in with"),
			Hint: "name a token file with CIPHERFLEET_VAULT_TOKEN_FILE, or a role of the Kubernetes auth method with CIPHERFLEET_VAULT_ROLE",
		}
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, unreadable(uri, c.CAFile, err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &cell.KEKError{Class: cell.KEKUnavailable, URI: uri, Err: errors.New("file " + c.CAFile + " holds no certificate"), Hint: "give the authorities as PEM"}
		}
	}
	s.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, nil
}

// call posts body to path until it succeeds, fails for good or runs out of tries. A refused token is replaced once,
// because tokens expire.
func (s *server) call(ctx context.Context, path string, body, result any) error {
	renewed := false
	return s.patiently(ctx, func(ctx context.Context) error {
		token, err := s.enter(ctx)
		if err != nil {
			return err
		}
		err = s.post(ctx, path, token, body, result)
		if cell.KEKClassOf(err) == cell.KEKDenied && !renewed && s.forget(token) {
			renewed = true
			if token, err = s.enter(ctx); err != nil {
				return err
			}
			err = s.post(ctx, path, token, body, result)
		}
		return err
	})
}

// patiently repeats what fails because the server is unavailable, with pauses that grow and vary.
func (s *server) patiently(ctx context.Context, try func(context.Context) error) error {
	backoff := retry.WithMaxRetries(uint64(s.config.Tries-1), retry.WithJitterPercent(30, retry.NewExponential(s.config.Pause)))
	var last error
	err := retry.Do(ctx, backoff, func(ctx context.Context) error {
		last = try(ctx)
		if cell.KEKClassOf(last) == cell.KEKUnavailable {
			return retry.RetryableError(last)
		}
		return last
	})
	if err != nil && cell.KEKClassOf(err) == "" {
		return s.unreachable(errors.Join(err, last)) // the caller's context ended
	}
	return err
}

// enter returns the token to use, from the last login or the file, which it makes or reads if there is none.
func (s *server) enter(ctx context.Context) (Secret, error) {
	select {
	case s.entering <- struct{}{}:
		defer func() { <-s.entering }()
	case <-ctx.Done(): // somebody else's login may take its time
		return Secret{}, s.unreachable(ctx.Err())
	}
	if s.token.reveal() != "" {
		return s.token, nil
	}
	var err error
	switch {
	case s.config.Role != "":
		s.token, err = s.login(ctx)
	case s.config.TokenFile != "":
		s.token, err = s.readToken(s.config.TokenFile)
	default:
		s.token = s.config.Token
	}
	return s.token, err
}

// forget drops a token that was refused and reports whether another may be had.
func (s *server) forget(token Secret) bool {
	s.entering <- struct{}{}
	defer func() { <-s.entering }()
	if s.token == token {
		s.token = Secret{}
	}
	return s.config.Role != "" || s.config.TokenFile != ""
}

// login trades the service account's token for one of Vault, by its Kubernetes auth method.
func (s *server) login(ctx context.Context) (Secret, error) {
	jwt, err := s.readToken(s.config.JWTFile)
	if err != nil {
		return Secret{}, err
	}
	body := map[string]string{"role": s.config.Role, "jwt": jwt.reveal()}
	var answer struct {
		Auth struct {
			Token string `json:"client_token"`
		}
	}
	if err := s.post(ctx, "auth/"+strings.Trim(s.config.LoginPath, "/")+"/login", Secret{}, body, &answer); err != nil {
		var e *cell.KEKError
		if errors.As(err, &e) && e.Class == cell.KEKCorrupt { // a login has nothing to do with wrapped keys
			e.Class, e.Hint = cell.KEKDenied, "is the role bound to this service account, and is the auth method mounted at "+s.config.LoginPath+"?"
		}
		return Secret{}, err
	}
	if answer.Auth.Token == "" {
		return Secret{}, s.denied("its answer to the login holds no token")
	}
	return NewSecret(answer.Auth.Token), nil
}

// readToken reads a file that may change at any time, as Kubernetes and Vault's agent do.
func (s *server) readToken(path string) (Secret, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Secret{}, unreadable(s.uri, path, err)
	}
	text := strings.TrimSpace(string(content))
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return Secret{}, s.denied("file " + path + " holds no token")
	}
	return NewSecret(text), nil
}

// unreadable classes a file that is configured but cannot be read: it may come yet, as a mounted secret does.
func unreadable(uri, path string, err error) error {
	e := &cell.KEKError{Class: cell.KEKUnavailable, URI: uri, Err: fmt.Errorf("read %s: %w", path, err), Hint: "is the file " + path + " there, and may this program read it?"}
	if errors.Is(err, fs.ErrPermission) {
		e.Class = cell.KEKDenied
	}
	return e
}
