package manifest_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/manifest"
)

// page is docs/manifest.md, by its headings.
func page(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "manifest.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split("\n"+string(text), "\n## ") {
		heading, body, _ := strings.Cut(section, "\n")
		sections[strings.TrimSpace(heading)] = body
	}
	return sections
}

// documented are the keys in the first column of a section's table.
func documented(section string) (keys []string) {
	quoted := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, match := range quoted.FindAllStringSubmatch(cells[1], -1) {
			keys = append(keys, match[1])
		}
	}
	slices.Sort(keys)
	return keys
}

// accepted are the keys that the reader names when it meets one that it does not know.
func accepted(t *testing.T, text string) []string {
	t.Helper()
	_, err := manifest.Parse([]byte(text))
	var wrong *manifest.Error
	if !errors.As(err, &wrong) {
		t.Fatalf("no problem is found: %v", err)
	}
	for _, problem := range wrong.Problems {
		if list, found := strings.CutPrefix(problem.Message, `unknown key "what" (accepted: `); found {
			keys := strings.Split(strings.TrimSuffix(list, ")"), ", ")
			slices.Sort(keys)
			return keys
		}
	}
	t.Fatalf("no unknown key among %v", wrong.Problems)
	return nil
}

// TestThePageNamesEveryKey holds docs/manifest.md to what is read: no key is missing, and none is too many.
func TestThePageNamesEveryKey(t *testing.T) {
	t.Parallel()
	sections := page(t)
	const column = "version: 1\ntables: [{table: users, columns: [{source: email, "
	for heading, text := range map[string]string{
		"The file": "version: 1\nwhat: 1\n",
		"fleet":    "version: 1\nfleet: {what: 1}\n",
		"chunk":    "version: 1\nfleet: {chunk: {what: 1}}\n",
		"A table":  "version: 1\ntables: [{what: 1}]\n",
		"A column": column + "what: 1}]}]\n",
		"A scheme": column + "schemes: {1: {what: 1}}}]}]\n",
		"An index": column + "indexes: [{what: 1}]}]}]\n",
		"done":     column + "done: {what: 1}}]}]\n",
		"external": column + "external: {what: 1}}]}]\n",
		"from":     column + "from: {what: 1}}]}]\n",
	} {
		have, want := slices.Compact(documented(sections[heading])), accepted(t, text)
		if !slices.Equal(have, want) {
			t.Errorf("section %q has\n%s\nand what is read is\n%s", heading, strings.Join(have, ", "), strings.Join(want, ", "))
		}
	}
}

// TestThePageNamesTheDefaults looks for each in the line of its key.
func TestThePageNamesTheDefaults(t *testing.T) {
	t.Parallel()
	sections := page(t)
	fleet, column, scheme, index := manifest.Default().Fleet, manifest.DefaultColumn("email"), manifest.DefaultScheme(), manifest.DefaultIndex()
	for _, want := range []struct{ heading, key, value string }{
		{"A table", "schema", manifest.DefaultTable().Schema}, {"A column", "type", column.Type}, {"A column", "transform", column.Transform},
		{"A column", "reach", column.Reach}, {"A column", "cutover", column.Cutover}, {"A column", "soak", manifest.FormatDuration(column.Soak)},
		{"A column", "target", strings.TrimPrefix(column.Target, "email")},
		{"chunk", "rows", strconv.Itoa(fleet.Chunk.Rows)}, {"A scheme", "suite", scheme.Suite}, {"A scheme", "binding", scheme.Binding},
		{"A scheme", "padding", strconv.Itoa(scheme.Padding)}, {"A scheme", "nulls", scheme.Nulls}, {"A scheme", "retain", manifest.FormatDuration(scheme.Retain)},
		{"An index", "kind", index.Kind}, {"An index", "normalise", index.Normalise}, {"An index", "bytes", strconv.Itoa(index.Bytes)},
	} {
		line := regexp.MustCompile("(?m)^\\| `" + want.key + "` \\|([^|]*)\\|").FindStringSubmatch(sections[want.heading])
		if line == nil || !slices.Contains(strings.FieldsFunc(line[1], func(r rune) bool { return strings.ContainsRune(" `;,", r) }), want.value) {
			t.Errorf("section %q does not say that %s is %s if it is left out", want.heading, want.key, want.value)
		}
	}
}

// TestThePagesExampleIsOne parses it.
func TestThePagesExampleIsOne(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for _, section := range page(t) {
		all.WriteString(section)
	}
	_, rest, found := strings.Cut(all.String(), "```yaml\n")
	example, _, ended := strings.Cut(rest, "```\n")
	if !found || !ended {
		t.Fatal("there is no example")
	}
	if _, err := manifest.Parse([]byte(example)); err != nil {
		t.Error(err)
	}
}
