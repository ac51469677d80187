package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client/kind"
	"github.com/cipherfleet/cipherfleet/pkg/client/place"
	"github.com/cipherfleet/cipherfleet/pkg/client/token"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Column is a handle on one column. It goes by the column's place in its table, so it follows cutovers, rollbacks and
// renames, and is good for as long as its client. It is safe for concurrent use.
type Column struct {
	client *Client
	table  pg.Table
	name   string
	at     *atomic.Pointer[standing] // replaced as a whole, never changed in place
}

// Columns are handles that statements and rows are read with: those of one table, or of several that are joined.
type Columns []*Column

// Column is the handle on a column, by the name that the application always knew it by: that of its plaintext. Nobody
// needs to have registered it yet: until then it is a column like any other. The table is "schema.table", each part
// quoted as in SQL if need be.
func (c *Client) Column(ctx context.Context, table, name string) (*Column, error) {
	columns, err := c.Table(ctx, table, name)
	if err != nil {
		return nil, err
	}
	return columns[0], nil
}

// As is the same column by another name in placeholders, for statements that know two columns of one name.
func (c *Column) As(name string) *Column {
	return &Column{client: c.client, table: c.table, name: name, at: c.at}
}

// Table is the handles on several columns of one table. Asked again, it returns the same ones.
func (c *Client) Table(ctx context.Context, table string, names ...string) (Columns, error) {
	parsed, err := parseTable(table)
	if err != nil {
		return nil, err
	}
	columns, fresh := c.handles(parsed, names)
	if len(fresh) == 0 {
		return columns, nil
	}
	if err := c.look(ctx, fresh); err != nil {
		return nil, fmt.Errorf("open the columns of %s: %w", parsed, err)
	}
	columns, _ = c.handles(parsed, names) // somebody else may have been quicker
	return columns, nil
}

// keep has handles followed from now on, unless there are such by now.
func (c *Client) keep(fresh Columns) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, column := range fresh {
		if c.columns.at(column.table, column.name) == nil {
			c.columns = append(c.columns, column)
		}
	}
}

// handles are those on the columns, and among them the fresh ones, which nobody has looked at yet.
func (c *Client) handles(table pg.Table, names []string) (columns, fresh Columns) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		column := c.columns.at(table, name)
		if column == nil {
			column = &Column{client: c, table: table, name: name, at: new(atomic.Pointer[standing])}
			fresh = append(fresh, column)
		}
		columns = append(columns, column)
	}
	return columns, fresh
}

// at is the handle on a column; nil if there is none.
func (cs Columns) at(table pg.Table, name string) *Column {
	at := slices.IndexFunc(cs, func(c *Column) bool { return c.table == table && c.name == name })
	if at < 0 {
		return nil
	}
	return cs[at]
}

// missing names the first column that is not there.
func (cs Columns) missing() error {
	for _, column := range cs {
		if column.at.Load() == nil {
			return fmt.Errorf("there is no column %q, under that name or as one that was registered", column.name)
		}
	}
	return nil
}

func (c *Client) opened() Columns {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.columns)
}

// parseTable reads a qualified name as SQL would: what is not quoted is taken in lower case.
func parseTable(text string) (pg.Table, error) {
	var parts []string
	rest := text
	for {
		part, after, err := cutName(rest)
		if err != nil {
			return pg.Table{}, fmt.Errorf("read table name %q: %w", text, err)
		}
		parts = append(parts, part)
		if after == "" {
			break
		}
		if after[0] != '.' {
			return pg.Table{}, fmt.Errorf("read table name %q: want schema.table", text)
		}
		rest = after[1:]
	}
	if len(parts) != 2 {
		return pg.Table{}, fmt.Errorf("read table name %q: want schema.table", text)
	}
	return pg.Table{Schema: parts[0], Name: parts[1]}, nil
}

