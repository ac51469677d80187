package manifest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// reader walks the nodes of a text and gathers what is wrong with them.
type reader struct{ problems []Problem }

func (r *reader) problem(line, column int, field, hint, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: max(1, line), Column: max(1, column), Field: field, Hint: hint, Message: fmt.Sprintf(format, args...)})
}

func (r *reader) fail(n *yaml.Node, field, hint, format string, args ...any) {
	r.problem(n.Line, n.Column, field, hint, format, args...)
}

// field is one accepted key of a mapping and what reads its value.
type field struct {
	name string
	read func(n *yaml.Node, path string)
}

// mapping reads a mapping whose keys are all known and written once. It returns the nodes of the values by key.
func (r *reader) mapping(n *yaml.Node, path string, fields ...field) map[string]*yaml.Node {
	seen := map[string]*yaml.Node{}
	for _, entry := range r.entries(n, path, seen) {
		key, value := entry[0], entry[1]
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		if i < 0 {
			r.fail(key, path, unknownHint(key.Value, fields), "unknown key %q (accepted: %s)", short(key.Value), accepted(fields))
			continue
		}
		fields[i].read(value, join(path, key.Value))
	}
	return seen
}

// entries lists the key and value nodes of a mapping, without those whose key is repeated or no plain text.
func (r *reader) entries(n *yaml.Node, path string, seen map[string]*yaml.Node) (entries [][2]*yaml.Node) {
	if !r.plain(n, path) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, path, "", "want keys with values here, as in name: value")
		return nil
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge" || key.Anchor != "":
			r.fail(key, path, "", "want a plain name as key")
		case lines[key.Value] > 0:
			r.fail(key, join(path, key.Value), "", "repeated; it stands on line %d already", lines[key.Value])
		default:
			lines[key.Value] = key.Line
			seen[key.Value] = value
			entries = append(entries, [2]*yaml.Node{key, value})
		}
	}
	return entries
}

// sequence reads each element of a list.
func (r *reader) sequence(n *yaml.Node, path string, read func(n *yaml.Node, path string)) {
	if !r.plain(n, path) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		r.fail(n, path, "", "want a list here, each element behind a dash")
		return
	}
	for i, element := range n.Content {
		read(element, fmt.Sprintf("%s[%d]", path, i))
	}
}

// plain refuses anchors, aliases, foreign tags and missing values: a manifest is read by people as it stands.
func (r *reader) plain(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.fail(n, path, "write the value out", "anchors and aliases are not accepted")
	case n.Tag == "!!null":
		r.fail(n, path, "give it a value or leave the line out", "there is no value here")
	case n.Style&yaml.TaggedStyle != 0:
		r.fail(n, path, "", "tags are not accepted")
	default:
		return true
	}
	return false
}

// scalar reads one value with the given YAML tag.
func (r *reader) scalar(n *yaml.Node, path, tag, want string) (string, bool) {
	if !r.plain(n, path) {
		return "", false
	}
	if n.Kind != yaml.ScalarNode {
		r.fail(n, path, "", "want %s here", want)
		return "", false
	}
	if n.Tag != tag {
		hint := ""
		if tag == "!!str" {
			hint = "put it in quotes: " + strconv.Quote(short(n.Value))
		}
		r.fail(n, path, hint, "want %s, have %s", want, short(n.Value))
		return "", false
	}
	return n.Value, true
}

func (r *reader) text(into *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		value, ok := r.scalar(n, path, "!!str", "text")
		if ok && strings.ContainsRune(value, 0) {
			r.fail(n, path, "", "holds a zero byte")
		} else if ok {
			*into = value
		}
	}
}

// maxName is the longest name Postgres keeps, in bytes; it cuts longer ones silently.
const maxName = 63

// name reads the literal name of something in Postgres.
func (r *reader) name(into *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		before := len(r.problems)
		r.text(into)(n, path)
		if len(r.problems) > before {
			return
		}
		switch {
		case *into == "":
			r.fail(n, path, "", "a name must not be empty")
		case len(*into) > maxName:
			r.fail(n, path, "", "a name has at most %d bytes in Postgres, this has %d", maxName, len(*into))
		}
	}
}

func (r *reader) choice(into *string, values ...string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		value, ok := r.scalar(n, path, "!!str", "one of "+strings.Join(values, ", "))
		if ok && !slices.Contains(values, value) {
			r.fail(n, path, "", "%q is unknown (accepted: %s)", short(value), strings.Join(values, ", "))
		} else if ok {
			*into = value
		}
	}
}

func (r *reader) flag(into *bool) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if value, ok := r.scalar(n, path, "!!bool", "true or false"); ok {
			*into = strings.EqualFold(value, "true")
		}
	}
}

func (r *reader) integer(into *int, least, most int) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		want := fmt.Sprintf("a whole number from %d to %d", least, most)
		value, ok := r.scalar(n, path, "!!int", want)
		if !ok {
			return
		}
		number, err := strconv.Atoi(value)
		if err != nil || number < least || number > most {
			r.fail(n, path, "", "want %s, have %s", want, short(value))
			return
		}
		*into = number
	}
}

func (r *reader) duration(into *time.Duration, least, most time.Duration) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if !r.plain(n, path) {
			return
		}
		value, err := ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || value < least || value > most {
			r.fail(n, path, "", "want a duration from %s to %s, such as 250ms, 10s or 24h; have %s", FormatDuration(least), FormatDuration(most), short(n.Value))
			return
		}
		*into = value
	}
}

func (r *reader) size(into *int64, least, most int64) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if !r.plain(n, path) {
			return
		}
		value, err := ParseSize(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || value < least || value > most {
			r.fail(n, path, "", "want a size from %s to %s, such as 512KiB or 4MiB; have %s", FormatSize(least), FormatSize(most), short(n.Value))
			return
		}
		*into = value
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func accepted(fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}

// short keeps a mistaken paste, which might be a secret, out of an error's text.
func short(s string) string {
	if runes := []rune(s); len(runes) > 40 {
		return string(runes[:37]) + "..."
	}
	return s
}
