package embedded

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// keepSecret returns the secret in file; where there is none yet it writes first, or a random one when first is
// empty, readable by the owner only.
func keepSecret(file, first string) (string, error) {
	content, err := os.ReadFile(file)
	if err == nil {
		return strings.TrimSpace(string(content)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if first == "" {
		first = rand.Text()
	}
	if err := os.WriteFile(file, []byte(first+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write secret: %w", err)
	}
	return first, nil
}
