package page

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/residue"
)

// Residue is each finding, whether it is accepted or what cleans it, and the list of what no query can see.
func Residue(w io.Writer, r residue.Report, accepted []string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.%s: %s, %d findings\n", r.Table, r.Column, r.Phase, len(r.Findings))
	for _, f := range r.Findings {
		note := ""
		switch {
		case slices.Contains(accepted, f.Kind):
			note = " (accepted)"
		case f.Rewrites:
			note = " (--clean --rewrite)"
		case f.Cleans:
			note = " (--clean)"
		}
		fmt.Fprintf(&b, "%s %s%s\n  %s\n  to do: %s\n", f.Kind, f.Where, note, f.Says, f.Then)
	}
	b.WriteString("what no query can see:\n")
	for _, c := range r.Checklist {
		fmt.Fprintf(&b, "  [ ] %s: %s\n", c.What, c.LookFor)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
