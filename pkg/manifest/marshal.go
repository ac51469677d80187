package manifest

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// Marshal writes a manifest for people to review: with short comments, without the fields of the fleet, and the
// optional fields of columns, that have their defaults. [Parse] reads the same manifest back. A manifest that Parse
// would refuse is refused here, with the same [*Error].
func Marshal(m Manifest) ([]byte, error) {
	root := newBlock()
	root.node.HeadComment = "What cipherfleet is to do: intent only, no state, no secret. Names are literal: never folded, no quoting."
	root.number("version", m.Version, "")
	if m.KEK != "" {
		root.text("kek", m.KEK, "key-encryption key; a file is relative to this one; CIPHERFLEET_KEK wins")
	}
	if fleet := fleetBlock(m.Fleet); len(fleet.node.Content) > 0 {
		root.add("fleet", fleet.node, "")
	}
	tables := &yaml.Node{Kind: yaml.SequenceNode}
	for _, t := range m.Tables {
		tables.Content = append(tables.Content, tableBlock(t).node)
	}
	root.add("tables", tables, "")
	return encode(root.node)
}

// encode prints the node and proves that what is printed can be read.
func encode(root *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return nil, fmt.Errorf("write the manifest: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("write the manifest: %w", err)
	}
	if _, err := Parse(out.Bytes()); err != nil {
		return nil, fmt.Errorf("write the manifest: %w", err)
	}
	return out.Bytes(), nil
}

// block is a mapping under construction, in the order of its fields.
type block struct{ node *yaml.Node }

func newBlock() block { return block{&yaml.Node{Kind: yaml.MappingNode}} }

func (b block) add(key string, value *yaml.Node, comment string) {
	name := &yaml.Node{}
	name.SetString(key)
	if value.Kind == yaml.ScalarNode || value.Style == yaml.FlowStyle {
		value.LineComment = comment
	}
	b.node.Content = append(b.node.Content, name, value)
}

func (b block) text(key, value, comment string) {
	node := &yaml.Node{}
	node.SetString(value)
	b.add(key, node, comment)
}

func (b block) number(key string, value int, comment string) {
	b.add(key, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(value)}, comment)
}

func (b block) duration(key string, value time.Duration, comment string) {
	b.text(key, FormatDuration(value), comment)
}

// flow sets a block in braces on one line.
func (b block) flow() *yaml.Node {
	b.node.Style = yaml.FlowStyle
	return b.node
}

func fleetBlock(f Fleet) block {
	b, usual := newBlock(), Default().Fleet
	if f.Concurrency != usual.Concurrency {
		b.number("concurrency", f.Concurrency, "ranges in work at once, all workers together")
	}
	if f.Chunk != usual.Chunk {
		chunk := newBlock()
		chunk.number("rows", f.Chunk.Rows, "")
		chunk.text("bytes", FormatSize(f.Chunk.Bytes), "")
		chunk.duration("time", f.Chunk.Time, "")
		b.add("chunk", chunk.flow(), "ceilings")
	}
	if f.RowsPerSecond != usual.RowsPerSecond {
		b.number("rows_per_second", f.RowsPerSecond, "0 = no cap")
	}
	if f.LockTimeout != usual.LockTimeout {
		b.duration("lock_timeout", f.LockTimeout, "")
	}
	if f.StatementTimeout != usual.StatementTimeout {
		b.duration("statement_timeout", f.StatementTimeout, "")
	}
	if f.QuarantineBudget != usual.QuarantineBudget {
		b.number("quarantine_budget", f.QuarantineBudget, "more rows than this: the job fails")
	}
	if f.UserTriggers != "" {
		b.text("user_triggers", f.UserTriggers, "fire | skip")
	}
	return b
}

