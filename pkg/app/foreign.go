package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
)

// OpenForeignKeys reads the keys of other systems; nil if no file is named.
func (f Fleet) OpenForeignKeys() (*foreign.Keys, error) {
	if f.ForeignKeys == "" {
		return nil, nil
	}
	keys, err := foreign.LoadKeys(kms.Path(f.ForeignKeys, ""))
	switch {
	case errors.Is(err, foreign.ErrExposed):
		return nil, &Fail{Code: CodeRefused, Err: err, Hint: "chmod 600 it, and consider whether somebody has read it"}
	case errors.Is(err, foreign.ErrKeyFile):
		return nil, &Fail{Code: CodeUsage, Err: err, Hint: "docs/foreign.md describes the file"}
	case err != nil:
		return nil, &Fail{Code: CodeUsage, Err: err, Hint: "name the file with CIPHERFLEET_FOREIGN_KEYS, as in file:/etc/cipherfleet/foreign.json"}
	}
	keys.Dial = f.dialForeign
	return keys, nil
}

// dialForeign opens a key that never leaves its server.
func (f Fleet) dialForeign(ctx context.Context, uri string) (foreign.Unwrapper, error) {
	if !strings.HasPrefix(uri, "vault://") && !strings.HasPrefix(uri, "vault+http://") {
		return nil, fmt.Errorf("open a key of a server: its URI is none of a vault: %w", foreign.ErrUnsupported)
	}
	return f.OpenKEK(ctx, uri, "")
}

// checkForeignKeys checks how the file is named; whether it is there is for whoever opens it.
func checkForeignKeys(uri string) error {
	if uri == "" || kms.Path(uri, "") != "" {
		return nil
	}
	return &VariableError{Name: "CIPHERFLEET_FOREIGN_KEYS", Was: shownKEK(uri), Accepted: "file:PATH, as in file:/etc/cipherfleet/foreign.json"}
}
