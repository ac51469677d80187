package index

import (
	"context"
	"fmt"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Index is one blind index of a column, for people and programs.
type Index struct {
	ID         uint32               `json:"id"`
	Name       string               `json:"name"`
	Generation int                  `json:"generation"`
	State      lifecycle.IndexState `json:"state"`
	Token      string               `json:"token"` // the column of tokens, under today's name; "": it is gone
	Normalise  string               `json:"normalise"`
	Bytes      int                  `json:"bytes"`
	Unique     bool                 `json:"unique"`
	Key        uint32               `json:"key"`
	KEK        string               `json:"kek"`
	Built      string               `json:"built"`     // valid, invalid or missing: what lookups use
	Missed     int64                `json:"missed"`    // rows left without a token since the column is there; rolled back ones count
	Uncovered  *int64               `json:"uncovered"` // rows without their token; null: not counted
	Created    time.Time            `json:"created"`
	Ready      *time.Time           `json:"ready"`
	Dropped    *time.Time           `json:"dropped"`
}

// What is built of an index.
const (
	BuiltValid   = "valid"
	BuiltInvalid = "invalid" // a build of it failed, or goes on
	BuiltMissing = "missing"
)

// List is every blind index a column ever had.
type List struct {
	V       int     `json:"v"`
	Table   string  `json:"table"`
	Column  string  `json:"column"`
	Indexes []Index `json:"indexes"`
}

// List lists them. With count it reads the whole table for the rows that lack their token.
func (r *Registry) List(ctx context.Context, n standing.Name, count bool) (List, error) {
	c, err := look(ctx, r.DB, n)
	if err != nil {
		return List{}, err
	}
	l := List{V: messages.Version, Table: c.Relation.Table().String(), Column: c.Source, Indexes: []Index{}}
	err = standing.Reading(ctx, r.DB, "0", func(tx pg.Tx) error {
		for _, x := range c.Rows {
			one, err := c.describe(ctx, tx, x, count)
			if err != nil {
				return err
			}
			l.Indexes = append(l.Indexes, one)
		}
		return nil
	})
	return l, err
}

// Show is one of them.
func (r *Registry) Show(ctx context.Context, n standing.Name, name string, generation int, count bool) (d Index, err error) {
	c, err := look(ctx, r.DB, n)
	if err != nil {
		return d, err
	}
	x, err := c.named(name, generation)
	if err != nil {
		return d, err
	}
	err = standing.Reading(ctx, r.DB, "0", func(tx pg.Tx) error {
		d, err = c.describe(ctx, tx, x, count)
		return err
	})
	return d, err
}

// describe looks at what stands of an index.
func (c column) describe(ctx context.Context, q pg.Querier, x lifecycle.Index, count bool) (d Index, err error) {
	d = Index{ID: x.ID, Name: x.Name, Generation: x.Generation, State: x.State, Normalise: spelled(x.Normaliser), Bytes: x.Bytes, Unique: x.Unique,
		Key: x.Key, KEK: x.KEK, Built: BuiltMissing, Created: x.Created}
	if !x.Ready.IsZero() {
		d.Ready = &x.Ready
	}
	if !x.Dropped.IsZero() {
		d.Dropped = &x.Dropped
	}
	attnum := int16(0)
	if attnum, d.Token, err = place(ctx, q, c, x); err != nil || attnum == 0 {
		return d, err
	}
	if d.Built, err = built(ctx, q, c, x); err != nil {
		return d, err
	}
	if d.Missed, err = missed(ctx, q, x); err != nil || !count || c.Sealed.Attnum == 0 {
		return d, err
	}
	d.Uncovered = new(int64)
	sql := fmt.Sprintf("SELECT pg_catalog.count(*) FROM %s t WHERE %s", c.Relation.Table().SQL(), c.steps(x, d.Token, nil).Uncovered())
	if err := q.QueryRow(ctx, sql).Scan(d.Uncovered); err != nil {
		return d, fmt.Errorf("count rows without a token: %w", err)
	}
	return d, nil
}

// missed counts the rows that were left without a token; 0 where the count cannot be read.
func missed(ctx context.Context, q pg.Querier, x lifecycle.Index) (n int64, err error) {
	may := false
	if err := q.QueryRow(ctx, `SELECT coalesce(pg_catalog.has_sequence_privilege(pg_catalog.to_regclass($1)::oid, 'SELECT'), false)`, ddl.TokenSequence(x.ID)).Scan(&may); err != nil || !may {
		return 0, err
	}
	if err := q.QueryRow(ctx, ddl.TokenMissed(x.ID)).Scan(&n); err != nil {
		return 0, fmt.Errorf("count rows left without a token: %w", err)
	}
	return n, nil
}
