package testenv

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/embedded"
)

// DurablePostgres starts a cluster of the test's own that flushes every commit to disk, like a real server. The test
// may kill it and start it again. It has an empty database named postgres; [Open] connects to it.
func DurablePostgres(t testing.TB) *embedded.Postgres {
	t.Helper()
	config, err := readEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	bindir := config.PostgresBinDir
	template, err := cachedCluster(t.Context(), bindir)
	if err != nil {
		t.Fatal(err)
	}
	home, err := newHome()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := home.remove(); err != nil {
			t.Error(err)
		}
	})
	o := embedded.PostgresOptions{BinDir: bindir, Dir: home.cluster(), Template: template, Durable: true}
	server, err := embedded.StartPostgres(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}
