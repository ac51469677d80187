package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxBytes keeps a mistaken path from filling memory; a manifest of a thousand columns has a tenth of it.
const maxBytes = 4 << 20

// Load reads and parses a file. What is wrong with its text is an [*Error]; a file that cannot be read is not.
func Load(path string) (Manifest, error) {
	file, err := os.Open(path)
	if err != nil {
		return Manifest{}, fmt.Errorf("open the manifest: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	if err != nil {
		return Manifest{}, fmt.Errorf("read the manifest: %w", err)
	}
	m, err := Parse(data)
	var wrong *Error
	if errors.As(err, &wrong) {
		wrong.File = path
	}
	return m, err
}

// Parse reads a manifest, refuses what it does not know or what is repeated, fills in defaults and checks every field.
// Every error is an [*Error].
func Parse(data []byte) (Manifest, error) {
	r := &reader{}
	m := r.document(data)
	if len(r.problems) > 0 {
		wrong := &Error{Problems: r.problems}
		wrong.sort()
		return Manifest{}, wrong
	}
	return m, nil
}

// document finds the one document of the text and reads it.
func (r *reader) document(data []byte) Manifest {
	if len(data) > maxBytes {
		r.problem(1, 1, "", "", "the file is larger than %d MiB, it cannot be a manifest", maxBytes>>20)
		return Manifest{}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		r.problem(1, 1, "", "cipherfleet init writes one", "the file is empty")
		return Manifest{}
	case err != nil:
		r.syntax(err, data)
		return Manifest{}
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		r.fail(&second, "", "", "a second document begins here; a manifest is one document")
		return Manifest{}
	case !errors.Is(err, io.EOF):
		r.syntax(err, data)
		return Manifest{}
	}
	return r.manifest(doc.Content[0])
}

// syntax reports text that is no YAML. The parser tells the line only, and only inside its text ("yaml: line 3: …");
// the beginning of that line stands for the column.
func (r *reader) syntax(err error, data []byte) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		number, after, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			text, line = after, n
		}
	}
	lines := strings.Split(string(data), "\n")
	line = max(1, min(line, len(lines)))
	column := len(lines[line-1]) - len(strings.TrimLeft(lines[line-1], " ")) + 1
	r.problem(line, column, "", "mind indentation; a text with a colon, # or quotes in it needs quotes around it", "this is no YAML: %s", text)
}
