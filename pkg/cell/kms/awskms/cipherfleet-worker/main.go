// Command cipherfleet-worker with the keys of AWS KMS.
package main

import (
	"os"

	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/awskms"
	"github.com/cipherfleet/cipherfleet/worker/program"
)

func main() { os.Exit(program.Main(os.Args[1:], os.Stdout, os.Stderr, awskms.Kind())) }
