package ddl

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Payload is what a target holds that is no cell of ours: what a user's own encrypter made.
type Payload string

// The payloads, by the type of the target.
const (
	PayloadCell  Payload = ""      // none: a cell of ours, in bytea
	PayloadJSON  Payload = "jsonb" // a document that says what it belongs to
	PayloadEQL   Payload = "eql_v2_encrypted"
	PayloadText  Payload = "text"
	PayloadBytea Payload = "bytea"
)

// The conditions on a payload %[1]s, a column that is named first: capture finds the target by that. IS TRUE, for a
// field that is missing is NULL, which a CHECK lets pass. That a text is not its source's says little, but it is all
// that can be said of any encrypter's.
const (
	documentSQL = `%[1]s IS NULL OR (pg_catalog.jsonb_typeof(%[2]s) OPERATOR(pg_catalog.=) 'object'` +
		` AND pg_catalog.jsonb_typeof(%[2]s OPERATOR(pg_catalog.->) 'v') OPERATOR(pg_catalog.=) 'number'` +
		` AND (%[2]s OPERATOR(pg_catalog.->) 'i' OPERATOR(pg_catalog.->>) 't') OPERATOR(pg_catalog.=) ANY (ARRAY[%[3]s]::pg_catalog.text[])` +
		` AND (%[2]s OPERATOR(pg_catalog.->) 'i' OPERATOR(pg_catalog.->>) 'c') OPERATOR(pg_catalog.=) ANY (ARRAY[%[4]s]::pg_catalog.text[])` +
		` AND (pg_catalog.jsonb_exists(%[2]s, 'c') OR pg_catalog.jsonb_exists(%[2]s, 'sv'))) IS TRUE`
	otherTextSQL  = `%[1]s IS NULL OR (%[1]s COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) %[2]s::pg_catalog.text) IS NOT TRUE`
	otherBytesSQL = `%[1]s IS NULL OR (%[1]s OPERATOR(pg_catalog.=) %[2]s) IS NOT TRUE`
)

// PayloadTables and PayloadColumns are the names that a document may give for what it belongs to: the column's before
// its cutover and after it.
func (c Column) PayloadTables() []string  { return []string{c.Table.Name, c.Table.String()} }
func (c Column) PayloadColumns() []string { return []string{c.Source, c.Target} }

// payload is the condition that lets only NULL and payloads of this column in.
func (c Column) payload() string {
	target, source := pg.Ident(c.Target), pg.Ident(c.Source)
	switch c.Payload {
	case PayloadText:
		return fmt.Sprintf(otherTextSQL, target, source)
	case PayloadBytea:
		if !c.BytesInBytes {
			source = fmt.Sprintf("pg_catalog.convert_to(%s::pg_catalog.text, 'UTF8')", source)
		}
		return fmt.Sprintf(otherBytesSQL, target, source)
	}
	document := target
	if c.Payload == PayloadEQL {
		document = "(" + target + ").data"
	}
	return fmt.Sprintf(documentSQL, target, document, literals(c.PayloadTables()), literals(c.PayloadColumns()))
}
