package testenv_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// Every test here runs with the variables of a production in the environment: a suite that used one would fail.
func TestMain(m *testing.M) {
	production := map[string]string{
		"DATABASE_URL": "postgres://production:secret@127.0.0.1:1/production",
		"NATS_URL":     "nats://127.0.0.1:1",
		"PGHOST":       "127.0.0.1",
		"PGPORT":       "1",
		"PGDATABASE":   "production",
		"PGUSER":       "production",
		"PGDATA":       "/production",
	}
	for name, value := range production {
		if err := os.Setenv(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(testenv.Main(m))
}
