// Command cipherfleet with the keys of Cloud KMS.
package main

import (
	"os"

	"github.com/cipherfleet/cipherfleet/coordinator/cli"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/gcpkms"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr, gcpkms.Kind())) }
