package page

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// Indexes is a table of every blind index a column ever had.
func Indexes(w io.Writer, list index.List) error {
	if len(list.Indexes) == 0 {
		_, err := fmt.Fprintf(w, "%s.%s has no blind index\n", list.Table, list.Column)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "INDEX\tGENERATION\tSTATE\tTOKENS\tNORMALISE\tBYTES\tUNIQUE\tBUILT\tUNCOVERED\tKEY\tCREATED")
	for _, x := range list.Indexes {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%d\t%t\t%s\t%s\t%d\t%s\n", x.Name, x.Generation, x.State, dash(x.Token), x.Normalise, x.Bytes, x.Unique, builtWord(x), rowsWord(x), x.Key, x.Created.UTC().Format(time.DateOnly))
	}
	return t.Flush()
}

func dash(word string) string {
	if word == "" {
		return "-"
	}
	return word
}

// builtWord is what stands of the index that lookups use: of one that was dropped nothing is to stand.
func builtWord(x index.Index) string {
	if x.State == lifecycle.IndexDropped && x.Built == index.BuiltMissing {
		return "-"
	}
	return x.Built
}

func rowsWord(x index.Index) string {
	if x.Uncovered == nil {
		return "-"
	}
	return strconv.FormatInt(*x.Uncovered, 10)
}

// Index describes one in several lines.
func Index(w io.Writer, x index.Index) error {
	_, err := fmt.Fprintf(w, "index      %s, generation %d, %s\ntokens     %s; in column %s\nkey        %d, wrapped by %s\nbuilt      %s\nmissed     %d rows were left without a token since it is there\nuncovered  %s\ncreated    %s\n",
		x.Name, x.Generation, x.State, IndexLine(x), dash(x.Token), x.Key, dash(x.KEK), builtWord(x), x.Missed, rowsWord(x), x.Created.UTC().Format(time.RFC3339))
	return err
}

// IndexLine describes one in a line.
func IndexLine(x index.Index) string {
	line := fmt.Sprintf("%s, %d bytes", x.Normalise, x.Bytes)
	if x.Unique {
		line += ", unique"
	}
	return line
}
