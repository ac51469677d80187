// Command find prints the folder that holds this machine's Postgres server programs, for ensure.sh: what the programs
// and the tests would find by themselves. Its one argument, which may be empty, is a folder to insist on.
package main

import (
	"fmt"
	"os"

	"github.com/cipherfleet/cipherfleet/pkg/embedded"
)

func main() {
	var given string
	if len(os.Args) > 1 {
		given = os.Args[1]
	}
	dir, err := embedded.FindBinDir(given)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(dir)
}
