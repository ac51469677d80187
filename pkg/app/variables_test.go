package app_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

var update = flag.Bool("update", false, "write the table of variables into docs/configuration.md")

const begin, end = "<!-- variables: begin -->\n", "<!-- variables: end -->\n"

func table() string {
	var b strings.Builder
	b.WriteString("| variable | default | accepted | programs | meaning |\n|---|---|---|---|---|\n")
	for _, v := range app.Variables() {
		standard := v.Default
		if standard == "" {
			standard = "–"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", v.Name, standard, v.Accepted, strings.Join(v.Programs, ", "), v.Meaning)
	}
	return b.String()
}

func TestTheDocumentedTableIsTrue(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "..", "docs", "configuration.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	documented, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table", file)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+table()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if documented != table() {
		t.Errorf("%s is out of date; run: go test ./pkg/app -run TheDocumentedTable -update", file)
	}
}
