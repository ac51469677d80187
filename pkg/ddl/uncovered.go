package ddl

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// UncoveredIndexName is the name of the partial index on the uncovered rows of one leaf. It carries the leaf's oid: the
// names of indexes are one for a whole schema, and a leaf may be renamed.
func (c Column) UncoveredIndexName(leaf pg.Named) string {
	return fmt.Sprintf("cipherfleet_%d_uncovered_%d", c.ID, leaf.OID)
}

// UncoveredIndex builds that index beside readers and writers: it cannot run in a transaction, and leaves an invalid
// index behind when it fails; undo takes that away. It holds the keys of uncovered rows only, so it is empty when
// nothing is left to do, and tells so without reading the table.
func (c Column) UncoveredIndex(leaf pg.Named) Step {
	name := c.UncoveredIndexName(leaf)
	return Step{
		Do: []string{fmt.Sprintf("CREATE INDEX CONCURRENTLY IF NOT EXISTS %s ON %s (%s) WHERE %s",
			pg.Ident(name), leaf.Table().SQL(), pg.Idents(c.Key), c.uncovered())},
		Undo: []string{fmt.Sprintf("DROP INDEX CONCURRENTLY IF EXISTS %s", pg.Ident(leaf.Schema, name))},
	}
}

// Uncovered is the query for whether a leaf has an uncovered row: one bool. With the index it reads no row that is
// covered. It is for a column that is [Column.Indexable].
func (c Column) Uncovered(leaf pg.Named) string {
	return fmt.Sprintf("SELECT EXISTS (SELECT FROM ONLY %s t WHERE %s)", leaf.Table().SQL(), c.uncovered())
}

// uncovered is the condition as the engine writes it, so that its sweeps can use the index too.
func (c Column) uncovered() string {
	if c.Expression != nil {
		return c.Undone("")
	}
	if c.Nulls {
		return pg.Ident(c.Target) + " IS NULL"
	}
	return fmt.Sprintf("(%s IS NULL) OPERATOR(pg_catalog.=) (%s IS DISTINCT FROM NULL)", pg.Ident(c.Target), pg.Ident(c.Source))
}