// cutName cuts one identifier off.
func cutName(text string) (name, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, `."`)
		if end < 0 {
			end = len(text)
		}
		if end == 0 {
			return "", "", errors.New("a name is empty")
		}
		return strings.ToLower(text[:end]), text[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] != '"':
			b.WriteByte(text[i])
		case i+1 < len(text) && text[i+1] == '"':
			b.WriteByte('"')
			i++
		default:
			return b.String(), text[i+1:], nil
		}
	}
	return "", "", errors.New("a quoted name does not end")
}

// standing is what is known of a column as of one look. It never changes.
type standing struct {
	id                  uint32 // 0: nobody has registered it
	relid               uint32
	table               pg.Table
	phase               lifecycle.Phase
	turn                int64  // the last event after which a name may mean another column; 0: none yet
	plain, sealed       string // present names; "": not there
	plainNum, sealedNum int16
	mayPlain, maySeal   bool      // the role may write the columns
	form                cell.Form // in which the column holds cells
	foreign             bool      // it holds something else: nobody has given it a scheme
	kind                kind.Kind
	key                 *place.Columns            // nil: rows cannot be told apart
	bound               map[string]*place.Columns // what schemes are bound to beside the key, by their labels
	tenants             map[uint16]tenantColumn   // of schemes with a key for each tenant
	tokens              token.Set

	twin *standing // the column that the cells move into, or out of: its cells are written, too; nil: they stay
	kin  []uint32  // other columns of ours whose cells may stand where this one's do, for a moment around a cutover
}

// tenantColumn is the column whose value chooses a row's key.
type tenantColumn struct {
	name string
	kind kind.Kind
}

// cells says whether cells are the truth: from the cutover on.
func (s *standing) cells() bool {
	return s.id != 0 && s.sealed != "" && (s.phase == lifecycle.PhaseCutOver || s.phase == lifecycle.PhaseDropped || s.plain == "")
}

// both says whether a write sets plaintext and cell.
func (s *standing) both() bool { return s.setsPlain() && s.setsCell() }

// setsCell: as soon as there is a column of cells that this role may write. Before the cutover a write without its cell
// leaves the row uncovered, which is noticed; failing instead would stop an application that could do its work before.
func (s *standing) setsCell() bool {
	return s.cells() || s.id != 0 && s.sealed != "" && s.maySeal && !s.foreign
}

// setsPlain: until it is gone.
func (s *standing) setsPlain() bool { return s.plain != "" && (!s.cells() || s.mayPlain) }

// writes are the names that a write sets.
func (s *standing) writes() (names []string) {
	if s.setsPlain() {
		names = append(names, s.plain)
	}
	if s.setsCell() {
		names = append(append(names, s.sealed), s.tokens.Names()...)
	}
	if s.twin != nil {
		names = append(names, s.twin.sealed)
	}
	return names
}

// now is where the column stands, with the indexes of this moment.
func (s *standing) now() *standing {
	at := *s
	at.tokens = s.tokens.Now()
	return &at
}

// mayBeText says whether text may be a cell: where cells are bytea it is plaintext, whatever it looks like.
func (s *standing) mayBeText() bool { return s.id == 0 || s.form != cell.FormBytes || s.cells() }

// stored is a cell as an argument for its column; nil is NULL.
func (s *standing) stored(sealed []byte) any {
	switch {
	case sealed == nil:
		return nil
	case s.form == cell.FormBytes:
		return sealed
	}
	return string(s.form.Append(make([]byte, 0, s.form.Length(len(sealed))), sealed))
}

// reads is the name under which the truth stands.
func (s *standing) reads() string {
	if s.cells() {
		return s.sealed
	}
	return s.plain
}

// Report says where the column stands for the client, without asking anybody.
func (c *Column) Report() ColumnReport {
	r := ColumnReport{Table: c.table, Column: c.name}
	if s := c.at.Load(); s != nil {
		r.ID, r.Phase, r.Reads, r.Writes = s.id, s.phase, s.reads(), s.writes()
		if scheme, ok := c.client.chain.Active(s.id); ok {
			r.Scheme = scheme.Number
		}
	}
	return r
}
