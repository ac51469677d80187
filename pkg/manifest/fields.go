package manifest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"go.yaml.in/yaml/v3"
)

const (
	tenYears = 10 * 365 * 24 * time.Hour
	anyCount = 1_000_000_000
)

// manifest reads the top of the file. A version it does not know hides every other problem: they would be guesses.
func (r *reader) manifest(n *yaml.Node) Manifest {
	m := Default()
	if !r.version(n) {
		return m
	}
	tables := map[pg.Table]int{}
	seen := r.mapping(n, "",
		field{"version", func(*yaml.Node, string) {}},
		field{"kek", r.text(&m.KEK)},
		field{"fleet", func(n *yaml.Node, path string) { r.fleet(n, path, &m.Fleet) }},
		field{"tables", func(n *yaml.Node, path string) {
			r.sequence(n, path, func(n *yaml.Node, path string) {
				t := r.table(n, path)
				name := pg.Table{Schema: t.Schema, Name: t.Name}
				if line := tables[name]; line > 0 && t.Name != "" {
					r.fail(n, path, "put the columns of one table together: they are moved in one pass", "table %s stands on line %d already", name, line)
				}
				tables[name] = n.Line
				m.Tables = append(m.Tables, t)
			})
		}})
	r.require(n, "", seen, "tables")
	return m
}

// version looks at the version alone and says whether the rest can be understood.
func (r *reader) version(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode {
		r.fail(n, "", "cipherfleet init writes one", "want a manifest: version, kek, fleet and tables")
		return false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "version" {
			continue
		}
		var version int
		before := len(r.problems)
		r.integer(&version, 1, 1_000_000)(n.Content[i+1], "version")
		if version > Version {
			r.fail(n.Content[i+1], "version", "install a newer cipherfleet", "%d is newer than this program understands (accepted: %d)", version, Version)
		}
		return len(r.problems) == before
	}
	r.fail(n, "version", fmt.Sprintf("begin the file with version: %d", Version), "missing")
	return false
}

func (r *reader) require(n *yaml.Node, path string, seen map[string]*yaml.Node, names ...string) {
	for _, name := range names {
		if seen[name] == nil && n.Kind == yaml.MappingNode {
			r.fail(n, join(path, name), "", "missing")
		}
	}
}

func (r *reader) fleet(n *yaml.Node, path string, f *Fleet) {
	r.mapping(n, path,
		field{"concurrency", r.integer(&f.Concurrency, 1, 10_000)},
		field{"chunk", func(n *yaml.Node, path string) {
			r.mapping(n, path,
				field{"rows", r.integer(&f.Chunk.Rows, 1, 1_000_000)},
				field{"bytes", r.size(&f.Chunk.Bytes, 1<<10, 1<<30)},
				field{"time", r.duration(&f.Chunk.Time, time.Millisecond, time.Minute)})
		}},
		field{"rows_per_second", r.integer(&f.RowsPerSecond, 0, anyCount)},
		field{"lock_timeout", r.duration(&f.LockTimeout, time.Millisecond, time.Hour)},
		field{"statement_timeout", r.duration(&f.StatementTimeout, time.Millisecond, time.Hour)},
		field{"quarantine_budget", r.integer(&f.QuarantineBudget, 0, anyCount)},
		field{"user_triggers", r.choice(&f.UserTriggers, "fire", "skip")})
}

func (r *reader) table(n *yaml.Node, path string) Table {
	t := DefaultTable()
	var columns []*yaml.Node
	seen := r.mapping(n, path,
		field{"schema", r.name(&t.Schema)},
		field{"table", r.name(&t.Name)},
		field{"key", func(n *yaml.Node, path string) { t.Key = r.key(n, path) }},
		field{"where", r.text(&t.Where)},
		field{"columns", func(n *yaml.Node, path string) {
			r.sequence(n, path, func(n *yaml.Node, path string) {
				t.Columns = append(t.Columns, r.column(n, path))
				columns = append(columns, n)
			})
			if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
				r.fail(n, path, "", "name at least one column")
			}
		}})
	r.require(n, path, seen, "table", "columns")
	r.together(t, columns, path)
	return t
}

func (r *reader) key(n *yaml.Node, path string) (key []string) {
	r.sequence(n, path, func(n *yaml.Node, path string) {
		var name string
		if r.name(&name)(n, path); slices.Contains(key, name) {
			r.fail(n, path, "", "column %q is named twice", name)
		}
		key = append(key, name)
	})
	return key
}

// together checks what one column of a table means for the others.
func (r *reader) together(t Table, nodes []*yaml.Node, path string) {
	var indexes []string
	for i, c := range t.Columns {
		at := fmt.Sprintf("%s.columns[%d]", path, i)
		for _, before := range t.Columns[:i] {
			if c.Source != "" && c.Source == before.Source {
				r.fail(nodes[i], at+".source", "", "column %q is a source already", c.Source)
			}
			if c.Target == before.Target && c.Source != "" && c.Source != before.Source {
				r.fail(nodes[i], at+".target", "", "column %q is a target already", c.Target)
			}
		}
		switch {
		case c.Source == "":
		case slices.ContainsFunc(t.Columns, func(o Column) bool { return o.Source != "" && o.Source != c.Source && o.Target == c.Source }):
			r.fail(nodes[i], at+".source", "", "column %q is another column's target", c.Source)
		case slices.Contains(t.Key, c.Source) || slices.Contains(t.Key, c.Target):
			r.fail(nodes[i], at, "rows are found by their key while it is being worked on: it must stay as it is", "source and target must not be part of the key")
		}
		if t.Where != "" && (c.Reach == "cut-over" || c.Reach == "dropped") {
			r.fail(nodes[i], at+".reach", "reach backfilled, or do without where", "a table with where cannot go to %s: other rows would lose their value", c.Reach)
		}
		for _, index := range c.Indexes {
			if index.Name != "" && slices.Contains(indexes, index.Name) {
				r.fail(nodes[i], at+".indexes", "", "index %q is named twice", index.Name)
			}
			indexes = append(indexes, index.Name)
		}
	}
}

// unknownHint guesses which key was meant.
func unknownHint(name string, fields []field) string {
	if near := pg.Near(name, strings.Split(accepted(fields), ", ")); len(near) > 0 {
		return "did you mean " + near[0] + "?"
	}
	return ""
}

// numbers lists scheme numbers for an error.
func numbers(schemes map[int]Scheme) string {
	var all []string
	for _, number := range sortedNumbers(schemes) {
		all = append(all, strconv.Itoa(number))
	}
	return strings.Join(all, ", ")
}
