// Package manifest reads and writes cipherfleet.yaml, the reviewable intent: which columns of which tables are to be
// moved, by which transform, under which scheme, and how far.
//
// Words: a [Manifest] holds intent only, never state and never a secret. A [Table] names a table literally: names are
// not folded and not quoted, so Users means "Users". A [Column] is one move: from its source column to its target
// column by a transform. A [Scheme] is a numbered configuration of a column's cells; the numbers listed in a manifest
// are append-only, a listed number never changes its meaning. The reach of a column is the phase it is to arrive at.
// A [Problem] is something wrong with the text, at a line and column.
package manifest

import (
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
)

// Version is the newest manifest version this program understands.
const Version = 1

// FileName is what a manifest is called unless a user says otherwise.
const FileName = "cipherfleet.yaml"

// Manifest is one parsed file: complete, valid, defaults filled in.
type Manifest struct {
	Version int
	KEK     string // URI of the key-encryption key; file: paths are relative to the manifest; "" when left out
	Fleet   Fleet
	Tables  []Table
}

// Fleet bounds what all workers together may do to the database.
type Fleet struct {
	Concurrency      int // ranges in work at once
	Chunk            Chunk
	RowsPerSecond    int // 0: no cap
	LockTimeout      time.Duration
	StatementTimeout time.Duration
	QuarantineBudget int    // rows that may be set aside before the job fails
	UserTriggers     string // fire or skip; "" when left out: nobody has acknowledged that triggers exist
}

// Chunk is a ceiling: no transaction covers more.
type Chunk struct {
	Rows  int
	Bytes int64
	Time  time.Duration
}

// Table is one table and the columns to move in it.
type Table struct {
	Schema, Name string
	Key          []string // empty: the primary key, else a NOT NULL unique index
	Where        string   // SQL over a row of the table; "" means every row
	Columns      []Column
}

// Column is one move of values from a source column to a target column.
type Column struct {
	Source, Target string
	Type           string // of the target column
	Transform      string
	External       External
	From           *messages.Origin // of transform reencrypt: who encrypted the values of the source
	Expression     string           // of transform expression
	Done           Done             // which rows an expression is done with
	Scheme         int              // the number that is written; 0 only where the transform writes no cells of ours
	Schemes        map[int]Scheme
	Indexes        []Index
	Reach          string // the phase to arrive at
	Cutover        string
	Soak           time.Duration // no foreign write for so long before cutover
}

// Done says which rows an expression is done with: those whose Version is at least Number, or those for which When is
// true; the zero Done: those whose target is what the expression makes.
type Done struct {
	Version string
	Number  int64
	When    string
}

// External says who else transforms the values, for the transform of that name.
type External struct{ Subject, Key string }

// Scheme is what the cells of one scheme number are like.
type Scheme struct {
	Suite, Binding string
	Columns        []string // that binding columns binds cells to, in this order
	Padding        int      // block in bytes
	Nulls          string
	Tenant         string        // column that chooses the key; "" means one key for all rows
	Retain         time.Duration // how long a retired key stays readable
}

// Index is a companion column to search by, built after the backfill.
type Index struct {
	Name, Kind, Normalise string
	Bytes                 int
	Unique                bool
	Few                   bool // few_values: the column may have few different values
}

// Default is a manifest without tables, with the defaults of every other field.
func Default() Manifest {
	return Manifest{Version: Version, Fleet: Fleet{
		Concurrency: 8, Chunk: Chunk{Rows: 5000, Bytes: 4 << 20, Time: 250 * time.Millisecond},
		LockTimeout: time.Second, StatementTimeout: 10 * time.Second, QuarantineBudget: 100,
	}}
}

// DefaultTable has the defaults of a table's fields.
func DefaultTable() Table { return Table{Schema: "public"} }

// DefaultColumn has the defaults of a column's fields for the given source.
func DefaultColumn(source string) Column {
	return Column{Source: source, Target: source + "_encrypted", Type: "bytea", Transform: "encrypt",
		Reach: "backfilled", Cutover: "swap", Soak: 24 * time.Hour}
}

// DefaultScheme has the defaults of a scheme's fields.
func DefaultScheme() Scheme {
	return Scheme{Suite: "xaes-256-gcm", Binding: "pk", Padding: 16, Nulls: "keep", Retain: 720 * time.Hour}
}

// DefaultIndex has the defaults of an index's fields.
func DefaultIndex() Index { return Index{Kind: "blind", Normalise: "exact", Bytes: 16} }
