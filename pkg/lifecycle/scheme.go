package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// SchemeState says what may be done with a scheme's cells.
type SchemeState string

// The states of a scheme.
const (
	SchemeReadable  SchemeState = "readable"  // opened, not sealed with
	SchemeActive    SchemeState = "active"    // sealed with; at most one per column
	SchemeRetired   SchemeState = "retired"   // no cell is left; its key is kept
	SchemeDestroyed SchemeState = "destroyed" // its key is gone for good
)

// SchemeConflictError refuses a scheme whose number is taken by another definition: schemes are immutable.
type SchemeConflictError struct {
	Whose
	Have, Want cell.Scheme
}

// Error says which one it is.
func (e *SchemeConflictError) Error() string {
	return fmt.Sprintf("scheme %d of %s is another one already (suite %s, codec %s, binding %s, padding %d, nulls %s): give the new definition the next number",
		e.Have.Number, e.Of(e.Have.Column), e.Have.Suite, e.Have.Codec, e.Have.Binding(), e.Have.Padding, e.Have.Nulls)
}

// Hint says why.
func (e *SchemeConflictError) Hint() string {
	return "a scheme never changes, because cells carry its number; scheme ls shows what each is, with its tenant column and retention"
}

// NumberError refuses a scheme whose number is not above every one its column ever had.
type NumberError struct {
	Whose
	Column uint32
	Number uint16
}

// Error says which number.
func (e *NumberError) Error() string {
	return fmt.Sprintf("scheme %d of %s: its number was used before, or a higher one was", e.Number, e.Of(e.Column))
}

// Hint says what to do.
func (e *NumberError) Hint() string { return "schemes are numbered upwards: take the next number" }

// DamageError says that the registry is not as it was written: a key is gone from it, or another one stands in its
// place. Cells of that scheme can be neither sealed nor opened until it is brought back.
type DamageError struct {
	Whose
	Column uint32
	Scheme uint16
	Index  uint32 // id of a blind index, if its key is damaged and no scheme's
	Named  string // what that is called
	Err    error  // what is wrong
}

// Error says which scheme is damaged, and how.
func (e *DamageError) Error() string {
	if e.Index != 0 {
		return fmt.Sprintf("the registry is damaged: blind index %q of %s: %v", e.Named, e.Of(e.Column), e.Err)
	}
	return fmt.Sprintf("the registry is damaged: scheme %d of %s: %v", e.Scheme, e.Of(e.Column), e.Err)
}

// Unwrap returns what is wrong.
func (e *DamageError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *DamageError) Hint() string {
	if e.Index != 0 {
		return fmt.Sprintf("bring the row of blind index %d in cipherfleet.deks back from a backup, with the id it had; a new key would make other tokens: or make the next generation of the index", e.Index)
	}
	return fmt.Sprintf("bring the row of column %d, scheme %d in cipherfleet.deks back from a backup, with the id it had; a new key would open no cell that is there", e.Column, e.Scheme)
}

// key is a scheme with its wrapped DEK, as the registry holds them.
type key struct {
	scheme          cell.Scheme
	state           SchemeState
	kek             string
	wrapped, canary []byte
	tenant          string // whose rows it seals; "": all, or those of no tenant
	tenantColumn    string // of the scheme, like retain
	retain          time.Duration
	of              Whose
}

// schemeOf is the name of a scheme's column.
const schemeOf = `coalesce((SELECT pg_catalog.concat_ws('.', c.schema_name, c.table_name, c.source) FROM cipherfleet.columns c WHERE c.id = s.column_id), '')`

// A scheme is written together with its key, and marked before its key is destroyed: one without is found, as damage.
const keySQL = `SELECT s.column_id, s.number, s.suite, s.codec, ` + bindingSQL + `, s.padding, s.nulls, s.state, coalesce(d.id, 0), coalesce(d.kek, ''), d.wrapped, d.canary, coalesce(d.tenant, ''), coalesce(s.tenant_column, ''), ` + retainSQL + `, ` + schemeOf + `
 FROM cipherfleet.schemes s LEFT JOIN cipherfleet.deks d ON d.column_id = s.column_id AND d.scheme = s.number AND d.wrapped IS NOT NULL
 WHERE s.state IN ('readable', 'active')`

func scanKey(row pgx.CollectableRow) (k key, err error) {
	var binding, columns string
	s := &k.scheme
	if err = row.Scan(&s.Column, &s.Number, &s.Suite, &s.Codec, &binding, &columns, &s.Padding, &s.Nulls, &k.state, &s.KeyID, &k.kek, &k.wrapped, &k.canary, &k.tenant, &k.tenantColumn, &k.retain, &k.of.Name); err == nil {
		*s, err = s.Bind(binding, columns)
	}
	return k, err
}

// bindingSQL is a scheme's binding, and its columns as [cell.BoundTo] writes them. A schema of before version 5 knows none.
const bindingSQL = `s.binding, ` + BoundSQL

// retainSQL is how long a scheme is retained, in nanoseconds: an interval is printed as each session likes, and is read in
// one way only where all comes as text.
const retainSQL = `(extract(epoch FROM s.retain) OPERATOR(pg_catalog.*) 1000000000)::pg_catalog.int8`

// BoundSQL are the columns that scheme s is bound to, as [cell.BoundTo] writes them; "" where there are none.
const BoundSQL = `coalesce((SELECT pg_catalog.string_agg(b.n || b.t, ',' ORDER BY b.o) FROM ROWS FROM (
 pg_catalog.jsonb_array_elements_text(nullif(pg_catalog.to_jsonb(s)->'bound_attnums', 'null')), pg_catalog.string_to_table(pg_catalog.to_jsonb(s)->>'bound_tags', NULL)) WITH ORDINALITY b (n, t, o)), '')`

// ActivateScheme makes a scheme if the registry has none of its number, and has its column sealed with it: what
// [Registrar.NewScheme] and [Registrar.ActivateScheme] do, for a rung whose own event tells of it. A number that exists
// must have the same definition ([*SchemeConflictError]). After a failure half-way the next call goes on where this one
// stood.
func ActivateScheme(ctx context.Context, db *pg.DB, kek cell.KEK, want cell.Scheme) (cell.Scheme, error) {
	return ActivateFirst(ctx, db, kek, Definition{Scheme: want})
}

// ActivateFirst is the same for a scheme that may have a tenant column, and a retention of its own.
func ActivateFirst(ctx context.Context, db *pg.DB, kek cell.KEK, want Definition) (cell.Scheme, error) {
	r := Registrar{DB: db, KEK: kek, silent: true}
	made, err := r.NewScheme(ctx, want)
	if err != nil {
		return cell.Scheme{}, err
	}
	return made, r.ActivateScheme(ctx, made.Column, made.Number)
}
