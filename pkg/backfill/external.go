package backfill

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// External is a user's own encrypter, who makes what the target of a column holds.
type External struct {
	Subject string `json:"subject"`       // where it is asked
	Key     string `json:"key,omitempty"` // its own name for the column

	// What payloads may name, by the names of when the target's CHECK was made; the source is the log's.
	Table  pg.Table `json:"table"`
	Target string   `json:"target"`
}

// Foreign says that the column's target holds no cells of ours: nobody here can open it.
func (c Column) Foreign() bool { return c.External.Subject != "" }

// Foreign is the same of a column that is not open.
func (c SpecColumn) Foreign() bool { return c.External.Subject != "" }

// foreign is how the values of a target are sent and read that holds no cells: always as text.
type foreign struct {
	payload ddl.Payload
	of      ddl.Column // names, for what a payload has to say
	oid     uint32     // of a value
	list    uint32     // of the array that lists them
	row     string     // the composite type around a value, as SQL; "" for none
}

// Types of targets that are no cells (pg_type.dat).
const (
	oidJSON      = 3802 // jsonb
	oidJSONArray = 3807
)

// EQLType is the name of the type in which EQL keeps its payloads, whatever its schema: a composite around jsonb.
const EQLType = "eql_v2_encrypted"

// PayloadOf is what a target of this type can hold if it is no cell; false: nothing.
func PayloadOf(target pg.Column) (ddl.Payload, bool) {
	switch {
	case target.TypeOID != target.Base.OID:
		return "", false
	case target.TypeOID == oidBytea:
		return ddl.PayloadBytea, true
	case target.TypeOID == oidText:
		return ddl.PayloadText, true
	case target.TypeOID == oidJSON:
		return ddl.PayloadJSON, true
	case target.Base.Kind == "c" && target.Base.Name == EQLType:
		return ddl.PayloadEQL, true
	}
	return "", false
}

// openForeign is [openColumn] for a column that a user's own encrypter makes. Values of every type travel as text.
func openForeign(c SpecColumn, source, target pg.Column) (Column, error) {
	payload, fits := PayloadOf(target)
	if !fits {
		return Column{}, fmt.Errorf("type of %s: %w", c.Target, ErrShape)
	}
	f := foreign{payload: payload, oid: oidText, list: oidTextArray,
		of: ddl.Column{Table: c.External.Table, Source: c.LogColumn, Target: c.External.Target}}
	switch payload {
	case ddl.PayloadBytea:
		f.oid, f.list = oidBytea, oidByteaArray
	case ddl.PayloadJSON, ddl.PayloadEQL:
		f.oid, f.list = oidJSON, oidJSONArray
	}
	if payload == ddl.PayloadEQL {
		f.row = target.Base.SQL
	}
	column := Column{ID: c.ID, Source: c.Source, Target: c.Target, External: c.External, Reverse: c.Reverse, foreign: f}
	if c.Source != "" {
		column.Type = TypeInfo(source.Base)
	}
	return column, nil
}

// set is what is written, around the value's expression. ROW and no cast: EQL has casts of its own from text and jsonb.
func (c Column) set(value string) string {
	if c.foreign.row != "" {
		return fmt.Sprintf("ROW(%s)::%s", value, c.foreign.row)
	}
	return value
}

// target is what is read of a target, of alias t.
func (c Column) target() string {
	if c.foreign.row != "" {
		return "(t." + pg.Ident(c.Target) + ").data"
	}
	return "t." + pg.Ident(c.Target)
}

// fits says whether a value is what the target's CHECK lets in, as far as that can be said of it alone.
func (c Column) fits(value []byte) bool {
	if c.foreign.payload != ddl.PayloadJSON && c.foreign.payload != ddl.PayloadEQL {
		return true
	}
	return c.foreign.payloads().Fits(value)
}

// Ask asks a user's encrypter; its errors are those of [transform.External].
type Ask func(ctx context.Context, request messages.ExternalRequest) (messages.ExternalAnswer, error)

// Encrypter makes what hands the values of a foreign column to its encrypter.
func (c Column) Encrypter(ask Ask) transform.Transform {
	return &transform.External{Table: c.foreign.of.Table.String(), Column: c.foreign.of.Source, Key: c.External.Key, Fits: c.fits, Ask: ask}
}

func (f foreign) payloads() transform.Payload {
	return transform.Payload{Tables: f.of.PayloadTables(), Columns: f.of.PayloadColumns()}
}

// foreignAlone is how long a row that is held in a transaction may wait for an encrypter: the server ends idle transactions.
const foreignAlone = idleTimeout * 3 / 4

// withinLock bounds what an encrypter may take while a row is locked for it.
func (s *Shape) withinLock(ctx context.Context) (context.Context, context.CancelFunc) {
	for _, c := range s.Columns {
		if c.Foreign() {
			return context.WithTimeout(ctx, foreignAlone)
		}
	}
	return ctx, func() {}
}

// look judges a row of a foreign column: its payload is there exactly if its source is, it is one of this column, and it
// does not show its source. What is inside only its encrypter can say.
func (p *page) look(i int, source, target []byte) {
	report, column := &p.found[i], p.Shape.Columns[i]
	report.Rows++
	switch {
	case column.Reverse && source == nil && target != nil && column.fits(target): // written since the cutover
		report.Covered++
		report.Ahead++
	case column.Source != "" && (source == nil) != (target == nil):
		report.Uncovered++
	case target != nil && (!column.fits(target) || source != nil && transform.Shows(target, source)):
		report.Broken++
		p.example(report)
	default:
		report.Covered++
	}
}
