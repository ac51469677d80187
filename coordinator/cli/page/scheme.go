package page

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Schemes is a table of every scheme a column ever had.
func Schemes(w io.Writer, list scheme.List) error {
	if len(list.Schemes) == 0 {
		_, err := fmt.Fprintf(w, "%s.%s has no scheme yet\n", list.Table, list.Column)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SCHEME\tSTATE\tSUITE\tBINDING\tPADDING\tNULLS\tTENANT\tKEYS\tCELLS\tCREATED")
	for _, s := range list.Schemes {
		if s.State == scheme.Unknown {
			fmt.Fprintf(t, "%d\t%s\t-\t-\t-\t-\t-\t-\t%s\t-\n", s.Number, s.State, cells(s))
			continue
		}
		tenant := "-"
		if s.Tenant != "" {
			tenant = s.Tenant
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%d\t%s\t%s\t%d\t%s\t%s\n", s.Number, s.State, s.Suite, binding(s), s.Padding, s.Nulls, tenant, s.Keys, cells(s), s.Created.UTC().Format(time.DateOnly))
	}
	return t.Flush()
}

func cells(s scheme.Scheme) string {
	if s.Cells == nil {
		return "-"
	}
	return strconv.FormatInt(*s.Cells, 10)
}

// Scheme describes one in several lines.
func Scheme(w io.Writer, s scheme.Scheme) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s "+format+"\n", append([]any{name}, args...)...)
	}
	line("scheme", "%d, %s", s.Number, s.State)
	line("cells", "%s", SchemeLine(s))
	line("keys", "%d; the one of all rows, or of those of no tenant, is %d", s.Keys, s.Key)
	line("readable", "since %s, with revision %d of the registry", s.Created.UTC().Format(time.RFC3339), s.Revision)
	if s.Retired != nil {
		fence := "its fence is gone or not validated: retire it again"
		if s.Fenced {
			fence = "Postgres has proved that no cell of it is left, and refuses any"
		}
		line("retired", "%s; %s", s.Retired.UTC().Format(time.RFC3339), fence)
		line("retained", "until %s", s.Until.UTC().Format(time.RFC3339))
	}
	if s.Destroyed != nil {
		line("destroyed", "%s", s.Destroyed.UTC().Format(time.RFC3339))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// SchemeLine describes one in a line.
func SchemeLine(s scheme.Scheme) string {
	line := fmt.Sprintf("%s, binding %s, padding %d, codec %s, retained %s", s.Suite, binding(s), s.Padding, s.Codec, s.Retain)
	if s.Nulls != cell.KeepNulls.String() {
		line += ", nulls " + s.Nulls
	}
	if s.Tenant != "" {
		line += fmt.Sprintf(", a key for each %s", s.Tenant)
	}
	return line
}

// binding names the columns too that a scheme is bound to.
func binding(s scheme.Scheme) string {
	if len(s.Columns) == 0 {
		return s.Binding
	}
	return s.Binding + " (" + strings.Join(s.Columns, ", ") + ")"
}

// Keys is a table of every data key there ever was.
func Keys(w io.Writer, keys scheme.Keys) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tCOLUMN\tSCHEME OR INDEX\tSTATE\tSUITE\tTENANT\tKEK\tCREATED\tDESTROYED")
	for _, k := range keys.Keys {
		destroyed, tenant := "-", "-"
		if k.Destroyed != nil {
			destroyed = k.Destroyed.UTC().Format(time.DateOnly)
		}
		if k.Tenant != "" {
			tenant = fmt.Sprintf("%q", k.Tenant)
		}
		of := strconv.Itoa(int(k.Scheme))
		if k.Index != "" {
			of = k.Index
		}
		fmt.Fprintf(t, "%d\t%s.%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Table, k.Column, of, k.State, k.Suite, tenant, k.KEK, k.Created.UTC().Format(time.DateOnly), destroyed)
	}
	return t.Flush()
}
