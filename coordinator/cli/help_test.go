package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// TestEveryCommandExplainsItself: what it does, an example, and the codes it ends with.
func TestEveryCommandExplainsItself(t *testing.T) {
	t.Parallel()
	s := newShell(t, "")
	listed := s.must("--help").out
	fitTerminal(t, &cobra.Command{Use: "cipherfleet", Long: long})
	for _, c := range []*cobra.Command{newAdvance(nil), newBackfill(nil), newConfig(nil), newCutover(nil), newDecrypt(nil), newDemo(), newDrop(nil), newHistory(nil), newIndex(nil), newInit(nil), newInstall(nil), newJob(nil), newKey(nil), newPlan(nil), newResidue(nil), newRollback(nil), newRotate(nil), newScheme(nil), newServe(nil), newStatus(nil), newVerify(nil), newVersion()} {
		help := s.must(c.Name(), "--help").out
		for _, want := range []string{"Exit codes: 0", "Examples:\n  cipherfleet " + c.Name(), "Usage:\n  cipherfleet " + c.Name()} {
			if !strings.Contains(help, want) {
				t.Errorf("%s --help has no %q", c.Name(), want)
			}
		}
		fitTerminal(t, c)
		if !strings.Contains(listed, "\n  "+c.Name()+" ") {
			t.Errorf("--help does not list %s", c.Name())
		}
	}
}

// fitTerminal looks at what c says, and what its sub-commands say.
func fitTerminal(t *testing.T, c *cobra.Command) {
	t.Helper()
	for line := range strings.Lines(c.Long) {
		if len([]rune(strings.TrimSuffix(line, "\n"))) > 120 {
			t.Errorf("%s --help has a line too long for a terminal: %s", c.CommandPath(), line)
		}
	}
	for _, sub := range c.Commands() {
		fitTerminal(t, sub)
	}
}

// TestTheSchemaCanBePrinted: without a database, and with everything in it.
func TestTheSchemaCanBePrinted(t *testing.T) {
	t.Parallel()
	o := newShell(t, "").run("install", "--print")
	if o.code != app.CodeDone || o.err != "" || !strings.Contains(o.out, "CREATE SCHEMA cipherfleet") || !strings.HasSuffix(o.out, "COMMIT;\n") {
		t.Errorf("exit code %d\n%.200s\n%s", o.code, o.out, o.err)
	}
}
