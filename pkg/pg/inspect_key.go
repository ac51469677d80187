package pg

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Key is a unique index of the table, and whether rows can be walked by it: one total order in which every row has
// exactly one place.
type Key struct {
	Index    Named
	Primary  bool
	Columns  []KeyColumn // in the index's order, without INCLUDE columns; empty names where it holds an expression
	Unusable []string    // why rows cannot be walked by it, in words; empty when they can
}

// KeyColumn is one column of a key with the operators of its index.
type KeyColumn struct {
	Name      string
	Attnum    int16
	Operators Operators
}

// Operators are a b-tree's comparisons, for use under any search path.
type Operators struct{ Less, LessEqual, Equal, GreaterEqual, Greater Operator }

// Operator is one comparison operator.
type Operator struct{ Schema, Name string }

// SQL spells the operator so that no search path can change its meaning.
func (o Operator) SQL() string { return "OPERATOR(" + Ident(o.Schema) + "." + o.Name + ")" }

// Usable says whether rows can be walked by the key.
func (k Key) Usable() bool { return len(k.Unusable) == 0 }

// Names are the key's column names in order.
func (k Key) Names() []string {
	names := make([]string, len(k.Columns))
	for i, c := range k.Columns {
		names[i] = c.Name
	}
	return names
}

// UsableKey is the key to walk the table by when nobody names one: the primary key, else the narrowest usable unique
// index.
func (r Relation) UsableKey() (Key, bool) {
	i := slices.IndexFunc(r.Keys, Key.Usable)
	if i < 0 {
		return Key{}, false
	}
	return r.Keys[i], true
}

// KeyOf finds a unique index over exactly these columns, in any order; a usable one first.
func (r Relation) KeyOf(columns []string) (Key, bool) {
	wanted := slices.Sorted(slices.Values(columns))
	var found Key
	for _, k := range r.Keys {
		if !slices.Equal(slices.Sorted(slices.Values(k.Names())), wanted) {
			continue
		}
		if k.Usable() {
			return k, true
		}
		if len(found.Columns) == 0 {
			found = k
		}
	}
	return found, len(found.Columns) > 0
}

const keysSQL = `
SELECT c.oid, n.nspname::text, c.relname::text, i.indisprimary,
       pg_catalog.array_remove(ARRAY[
         CASE WHEN am.amname <> 'btree' THEN 'it is no b-tree but ' || am.amname END,
         CASE WHEN NOT (i.indisvalid AND i.indisready AND i.indislive) THEN 'it is not valid' END,
         CASE WHEN NOT i.indimmediate THEN 'it is deferrable' END,
         CASE WHEN i.indpred IS NOT NULL THEN 'it is partial' END,
         CASE WHEN i.indexprs IS NOT NULL THEN 'it holds an expression' END], NULL)
FROM pg_catalog.pg_index i
     JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_catalog.pg_am am ON am.oid = c.relam
WHERE i.indrelid = $1::pg_catalog.oid AND i.indisunique
ORDER BY i.indisprimary DESC, i.indnkeyatts, c.relname`

// A b-tree numbers its comparisons from 1: <, <=, =, >=, >. Index options: bit 0 descending, bit 1 nulls first.
const keyColumnsSQL = `
SELECT i.indexrelid, k.attnum, coalesce(a.attname::text, ''), k.options, coalesce(oc.opcdefault, false),
       coalesce(k.coll = a.attcollation, true), op.schemas, op.names
FROM pg_catalog.pg_index i
     CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey), pg_catalog.unnest(i.indclass), pg_catalog.unnest(i.indcollation),
       pg_catalog.unnest(i.indoption)) WITH ORDINALITY AS k (attnum, class, coll, options, position)
     LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum <> 0
     JOIN pg_catalog.pg_opclass oc ON oc.oid = k.class
     CROSS JOIN LATERAL (
       SELECT coalesce(pg_catalog.array_agg(n.nspname::text ORDER BY p.amopstrategy), '{}') AS schemas,
              coalesce(pg_catalog.array_agg(o.oprname::text ORDER BY p.amopstrategy), '{}') AS names
       FROM pg_catalog.pg_amop p
            JOIN pg_catalog.pg_operator o ON o.oid = p.amopopr JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
            JOIN pg_catalog.pg_am am ON am.oid = p.amopmethod AND am.amname = 'btree'
       WHERE p.amopfamily = oc.opcfamily AND p.amoplefttype = oc.opcintype AND p.amoprighttype = oc.opcintype AND p.amoppurpose = 's') op
WHERE i.indrelid = $1::pg_catalog.oid AND i.indisunique AND k.position <= i.indnkeyatts
ORDER BY i.indexrelid, k.position`

