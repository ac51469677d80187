// Command cipherfleet moves live Postgres data from one form to another: the control plane and the operator's command
// line.
package main

import (
	"os"

	"github.com/cipherfleet/cipherfleet/coordinator/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
