package verify_test

import (
	"os"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
