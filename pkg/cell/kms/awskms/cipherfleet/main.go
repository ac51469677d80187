// Command cipherfleet with the keys of AWS KMS.
package main

import (
	"os"

	"github.com/cipherfleet/cipherfleet/coordinator/cli"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/awskms"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr, awskms.Kind())) }
