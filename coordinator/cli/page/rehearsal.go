package page

import (
	"fmt"
	"io"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
)

// Rehearsal is each stage with its statements, and how long they took.
func Rehearsal(w io.Writer, r ladder.Rehearsal) error {
	var b strings.Builder
	for _, stage := range r.Stages {
		lock := "nobody is kept out"
		if stage.Locked {
			lock = "the table is locked meanwhile"
		}
		fmt.Fprintf(&b, "%s: %d statements in %.1f ms, %s\n", stage.Name, len(stage.Statements), stage.Took, lock)
		for _, statement := range stage.Statements {
			text, _, _ := strings.Cut(statement.SQL, "\n")
			fmt.Fprintf(&b, "  %6.1f ms  %s\n", statement.Took, text)
		}
	}
	b.WriteString("on an empty copy of " + r.Table + ", taken back; no statement under the lock reads a row\n")
	_, err := io.WriteString(w, b.String())
	return err
}
