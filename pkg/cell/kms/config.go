package kms

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Config is what opening a key needs besides its URI. A file: needs no more than BaseDir.
type Config struct {
	BaseDir string // where a relative file: path begins: the folder of the manifest
	Vault   Vault
	Kinds   []Kind // that the program is linked with beside file: and vault:
}

// Kind is a kind of key that lives in a module of its own, so that only who uses it links what it needs.
type Kind struct {
	Scheme string // of its URIs: one of those in Linked
	// Open returns the key that a URI of the scheme names. Like OpenWith it does not ask for a key that is far away.
	Open func(ctx context.Context, uri string) (cell.KEK, error)
}

// Vault says how to reach and enter a Vault or OpenBao server. Whoever logs in with Role needs no token, and a
// TokenFile is preferred to a Token: it is read again whenever the server refuses the old one.
type Vault struct {
	Token     Secret
	TokenFile string
	Role      string        // of the Kubernetes auth method; empty: no login
	LoginPath string        // where that method is mounted; empty: kubernetes
	JWTFile   string        // the service account's token; empty: where Kubernetes puts it
	Namespace string        // sent with every request; empty: none
	CAFile    string        // certificate authorities in PEM; empty: the system's
	Timeout   time.Duration // of one request; 0: 10 s
	Tries     int           // of one call, while the server is out of reach or says that it is busy; 0: 5
	Pause     time.Duration // before the second try, doubled for each further one; 0: 200 ms
}

const (
	defaultTimeout = 10 * time.Second
	defaultTries   = 5
	defaultPause   = 200 * time.Millisecond
	defaultLogin   = "kubernetes"
	defaultJWTFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"
)

// withDefaults fills what was left out.
func (v Vault) withDefaults() Vault {
	if v.Timeout == 0 {
		v.Timeout = defaultTimeout
	}
	if v.Tries == 0 {
		v.Tries = defaultTries
	}
	if v.Pause == 0 {
		v.Pause = defaultPause
	}
	if v.LoginPath == "" {
		v.LoginPath = defaultLogin
	}
	if v.JWTFile == "" {
		v.JWTFile = defaultJWTFile
	}
	return v
}

// Secret is a text that nothing prints. The zero Secret is empty.
type Secret struct{ text *string }

// NewSecret keeps a text.
func NewSecret(text string) Secret { return Secret{&text} }

// reveal returns the text.
func (s Secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String hides the text.
func (Secret) String() string { return "redacted" }

// Format hides the text whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "redacted") }

// LogValue hides the text.
func (Secret) LogValue() slog.Value { return slog.StringValue("redacted") }

// MarshalJSON hides the text.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"redacted"`), nil }
