// Command cipherfleet-worker with the keys of Cloud KMS.
package main

import (
	"os"

	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/gcpkms"
	"github.com/cipherfleet/cipherfleet/worker/program"
)

func main() { os.Exit(program.Main(os.Args[1:], os.Stdout, os.Stderr, gcpkms.Kind())) }