func tableBlock(t Table) block {
	b := newBlock()
	b.text("schema", t.Schema, "")
	b.text("table", t.Name, "")
	if len(t.Key) > 0 {
		b.add("key", flowList(t.Key), "rows are walked in its order")
	}
	if t.Where != "" {
		b.text("where", t.Where, "SQL over a row; such a table cannot cut over")
	}
	columns := &yaml.Node{Kind: yaml.SequenceNode}
	for _, c := range t.Columns {
		columns.Content = append(columns.Content, columnBlock(c).node)
	}
	b.add("columns", columns, "")
	return b
}

// flowList is a list in one line.
func flowList(names []string) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, name := range names {
		node := &yaml.Node{}
		node.SetString(name)
		list.Content = append(list.Content, node)
	}
	return list
}

func columnBlock(c Column) block {
	b, usual := newBlock(), DefaultColumn(c.Source)
	b.text("source", c.Source, "")
	b.text("target", c.Target, "")
	switch {
	case !c.Made():
		b.text("type", c.Type, "of the target: bytea | text | jsonb | eql_v2_encrypted")
	case c.Type != "":
		b.text("type", c.Type, "of a target that is added")
	}
	b.text("transform", c.Transform, "encrypt | reencrypt | decrypt | external | proxy | expression | copy")
	if c.From != nil {
		b.add("from", fromBlock(*c.From).flow(), "who encrypted the source; keys by their names")
	}
	if c.Expression != "" {
		b.text("expression", c.Expression, "")
	}
	if c.Done != (Done{}) {
		b.add("done", doneBlock(c.Done).flow(), "which rows are done")
	}
	if c.External != (External{}) {
		external := newBlock()
		external.text("subject", c.External.Subject, "")
		external.text("key", c.External.Key, "")
		b.add("external", external.flow(), "")
	}
	if c.Scheme > 0 {
		b.number("scheme", c.Scheme, "the one that is written")
	}
	if len(c.Schemes) > 0 {
		b.add("schemes", schemesBlock(c.Schemes).node, "")
	}
	if len(c.Indexes) > 0 {
		b.add("indexes", indexNodes(c.Indexes), "")
	}
	b.text("reach", c.Reach, "schema-added | dual-writing | backfilled | cut-over | dropped")
	if c.Cutover != usual.Cutover {
		b.text("cutover", c.Cutover, "swap | by-name")
	}
	if c.Soak != usual.Soak {
		b.duration("soak", c.Soak, "no foreign write for so long before cut-over")
	}
	return b
}

func doneBlock(d Done) block {
	b := newBlock()
	if d.When != "" {
		b.text("when", d.When, "")
		return b
	}
	b.text("version", d.Version, "")
	b.number("number", int(d.Number), "")
	return b
}

func schemesBlock(schemes map[int]Scheme) block {
	b, usual := newBlock(), DefaultScheme()
	b.node.HeadComment = "append only: a listed number never changes"
	for _, number := range sortedNumbers(schemes) {
		s, one := schemes[number], newBlock()
		one.text("suite", s.Suite, "")
		one.text("binding", s.Binding, "")
		if len(s.Columns) > 0 {
			one.add("columns", flowList(s.Columns), "")
		}
		one.number("padding", s.Padding, "")
		one.text("nulls", s.Nulls, "")
		if s.Tenant != "" {
			one.text("tenant", s.Tenant, "")
		}
		if s.Retain != usual.Retain {
			one.duration("retain", s.Retain, "")
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(number)}
		b.node.Content = append(b.node.Content, key, one.flow())
	}
	return b
}

func indexNodes(indexes []Index) *yaml.Node {
	all := &yaml.Node{Kind: yaml.SequenceNode}
	for _, x := range indexes {
		one := newBlock()
		one.text("name", x.Name, "")
		one.text("kind", x.Kind, "")
		one.text("normalise", x.Normalise, "")
		one.number("bytes", x.Bytes, "")
		one.add("unique", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(x.Unique)}, "")
		if x.Few {
			one.add("few_values", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}, "")
		}
		all.Content = append(all.Content, one.flow())
	}
	return all
}
