package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// A vault: key is entered with what the environment says, and the token is seen nowhere else.
func TestAVaultKeyIsEnteredWithTheVariables(t *testing.T) {
	t.Parallel()
	const secret = "s.3cr3t-t0ken"
	seen := make(chan http.Header, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"errors":["permission denied"]}`))
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret+"-of-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for variable, token := range map[string]string{"CIPHERFLEET_VAULT_TOKEN=" + secret: secret, "CIPHERFLEET_VAULT_TOKEN_FILE=" + file: secret + "-of-a-file"} {
		config, err := app.Parse[app.Coordinator]([]string{"HOME=/h", "CIPHERFLEET_VAULT_NAMESPACE=team/a", variable,
			"CIPHERFLEET_KEK=vault+http://" + strings.TrimPrefix(server.URL, "http://") + "/transit/cells"})
		if err != nil {
			t.Fatal(err)
		}
		if err := config.Validate(); err != nil {
			t.Fatal(err)
		}
		kek, err := config.OpenKEK(t.Context(), config.KEK, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kek.Unwrap(t.Context(), []byte("vault:v1:AAAA"), nil); cell.KEKClassOf(err) != cell.KEKDenied {
			t.Errorf("the server denies, and the key says %v", err)
		}
		if got := <-seen; got.Get("X-Vault-Token") != token || got.Get("X-Vault-Namespace") != "team/a" {
			t.Errorf("entered with %v", got)
		}
		for len(seen) > 0 { // a token in a file is read, and tried, again
			<-seen
		}
		shown, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{fmt.Sprintf("%v %+v %#v", config, config, config), fmt.Sprint(config.Settings()), string(shown)} {
			if strings.Contains(text, secret) {
				t.Errorf("the token is in %.200s", text)
			}
		}
	}
}
