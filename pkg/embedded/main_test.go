package embedded

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"testing"
	"time"
)

// The test program doubles as a program that starts a server and then waits to be killed.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Arg(0) == "hold-postgres" {
		os.Exit(holdPostgres())
	}
	os.Exit(m.Run())
}

func holdPostgres() int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := StartPostgres(ctx, PostgresOptions{})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println(server.URL("postgres"), server.server.process.Pid, server.Dir())
	io.Copy(io.Discard, bufio.NewReader(os.Stdin)) // until killed, or until the test is gone
	server.Stop()
	return 0
}
