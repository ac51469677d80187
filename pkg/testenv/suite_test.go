package testenv_test

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// suite prepares this test binary, run once more by itself, to run some of its tests with more in its environment.
func suite(t *testing.T, tests string, environment ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run="+tests, "-test.v")
	cmd.Env = append(os.Environ(), "TMPDIR="+enterable(t))
	cmd.Env = append(cmd.Env, environment...)
	return cmd
}

// enterable is a temporary folder in which a server may run as another user, unlike that of t.TempDir.
func enterable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cipherfleet-suite-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

const ofServers = "^(TestEachTestHasItsOwnDatabase|TestDatabase.*|TestEachTestHasItsOwnNATS)$"

func TestASuiteOnSomebodysServers(t *testing.T) {
	t.Parallel()
	postgres, nats := testenv.DurablePostgres(t), testenv.OwnNATS(t)
	js := dial(t, nats.URL(), nats.TokenFile())
	theirs := jetstream.StreamConfig{Name: "THEIRS", Subjects: []string{"theirs"}}
	if _, err := js.CreateStream(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	natsURL := strings.Replace(nats.URL(), "nats://", "nats://"+nats.Token()+"@", 1)
	out, err := suite(t, ofServers, "CIPHERFLEET_TEST_DATABASE_URL="+postgres.URL("postgres"),
		"CIPHERFLEET_TEST_NATS_URL="+natsURL).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	db := testenv.Open(t, postgres.URL("postgres"))
	left := testenv.Column[string](t, db, "SELECT datname::text FROM pg_database WHERE datname LIKE 'cipherfleet%'")
	if len(left) > 0 {
		t.Errorf("the suite left the databases %v", left)
	}
	if n := held(t, js, "THEIRS"); n != 0 {
		t.Errorf("their stream holds %d messages", n)
	}
	if _, err := js.Stream(t.Context(), "CIPHERFLEET_WORK"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("our stream after the suite: %v", err)
	}
}

// A wrong URL must fail the tests: it shows that the named servers are used, and that nothing takes their place.
func TestASuiteWithoutItsServersFails(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"CIPHERFLEET_TEST_DATABASE_URL=postgres://u:secret@127.0.0.1:1/x": "TestEachTestHasItsOwnDatabase",
		"CIPHERFLEET_TEST_DATABASE_URL=secret":                            "TestEachTestHasItsOwnDatabase",
		"CIPHERFLEET_TEST_NATS_URL=nats://secret@127.0.0.1:1":             "TestEachTestHasItsOwnNATS",
		"CIPHERFLEET_PG_BINDIR=/nowhere":                                  "TestEachTestHasItsOwnDatabase",
	}
	for variable, test := range tests {
		t.Run(variable, func(t *testing.T) {
			t.Parallel()
			out, err := suite(t, "^"+test+"$", variable).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: "+test) {
				t.Errorf("%v\n%s", err, out)
			}
			if strings.Contains(string(out), "secret") {
				t.Errorf("the failure quotes the URL:\n%s", out)
			}
		})
	}
}

// TestTellsItsServer prints where its database is; with "hold" on the command line it then waits to be killed.
func TestTellsItsServer(t *testing.T) {
	db := testenv.EmptyDatabase(t)
	fmt.Println("url", db.URL)
	if flag.Arg(0) == "hold" {
		io.Copy(io.Discard, os.Stdin)
	}
}

func TestAKilledSuiteLeavesNoServer(t *testing.T) {
	t.Parallel()
	child := suite(t, "^TestTellsItsServer$", "CIPHERFLEET_TEST_DATABASE_URL=")
	child.Args = append(child.Args, "hold")
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	address := told(t, stdout)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	testenv.Eventually(t, time.Minute, func() error {
		conn, err := pgx.Connect(t.Context(), address)
		if err == nil {
			return errors.Join(errors.New("the server still answers"), conn.Close(t.Context()))
		}
		return nil
	})
}

// told waits for the URL that the suite prints.
func told(t *testing.T, stdout io.Reader) string {
	t.Helper()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if address, ok := strings.CutPrefix(lines.Text(), "url "); ok {
			return address
		}
	}
	t.Fatal("the suite told no URL")
	return ""
}

// An ordinary end leaves neither a server nor a folder.
func TestASuiteCleansUp(t *testing.T) {
	t.Parallel()
	child := suite(t, "^TestTellsItsServer$", "CIPHERFLEET_TEST_DATABASE_URL=")
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	u, err := url.Parse(told(t, strings.NewReader(string(out))))
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := pgx.Connect(t.Context(), u.String()); err == nil {
		conn.Close(t.Context())
		t.Error("the server still answers")
	}
	for _, variable := range child.Env {
		if dir, ok := strings.CutPrefix(variable, "TMPDIR="); ok {
			if left, err := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 || err != nil {
				t.Errorf("left behind: %v, %v", left, err)
			}
		}
	}
}
