package page

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/proof"
)

// Verification is a paragraph for each column.
func Verification(w io.Writer, v verify.Result) error {
	var b strings.Builder
	for _, c := range v.Columns {
		fmt.Fprintf(&b, "%s.%s in %s: %s\n", v.Table, c.Column, c.Target, verdict(v, c))
		fmt.Fprintf(&b, "  %d rows: %d covered, %d uncovered, %d stale, %d broken\n", c.Rows, c.Covered, c.Uncovered, c.Stale, c.Broken)
		if c.Where != "" {
			fmt.Fprintf(&b, "  rows for which %s is not true need no cell: without one they are covered\n", c.Where)
		}
		if c.Ahead > 0 {
			fmt.Fprintf(&b, "  %d of the covered were written since the cutover, and their plaintext is not there yet\n", c.Ahead)
		}
		for _, number := range slices.Sorted(maps.Keys(c.Schemes)) {
			fmt.Fprintf(&b, "  scheme %d: %d cells\n", number, c.Schemes[number])
		}
		keyLines(&b, c.Keys)
		if c.Unknown > 0 {
			fmt.Fprintf(&b, "  %d of the broken cells are of a scheme or key that the registry does not have\n", c.Unknown)
		}
		if c.Nonces.Cells > 0 {
			fmt.Fprintf(&b, "  nonces: %s\n", nonceLine(c.Nonces))
		}
		if c.Made {
			b.WriteString("  its values are made by an expression: Postgres compared them with it, and none was read\n")
		}
		if c.Foreign {
			b.WriteString("  its values are made by an encrypter of your own: presence and payload were checked, and nothing was opened\n")
		} else if c.Source == "" {
			b.WriteString("  the plaintext is gone: cells were opened and authenticated, and compared with nothing\n")
		}
		if c.Digest != "" {
			fmt.Fprintf(&b, "  digest %s\n", c.Digest)
		}
		if len(c.Examples) > 0 {
			fmt.Fprintf(&b, "  hashes of the first keys: %s\n", strings.Join(c.Examples, " "))
		}
		for _, x := range c.Indexes {
			tokenLines(&b, v, c, x)
		}
	}
	fmt.Fprintf(&b, "in %.1f s\n", v.Seconds)
	_, err := io.WriteString(w, b.String())
	return err
}

// tokenLines are about one blind index of a column.
func tokenLines(b *strings.Builder, v verify.Result, c verify.ColumnReport, x verify.IndexReport) {
	word := "proven"
	switch {
	case !x.Proven:
		word = "NOT PROVEN"
	case v.Sample > 0:
		word = "nothing wrong in the sample"
	case x.Missing > 0:
		word = "none is wrong"
	}
	fmt.Fprintf(b, "  blind index %s, %s: %s\n", Tokens(c, x), x.State, word)
	if len(x.Examples) > 0 {
		fmt.Fprintf(b, "    hashes of the first keys: %s\n", strings.Join(x.Examples, " "))
	}
}

// Tokens is a blind index of a column and what was found of its tokens, in one line.
func Tokens(c verify.ColumnReport, x verify.IndexReport) string {
	name := fmt.Sprintf("%s by %s", c.Column, x.Index)
	if x.Generation > 1 {
		name += fmt.Sprintf(" generation %d", x.Generation)
	}
	if x.Unread != "" {
		return name + " (no token was looked at: " + x.Unread + ")"
	}
	counts := fmt.Sprintf("%d right, %d missing, %d wrong", x.Right, x.Missing, x.Wrong)
	if x.Unopened > 0 {
		counts += fmt.Sprintf(", %d beside cells that do not open", x.Unopened)
	}
	return name + " (" + counts + ")"
}

const mostKeys = 10 // that have a line of their own: a scheme with tenants may have millions

// keyLines say how many cells each key has.
func keyLines(b *strings.Builder, cells map[uint32]int64) {
	ids := slices.Sorted(maps.Keys(cells))
	more := int64(0)
	for i, id := range ids {
		if i >= mostKeys {
			more += cells[id]
			continue
		}
		fmt.Fprintf(b, "  key %d: %d cells\n", id, cells[id])
	}
	if len(ids) > mostKeys {
		fmt.Fprintf(b, "  %d more keys: %d cells (--json and --report list each)\n", len(ids)-mostKeys, more)
	}
}

func verdict(v verify.Result, c verify.ColumnReport) string {
	switch {
	case !c.Proven:
		return "NOT PROVEN"
	case c.Foreign:
		return "every row is covered; its encrypter alone can open them"
	case v.Sample > 0:
		return fmt.Sprintf("nothing wrong in a sample of %v %%, which is no proof", v.Sample)
	}
	return "proven"
}

func nonceLine(n proof.Nonces) string {
	about, compared := "", "all were compared"
	if !n.Exact {
		about, compared = "about ", "a share of them was compared"
	}
	text := fmt.Sprintf("%d cells, %s%d different, %s", n.Cells, about, n.Distinct, compared)
	if n.Repeated > 0 {
		text += fmt.Sprintf("; REPEATED %d times", n.Repeated)
	}
	return text
}
