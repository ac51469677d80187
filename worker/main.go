// Command cipherfleet-worker pulls ranges from the queue and carries their rows from one form to the next.
package main

import (
	"os"

	"github.com/cipherfleet/cipherfleet/worker/program"
)

func main() { os.Exit(program.Main(os.Args[1:], os.Stdout, os.Stderr)) }
