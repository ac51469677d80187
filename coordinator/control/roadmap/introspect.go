package roadmap

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Introspection is what a look at a database proposes to encrypt.
type Introspection struct {
	V      int             `json:"v"`
	At     time.Time       `json:"at"`
	Looked int             `json:"tables_looked_at"`
	Tables []ProposedTable `json:"tables"` // with a column to propose; by name
}

// ProposedTable is a table with columns that may be worth encrypting.
type ProposedTable struct {
	Table        string           `json:"table"`
	Schema       string           `json:"schema"`
	Name         string           `json:"name"`
	Rows         int64            `json:"rows"`  // estimated
	Bytes        int64            `json:"bytes"` // of the table, without its indexes
	Key          []string         `json:"key"`   // that rows would be walked by; empty: there is none
	Triggers     []string         `json:"triggers"`
	Publications []string         `json:"publications"`
	Columns      []ProposedColumn `json:"columns"`
}

// ProposedColumn is one column, and what knows it.
type ProposedColumn struct {
	Column     string               `json:"column"`
	Type       string               `json:"type"`
	Why        string               `json:"why"`           // the word in its name; "": it was asked for
	Bytes      float64              `json:"average_bytes"` // of a value; 0: not known
	Indexes    []string             `json:"indexes"`
	Checks     []string             `json:"constraints"`
	Dependents []standing.Dependent `json:"dependents"` // views, functions and all else that a cutover has to mind
	Registered bool                 `json:"registered"` // it is in cipherfleet's care already
	Refused    []Obstacle           `json:"refused"`    // why a backfill would not begin
}

// IntrospectRequest narrows the look. The zero one is the whole database, by the heuristic.
type IntrospectRequest struct {
	Table   *pg.Table // nil: every table
	Columns []string  // of that table, whatever their names; empty: by the heuristic
}

// SensitiveWords are the words in a column's name by which the heuristic proposes it, if its type is a text, a date or
// JSON. It knows nothing of what the column holds.
func SensitiveWords() []string {
	return []string{"address", "bic", "birth", "birthdate", "birthday", "card", "cvv", "diagnosis", "dob", "email", "fax", "firstname", "iban", "ip", "lastname", "license",
		"mail", "medical", "mobile", "nin", "pan", "passport", "password", "phone", "pin", "salary", "secret", "sin", "ssn", "street", "surname", "swift", "tax", "tel", "telephone", "tin", "token", "vat", "zip"}
}

const userTablesSQL = `SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'cipherfleet', 'eql_v2')
  AND NOT n.nspname ^@ 'pg_' AND ($1::oid = 0 OR c.oid = $1)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`

// Introspect looks at every table that is not a system's, an extension's or our own, and proposes columns by the words in
// their names. It changes nothing, reads no row, and works before anything is installed.
func Introspect(ctx context.Context, db *pg.DB, r IntrospectRequest) (i Introspection, err error) {
	i = Introspection{V: messages.Version, Tables: []ProposedTable{}}
	err = standing.Reading(ctx, db, "30s", func(tx pg.Tx) error {
		v, err := status.TakeSurvey(ctx, tx, manifest.Default(), "")
		if err != nil {
			return err
		}
		i.At = v.At
		only, err := tableOID(ctx, tx, r.Table)
		if err != nil {
			return err
		}
		tables, err := pg.Values[uint32](ctx, tx, userTablesSQL, only)
		if err != nil {
			return fmt.Errorf("list tables: %w", err)
		}
		relations, err := pg.InspectAll(ctx, tx, tables)
		if err != nil {
			return err
		}
		if err := checkNamed(r, relations); err != nil {
			return err
		}
		i.Looked = len(relations)
		return i.propose(ctx, tx, v, r, relations)
	})
	return i, err
}

// checkNamed refuses columns that the one table does not have.
func checkNamed(r IntrospectRequest, relations map[uint32]pg.Relation) error {
	for _, relation := range relations {
		for at, name := range r.Columns {
			if _, has := relation.Column(name); !has {
				return preflight.NoColumn(relation, fmt.Sprintf("columns[%d]", at), name)
			}
		}
	}
	return nil
}

func tableOID(ctx context.Context, q pg.Querier, t *pg.Table) (uint32, error) {
	if t == nil {
		return 0, nil
	}
	found, err := pg.FindTables(ctx, q, []pg.Table{*t})
	if err == nil && found[*t] == 0 {
		_, err = pg.Inspect(ctx, q, t.Schema, t.Name) // it knows near names
		if err != nil {
			return 0, standing.Lack("table", "names are taken literally: upper and lower case differ", "%v", err)
		}
	}
	return found[*t], err
}

