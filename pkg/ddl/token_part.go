package ddl

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// On is the tokens of one partition that holds rows: its indexes have names of their own, which carry its oid, for the
// names of indexes are one for a whole schema, and a partition may be renamed.
func (t Token) On(leaf pg.Named) Token {
	t.Table, t.leaf = leaf.Table(), leaf.OID
	return t
}

// IndexName is the index that lookups use, of the table or of the partition.
func (t Token) IndexName() string { return t.suffixed(TokenIndexName(t.Index)) }

// ListName is the index on the rows that lack their token, of the table or of the partition.
func (t Token) ListName() string { return t.suffixed(TokenListName(t.Index)) }

func (t Token) suffixed(name string) string {
	if t.leaf == 0 {
		return name
	}
	return fmt.Sprintf("%s_%d", name, t.leaf)
}

// HoldParts keeps writers, and partitions that come and go, away until the transaction ends; readers go on.
func (t Token) HoldParts() string {
	return fmt.Sprintf("LOCK TABLE %s IN SHARE MODE", t.Table.SQL())
}

// Join makes the index that lookups use out of those that every partition has: Postgres takes them into the new one, and
// the levels between get theirs, in one statement that reads no row. A partition without one would be read under the
// lock: [Token.HoldParts], and a look, come first. Partitions that come later get theirs by Postgres itself. Undo takes
// the indexes of all partitions away with it.
func (t Token) Join() Step {
	name := TokenIndexName(t.Index)
	return Step{
		Do:   []string{fmt.Sprintf("CREATE INDEX %s ON %s (%s)", pg.Ident(name), t.Table.SQL(), pg.Ident(t.Name))},
		Undo: []string{fmt.Sprintf("DROP INDEX IF EXISTS %s", pg.Ident(t.Table.Schema, name))},
	}
}

// arrives is the condition that a token which comes in with its row is of the cell beside it: one that is marked, and in
// a partition also what was in another until now. An update that moves a row inserts it there, behind the triggers of
// where it was, which have taken its mark, or the token if it was not of the cell any more; who says that he knows what
// he writes is believed, as he is of the cell.
func (t Token) arrives(marked string) string {
	if !t.Parted {
		return marked
	}
	return fmt.Sprintf("%s OR (pg_catalog.octet_length(new.%s) OPERATOR(pg_catalog.=) %d AND (%s OR %s))", marked, pg.Ident(t.Name), t.Bytes, isClient, isRotation)
}

const isRotation = `pg_catalog.current_setting('` + WriterSetting + `', true) OPERATOR(pg_catalog.=) '` + WriterRotation + `'`
