// Command download fetches prebuilt Postgres server programs into a folder and prints where they are. It is the way
// out for a machine that has no Postgres and where none may be installed, and a module of its own so that its
// libraries stay out of the product.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const version = embeddedpostgres.V17

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: download <folder>")
		os.Exit(2)
	}
	bin, err := download(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(bin)
}

// download returns the folder of the programs below dir, fetching them when they are not there yet.
func download(dir string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(dir, string(version)))
	if err != nil {
		return "", fmt.Errorf("resolve folder: %w", err)
	}
	bin := filepath.Join(dir, "bin")
	if complete(bin) {
		return bin, nil
	}
	if err := fetch(dir); err != nil && !complete(bin) {
		return "", fmt.Errorf("download Postgres %s: %w", version, err)
	}
	if !complete(bin) {
		return "", errors.New("download Postgres: the archive holds no server programs")
	}
	return bin, nil
}

func complete(bin string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			return false
		}
	}
	return true
}

// fetch starts and stops a server because the library offers no other way to unpack one. Its start fails for root
// after the programs are in place.
func fetch(dir string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "cipherfleet-download-")
	if err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer os.RemoveAll(scratch)
	server := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(version).Port(port).Logger(io.Discard).
		CachePath(scratch).BinariesPath(dir).RuntimePath(filepath.Join(scratch, "run")))
	if err := server.Start(); err != nil {
		return err
	}
	return server.Stop()
}

func freePort() (uint32, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find free port: %w", err)
	}
	defer listener.Close()
	return uint32(listener.Addr().(*net.TCPAddr).Port), nil
}
