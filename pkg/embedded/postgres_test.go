package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func startPostgres(t *testing.T, o PostgresOptions) *Postgres {
	t.Helper()
	server, err := StartPostgres(t.Context(), o)
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

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func ask[T any](t *testing.T, conn *pgx.Conn, sql string) T {
	t.Helper()
	var answer T
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// sharedFolder is a temporary folder that every user may enter, unlike t.TempDir's when its parent is private.
func sharedFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cipherfleet-embedded-test-")
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

func TestPostgresTakesItsSettings(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, PostgresOptions{Settings: map[string]string{"work_mem": "7MB", "cluster_name": "it's"}})
	conn := connect(t, server.URL("postgres"))
	want := map[string]string{
		"fsync": "off", "max_connections": "200", "listen_addresses": "127.0.0.1", "server_encoding": "UTF8",
		"timezone": "UTC", "work_mem": "7MB", "cluster_name": "it's", "unix_socket_directories": "",
	}
	for name, value := range want {
		if got := ask[string](t, conn, "SHOW "+name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

func TestPostgresDemandsItsPassword(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, PostgresOptions{})
	url := strings.Replace(server.URL("postgres"), server.password, "wrong", 1)
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		conn.Close(t.Context())
		t.Fatal("a wrong password was let in")
	}
	info, err := os.Stat(filepath.Join(server.Dir(), "password"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the password file has mode %v", info.Mode())
	}
}

func TestDurablePostgresKeepsCommitsThroughAKill(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, PostgresOptions{Durable: true})
	url := server.URL("postgres")
	conn := connect(t, url)
	if got := ask[string](t, conn, "SHOW fsync"); got != "on" {
		t.Fatalf("fsync is %s", got)
	}
	run(t, conn, "CREATE TABLE kept AS SELECT 42 AS n")
	busy := connect(t, url)
	backend := ask[int](t, busy, "SELECT pg_backend_pid()")
	go busy.Exec(context.Background(), "SELECT count(*) FROM generate_series(1, 1000000000)") // never waits, so never sees a lost parent

	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if alive(backend) {
		t.Error("a busy backend outlived the kill")
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if server.URL("postgres") != url {
		t.Error("the URL changed over the restart")
	}
	if got := ask[int](t, connect(t, url), "SELECT n FROM kept"); got != 42 {
		t.Errorf("read %d after the restart", got)
	}
}

func TestRestartOfARunningPostgres(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, PostgresOptions{})
	before := connect(t, server.URL("postgres"))
	run(t, before, "CREATE TABLE kept AS SELECT 1 AS n")
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := before.Ping(t.Context()); err == nil {
		t.Error("a session outlived the restart")
	}
	if got := ask[int](t, connect(t, server.URL("postgres")), "SELECT n FROM kept"); got != 1 {
		t.Errorf("read %d after the restart", got)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	server, err := StartPostgres(t.Context(), PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pid, dir := server.server.process.Pid, server.Dir()
	for range 2 { // the second is no error
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if alive(pid) {
		t.Error("the server still runs")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary folder: %v", err)
	}
}

func TestAKilledProgramLeavesNoServer(t *testing.T) {
	t.Parallel()
	program := exec.Command(os.Args[0], "hold-postgres")
	stdin, err := program.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(line)
	if len(fields) != 3 {
		t.Fatalf("the program said %q", line)
	}
	url, dir := fields[0], fields[2]
	t.Cleanup(func() { os.RemoveAll(dir) })
	pid, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)

	if err := program.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	program.Wait()
	if err := awaitGone([]int{pid}); err != nil {
		syscall.Kill(pid, syscall.SIGKILL)
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the server still answers")
	}
}

func TestPostgresUsesAFolderAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(sharedFolder(t), "home")
	first, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	run(t, connect(t, first.URL("postgres")), "CREATE TABLE kept AS SELECT 1 AS n")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := startPostgres(t, PostgresOptions{Dir: dir})
	if got := ask[int](t, connect(t, second.URL("postgres")), "SELECT n FROM kept"); got != 1 {
		t.Errorf("read %d from the second server", got)
	}
}

func TestPostgresFromATemplate(t *testing.T) {
	t.Parallel()
	template := filepath.Join(sharedFolder(t), "template")
	if err := CreateCluster(t.Context(), "", template); err != nil {
		t.Fatal(err)
	}
	one := startPostgres(t, PostgresOptions{Template: template})
	two := startPostgres(t, PostgresOptions{Template: template})
	run(t, connect(t, one.URL("postgres")), "CREATE TABLE only_here ()")
	if ask[bool](t, connect(t, two.URL("postgres")), "SELECT to_regclass('only_here') IS NOT NULL") {
		t.Error("two copies share a table")
	}
}

func TestPostgresRefusesAForeignFolder(t *testing.T) {
	t.Parallel()
	dir := sharedFolder(t)
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Fatalf("got %v", err)
	}
	info, err := os.Stat(precious)
	if err != nil {
		t.Fatal(err)
	}
	if info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
		t.Error("the foreign file changed its owner")
	}
}

func TestAClosedFolderIsExplained(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("an ordinary user runs Postgres as itself, there is nothing to enter")
		return
	}
	closed := filepath.Join(sharedFolder(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := StartPostgres(t.Context(), PostgresOptions{Dir: filepath.Join(closed, "home")})
	if err == nil || !strings.Contains(err.Error(), "every user may enter") {
		t.Fatalf("got %v", err)
	}
}

func TestATakenPortIsAnError(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = StartPostgres(t.Context(), PostgresOptions{Port: taken.Addr().(*net.TCPAddr).Port})
	if err == nil || !strings.Contains(err.Error(), "Address already in use") {
		t.Fatalf("got %v", err)
	}
}

func TestAWrongSettingShowsTheServersWords(t *testing.T) {
	t.Parallel()
	_, err := StartPostgres(t.Context(), PostgresOptions{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), `"no_such_setting"`) {
		t.Fatalf("got %v", err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := StartPostgres(ctx, PostgresOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestManyServersAtOnce(t *testing.T) {
	t.Parallel()
	template := filepath.Join(sharedFolder(t), "template")
	if err := CreateCluster(t.Context(), "", template); err != nil {
		t.Fatal(err)
	}
	failures := make(chan error)
	const servers = 4
	for range servers {
		go func() {
			server, err := StartPostgres(t.Context(), PostgresOptions{Template: template})
			if err == nil {
				err = server.Stop()
			}
			failures <- err
		}()
	}
	for i := range servers {
		if err := <-failures; err != nil {
			t.Error(fmt.Errorf("server %d: %w", i, err))
		}
	}
}
