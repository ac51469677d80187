package app

import (
	"log/slog"

	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
)

// Vault is how to enter the server of a vault: key.
type Vault struct {
	VaultToken     Token  `env:"CIPHERFLEET_VAULT_TOKEN" means:"token for a vault: key; better in a file, or not at all"`
	VaultTokenFile string `env:"CIPHERFLEET_VAULT_TOKEN_FILE" means:"file with a token, as an agent keeps it: preferred to the token itself, and read again when it is refused"`
	VaultRole      string `env:"CIPHERFLEET_VAULT_ROLE" means:"role to log in with, by the Kubernetes auth method; then no token is needed"`
	VaultLogin     string `env:"CIPHERFLEET_VAULT_LOGIN" default:"kubernetes" means:"where that method is mounted"`
	VaultJWTFile   string `env:"CIPHERFLEET_VAULT_JWT_FILE" default:"where Kubernetes puts it" means:"file with the service account's token, for that method"`
	VaultNamespace string `env:"CIPHERFLEET_VAULT_NAMESPACE" means:"namespace of Vault or OpenBao, sent with every request"`
	VaultCA        string `env:"CIPHERFLEET_VAULT_CA" default:"the system's" means:"file with the certificate authorities of Vault or OpenBao (PEM)"`
}

// access is the same for pkg/cell/kms.
func (v Vault) access() kms.Vault {
	return kms.Vault{Token: kms.NewSecret(string(v.VaultToken)), TokenFile: v.VaultTokenFile, Role: v.VaultRole, LoginPath: v.VaultLogin,
		JWTFile: v.VaultJWTFile, Namespace: v.VaultNamespace, CAFile: v.VaultCA}
}

// Token is a secret text: it prints as hidden.
type Token string

// String says no more than whether there is one.
func (t Token) String() string {
	if t == "" {
		return ""
	}
	return "(hidden)"
}

// GoString is String: %#v must not show more.
func (t Token) GoString() string { return t.String() }

// LogValue is String.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText is String.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
