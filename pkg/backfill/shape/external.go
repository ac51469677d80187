package shape

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Foreign says that the column's target holds no cells of ours: nobody here can open it.
func (c Column) Foreign() bool { return c.External.Foreign() }

// foreign is the kind of a column whose target holds no cells: what a user's own encrypter makes. Its values are sent and
// read as text.
type foreign struct {
	sides
	reverse bool
	proxied bool // what is written is the plaintext, through the proxy
	payload ddl.Payload
	of      ddl.Column // names, for what a payload has to say
	out     Result
}

// EQLType is the name of the type in which EQL keeps its payloads, whatever its schema: a composite around jsonb.
const EQLType = "eql_v2_encrypted"

// PayloadOf is what a target of this type can hold if it is no cell; false: nothing.
func PayloadOf(target pg.Column) (ddl.Payload, bool) {
	switch {
	case target.TypeOID != target.Base.OID:
		return "", false
	case target.TypeOID == pgtype.ByteaOID:
		return ddl.PayloadBytea, true
	case target.TypeOID == pgtype.TextOID:
		return ddl.PayloadText, true
	case target.TypeOID == pgtype.JSONBOID:
		return ddl.PayloadJSON, true
	case target.Base.Kind == "c" && target.Base.Name == EQLType:
		return ddl.PayloadEQL, true
	}
	return "", false
}

// openForeign is the kind of a column that a user's own encrypter makes.
func openForeign(c work.Column, source, target pg.Column) (kind, error) {
	payload, fits := PayloadOf(target)
	if !fits {
		return nil, fmt.Errorf("type of %s: %w", c.Target, keyspace.ErrChanged)
	}
	k := foreign{sides: sides{c.Source, c.Target}, reverse: c.Reverse, proxied: c.External.Proxy, payload: payload,
		of: ddl.Column{Table: c.External.Table, Source: c.LogColumn, Target: c.External.Target}}
	k.out = Result{name: c.Target, OID: pgtype.TextOID, List: pgtype.TextArrayOID}
	if k.proxied { // a proxy takes a value of the source's type, and knows what that becomes
		k.out.OID = source.Base.OID
		return k, nil
	}
	switch payload {
	case ddl.PayloadBytea:
		k.out.OID, k.out.List = pgtype.ByteaOID, pgtype.ByteaArrayOID
	case ddl.PayloadJSON, ddl.PayloadEQL:
		k.out.OID, k.out.List = pgtype.JSONBOID, pgtype.JSONBArrayOID
	}
	if payload == ddl.PayloadEQL { // ROW and no cast: EQL has casts of its own from text and jsonb
		k.out.around = "ROW(%s)::" + target.Base.SQL
	}
	return k, nil
}

func (k foreign) input() operand { return operand{present(k.source), false} }

func (k foreign) Output() Result { return k.out }

func (k foreign) uncovered() string {
	if k.reverse {
		return reverseUncovered(k.sides)
	}
	return k.sides.uncovered()
}

func (k foreign) evidence() [2]operand {
	read := k.sides.evidence(false, false)
	if k.payload == ddl.PayloadEQL {
		read[1].sql = "(" + read[1].sql + ").data"
	}
	return read
}

func (k foreign) transform(*cell.Keyring) (transform.Transform, error) {
	if k.proxied {
		return transform.Copy{}, nil
	}
	return nil, errors.New("make a transform: an encrypter makes the values of this column, and has to be asked")
}

// fits says whether a value is what the target's CHECK lets in, as far as that can be said of it alone.
func (k foreign) fits(value []byte) bool {
	if k.payload != ddl.PayloadJSON && k.payload != ddl.PayloadEQL {
		return true
	}
	return transform.Payload{Tables: k.of.PayloadTables(), Columns: k.of.PayloadColumns()}.Fits(value)
}

// Ask asks a user's encrypter; its errors are those of [transform.External].
type Ask func(ctx context.Context, request messages.ExternalRequest) (messages.ExternalAnswer, error)

// Encrypter makes what hands the values of a foreign column to its encrypter.
func (c Column) Encrypter(ask Ask) transform.Transform {
	k := c.kind.(foreign)
	return &transform.External{Table: k.of.Table.String(), Column: k.of.Source, Key: c.External.Key, Fits: k.fits, Ask: ask}
}

// Judge looks: the payload is there exactly if its source is, it is one of this column, and it does not show its source.
// What is inside only its encrypter can say.
func (k foreign) Judge(w *Witness) (Verdict, error) {
	switch {
	case k.reverse && w.Source == nil && w.Target != nil && k.fits(w.Target): // written since the cutover
		return Verdict{Outcome: Covered, Ahead: true}, nil
	case k.source != "" && (w.Source == nil) != (w.Target == nil):
		return Verdict{Outcome: Uncovered}, nil
	case w.Target != nil && (!k.fits(w.Target) || w.Source != nil && transform.Shows(w.Target, w.Source)):
		return Verdict{Outcome: Broken}, nil
	}
	return Verdict{Outcome: Covered}, nil
}