// keyPart is one row of keyColumnsSQL.
type keyPart struct {
	index          uint32
	column         KeyColumn
	option         int16
	defaultClass   bool
	sameCollation  bool
	schemas, names []string
}

func inspectKeys(ctx context.Context, q Querier, all []*Relation) error {
	keys, err := readEach(ctx, q, keysSQL, scanKey, all)
	if err != nil {
		return fmt.Errorf("read unique indexes: %w", err)
	}
	parts, err := readEach(ctx, q, keyColumnsSQL, scanKeyPart, all)
	if err != nil {
		return fmt.Errorf("read columns of unique indexes: %w", err)
	}
	for _, r := range all {
		r.Keys = keys[r.OID]
		for i := range r.Keys {
			r.Keys[i].fill(*r, slices.DeleteFunc(slices.Clone(parts[r.OID]), func(p keyPart) bool { return p.index != r.Keys[i].Index.OID }))
		}
	}
	return nil
}

func scanKey(row pgx.CollectableRow) (k Key, err error) {
	return k, row.Scan(&k.Index.OID, &k.Index.Schema, &k.Index.Name, &k.Primary, &k.Unusable)
}

func scanKeyPart(row pgx.CollectableRow) (p keyPart, err error) {
	return p, row.Scan(&p.index, &p.column.Attnum, &p.column.Name, &p.option, &p.defaultClass, &p.sameCollation, &p.schemas, &p.names)
}

// fill adds the columns and what makes them unfit to walk by.
func (k *Key) fill(r Relation, parts []keyPart) {
	mixed := false
	for _, p := range parts {
		if len(p.names) == 5 {
			p.column.Operators = operatorsOf(p.schemas, p.names)
		}
		k.Columns = append(k.Columns, p.column)
		k.Unusable = append(k.Unusable, p.flaws(r)...)
		// Only a b-tree whose columns all run the same way, nulls last ascending or first descending, gives rows in
		// the order of a row comparison; any other would sort the whole table for every chunk.
		mixed = mixed || p.option != parts[0].option || (p.option != 0 && p.option != 3)
	}
	if mixed {
		k.Unusable = append(k.Unusable, "its columns do not all run in one plain direction")
	}
}

func (p keyPart) flaws(r Relation) (why []string) {
	column, found := r.Column(p.column.Name)
	if !found {
		return nil // an expression; the index says so already
	}
	name := fmt.Sprintf("%q", column.Name)
	if !column.NotNull {
		why = append(why, "column "+name+" may be NULL")
	}
	if !p.defaultClass {
		why = append(why, "column "+name+" has an operator class that is not its type's default")
	}
	if !p.sameCollation {
		why = append(why, "column "+name+" is indexed under another collation than its own")
	}
	return why
}

func operatorsOf(schemas, names []string) Operators {
	op := func(i int) Operator { return Operator{Schema: schemas[i], Name: names[i]} }
	return Operators{Less: op(0), LessEqual: op(1), Equal: op(2), GreaterEqual: op(3), Greater: op(4)}
}

// String names the key for people: its index and columns, never a value.
func (k Key) String() string {
	return fmt.Sprintf("%s (%s)", k.Index.Name, strings.Join(k.Names(), ", "))
}