// propose fills in the tables.
func (i *Introspection) propose(ctx context.Context, q pg.Querier, v *status.Survey, r IntrospectRequest, relations map[uint32]pg.Relation) error {
	var of []uint32
	var attnums []int16
	var schemas, tables, names []string
	for oid, relation := range relations {
		for _, c := range relation.Columns {
			if _, is := proposed(c, r); is {
				of, attnums, names = append(of, oid), append(attnums, c.Attnum), append(names, c.Name)
				schemas, tables = append(schemas, relation.Schema), append(tables, relation.Name)
			}
		}
	}
	depends, err := standing.DependentsOf(ctx, q, of, attnums, names)
	if err != nil {
		return fmt.Errorf("look for dependents: %w", err)
	}
	widths := map[standing.Place]float64{}
	_, err = pg.Collect(ctx, q, widthsSQL, func(row pgx.CollectableRow) (p standing.Place, err error) {
		var bytes, nulls float64
		err = row.Scan(&p.Relation, &p.Attnum, &bytes, &nulls)
		widths[p] = bytes
		return p, err
	}, of, attnums, schemas, tables, names)
	if err != nil {
		return fmt.Errorf("read the widths of columns: %w", err)
	}
	for _, relation := range relations {
		t, err := i.table(ctx, q, v, r, relation, depends, widths)
		if err != nil {
			return err
		}
		if len(t.Columns) > 0 {
			i.Tables = append(i.Tables, t)
		}
	}
	slices.SortFunc(i.Tables, func(a, b ProposedTable) int { return strings.Compare(a.Table, b.Table) })
	return nil
}

func (i *Introspection) table(ctx context.Context, q pg.Querier, v *status.Survey, r IntrospectRequest, relation pg.Relation, depends map[standing.Place][]standing.Dependent, widths map[standing.Place]float64) (ProposedTable, error) {
	t := ProposedTable{Table: relation.Table().String(), Schema: relation.Schema, Name: relation.Name, Rows: relation.Rows(), Key: []string{},
		Triggers: []string{}, Publications: append([]string{}, relation.Publications...), Columns: []ProposedColumn{}}
	for _, leaf := range relation.Leaves {
		t.Bytes += leaf.Pages * blockSize
	}
	if key, usable := relation.UsableKey(); usable {
		t.Key = key.Names()
	}
	for _, g := range relation.Triggers {
		if !standing.IsOurs(g) {
			t.Triggers = append(t.Triggers, g.Name)
		}
	}
	for _, c := range relation.Columns {
		why, is := proposed(c, r)
		if !is {
			continue
		}
		p := ProposedColumn{Column: c.Name, Type: c.Type, Why: why, Bytes: widths[standing.Place{Relation: relation.OID, Attnum: c.Attnum}], Indexes: []string{}, Checks: []string{},
			Dependents: append([]standing.Dependent{}, depends[standing.Place{Relation: relation.OID, Attnum: c.Attnum}]...), Refused: []Obstacle{}}
		if err := i.column(ctx, q, v, relation, c, &p); err != nil {
			return t, err
		}
		t.Columns = append(t.Columns, p)
	}
	return t, nil
}

// blockSize is that of nearly every server; sizes are for reading only.
const blockSize = 8192

func (i *Introspection) column(ctx context.Context, q pg.Querier, v *status.Survey, relation pg.Relation, c pg.Column, p *ProposedColumn) error {
	for _, x := range relation.Indexes {
		if slices.Contains(x.Columns, c.Name) {
			p.Indexes = append(p.Indexes, x.Name)
		}
	}
	for _, k := range relation.Checks {
		if slices.Contains(k.Columns, c.Name) {
			p.Checks = append(p.Checks, k.Name)
		}
	}
	for _, known := range v.Columns {
		p.Registered = p.Registered || known.Relid == relation.OID && (known.SourceNum == c.Attnum || known.TargetNum == c.Attnum)
	}
	if p.Registered {
		return nil
	}
	request := messages.StartRequest{Schema: relation.Schema, Table: relation.Name, Prepare: true, UserTriggers: messages.TriggersFire, Columns: []messages.ColumnRequest{{Source: c.Name}}}
	refused, err := asked(ctx, q, v, relation, request, true)
	p.Refused = append(p.Refused, refused...)
	return err
}

// proposed says whether a column is worth a look, and which word of its name says so.
func proposed(c pg.Column, r IntrospectRequest) (why string, is bool) {
	if len(r.Columns) > 0 {
		return "", slices.Contains(r.Columns, c.Name)
	}
	text := c.Base.Category == "S" || slices.Contains([]string{"date", "jsonb", "json", "citext", "inet"}, c.Base.Name)
	if !text || c.Generated != "" {
		return "", false
	}
	words := nameWords(c.Name)
	for at, word := range words {
		pair := word
		if at+1 < len(words) {
			pair += words[at+1] // first_name, e_mail
		}
		for _, known := range SensitiveWords() {
			if word == known || word == known+"s" || pair == known {
				return known, true
			}
		}
	}
	return "", false
}

// nameWords takes a name apart: home_phone, homePhone and "Home Phone" are home and phone.
func nameWords(name string) []string {
	var b strings.Builder
	lower := false
	for _, r := range name {
		isUpper := r >= 'A' && r <= 'Z'
		switch {
		case isUpper && lower:
			b.WriteRune(' ')
			b.WriteRune(r)
		case isUpper || r >= 'a' && r <= 'z' || r > 127:
			b.WriteRune(r)
		default:
			b.WriteRune(' ')
		}
		lower = !isUpper && r >= 'a' && r <= 'z'
	}
	return strings.Fields(strings.ToLower(b.String()))
}
