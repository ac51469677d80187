package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client/kind"
)

// Querier is what statements are given to: a pool, a connection or a transaction of pgx.
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Query runs a statement with placeholders and returns rows whose cells open as they are scanned: for [pgx.CollectRows]
// and its like. The caller closes them.
func (cs Columns) Query(ctx context.Context, q Querier, sql string, args ...any) (pgx.Rows, error) {
	rows, err := q.Query(ctx, sql, append([]any{cs}, args...)...)
	return cs.Rows(rows), err
}

// Rows are the same rows, whose cells open as they are scanned. A cell is recognized by the place of its column, so
// destinations are those of plaintext, and need not know in which form a row has it. For a row-bound scheme the key's
// columns must be among those that are selected; where a table is joined with itself, those nearest before the cell
// count.
func (cs Columns) Rows(rows pgx.Rows) pgx.Rows {
	return &openedRows{Rows: rows, opener: opener{columns: cs}}
}

// Row scans one row into destinations: give it to Scan as the only one, as in row.Scan(users.Row(&id, &email)). It may be
// used for every row of a query, and is for one goroutine.
func (cs Columns) Row(into ...any) pgx.RowScanner { return &rowScanner{opener{columns: cs}, into} }

// Row is the same for one column.
func (c *Column) Row(into ...any) pgx.RowScanner { return Columns{c}.Row(into...) }

type rowScanner struct {
	opener
	into []any
}

// ScanRow is for pgx.
func (s *rowScanner) ScanRow(rows pgx.Rows) error { return s.scan(rows, s.into) }

type openedRows struct {
	pgx.Rows
	opener opener
}

// Scan is that of pgx, but opens cells. When a cell cannot be opened, every other destination is filled nevertheless,
// and the error is a [*CellError].
func (r *openedRows) Scan(into ...any) error {
	if len(into) == 1 {
		if whole, ok := into[0].(pgx.RowScanner); ok {
			return whole.ScanRow(r)
		}
	}
	return r.opener.scan(r.Rows, into)
}

// opener knows what is in the fields of a query's rows.
type opener struct {
	columns Columns
	known   []pgconn.FieldDescription // that fields was made for
	fields  []field
	learned bool // the columns were looked at anew for these rows

	address, plain, wire, binary []byte // scratch
	bound                        []cell.Bound
}

// field is what one field of a row is.
type field struct {
	column *Column // nil: nothing of ours
	at     *standing
	sealed bool  // it is the column of cells
	abroad bool  // of a view, a partition or an expression: each value tells by itself
	i      int   // which one it is
	key    []int // the fields of the row's key, -1 where there is none
}

func (o *opener) scan(rows pgx.Rows, into []any) error {
	fields, raw := rows.FieldDescriptions(), rows.RawValues()
	if len(fields) != len(into) {
		return fmt.Errorf("%d destinations for %d columns", len(into), len(fields))
	}
	if !slices.Equal(o.known, fields) {
		o.known, o.learned = slices.Clone(fields), false
		o.plan(fields)
	}
	var failed error
	for i, value := range raw {
		if into[i] == nil {
			continue
		}
		f, value := o.recognize(i, value)
		if f == nil {
			if err := put(rows.TypeMap(), fields[i].DataTypeOID, fields[i].Format, raw[i], into[i]); err != nil {
				return pgx.ScanArgError{ColumnIndex: i, FieldName: fields[i].Name, Err: err}
			}
			continue
		}
		if err := o.open(rows, f, value, into[i]); err != nil {
			failed = errors.Join(failed, &CellError{Table: f.column.table, Column: f.column.name, Err: err})
		}
	}
	return failed
}

// plan finds the cells among the fields, and the key of each.
func (o *opener) plan(fields []pgconn.FieldDescription) {
	o.fields = make([]field, len(fields))
	for i, fd := range fields {
		o.fields[i].abroad = true
		for _, column := range o.columns {
			s := column.at.Load()
			if fd.TableOID != s.relid {
				continue
			}
			o.fields[i].abroad = false
			if s.id != 0 && int16(fd.TableAttributeNumber) == s.sealedNum {
				o.fields[i] = field{column: column, at: s, sealed: true, i: i, key: s.key.Fields(s.relid, fields, i)}
				break
			}
		}
	}
}

// recognize is what to open, and its bytes; nil for what is no cell.
func (o *opener) recognize(i int, value []byte) (*field, []byte) {
	f, fd := &o.fields[i], o.known[i]
	if f.sealed {
		value = o.bytes(fd, value)
		if o.turnedBack(f, value) {
			return nil, nil
		}
		return f, value
	}
	if value = o.bytes(fd, value); fd.DataTypeOID != pgtype.ByteaOID && !looksSealed(value) {
		return nil, nil
	}
	h, err := cell.Parse(value)
	if err != nil {
		return nil, nil
	}
	if !f.abroad && !o.learned { // a cell where the client knows plaintext: it may be behind
		if !o.learn() {
			return nil, nil
		}
		if f = &o.fields[i]; f.sealed {
			return f, value
		}
	}
	for _, column := range o.columns { // a plan that was kept through a swap describes the column of before
		if s := column.at.Load(); (s.id == h.Column || s.related(h.Column)) && s.cells() {
			return &field{column: column, at: s, sealed: true, i: i, key: s.key.Fields(s.relid, o.known, i)}, value
		}
	}
	return nil, nil
}

// turnedBack says that a value is plaintext where the client, or a plan that was kept, knows cells: a rollback has given
// the name back. The column of cells itself can hold nothing that does not parse.
func (o *opener) turnedBack(f *field, value []byte) bool {
	if value == nil {
		return false
	}
	if _, err := cell.Parse(value); err == nil {
		return false
	}
	return (o.learned || o.learn()) && !f.column.at.Load().cells()
}

// bytes are those of a bytea in whatever format it came, and of the cell in a text or a document.
func (o *opener) bytes(fd pgconn.FieldDescription, value []byte) []byte {
	if fd.DataTypeOID == pgtype.JSONBOID && fd.Format == pgx.BinaryFormatCode && len(value) > 0 {
		value = value[1:] // behind the version
	}
	if fd.DataTypeOID != pgtype.ByteaOID {
		if sealed, ok := asText(value); ok {
			return sealed
		}
		return value
	}
	digits, ok := bytes.CutPrefix(value, []byte(`\x`))
	if fd.Format != pgx.TextFormatCode || fd.DataTypeOID != pgtype.ByteaOID || !ok {
		return value
	}
	decoded, err := hex.AppendDecode(o.binary[:0], digits)
	if err != nil {
		return value
	}
	o.binary = decoded
	return decoded
}

// learn looks at the columns anew, once for each query.
func (o *opener) learn() bool {
	o.learned = true
	c := o.columns[0].client
	ctx, cancel := context.WithTimeout(c.end, learnTimeout)
	defer cancel()
	if c.look(ctx, nil) != nil {
		return false
	}
	o.plan(o.known)
	return true
}

// open opens one cell of the present row.
func (o *opener) open(rows pgx.Rows, f *field, sealed []byte, into any) error {
	s, m := f.at, rows.TypeMap()
	if sealed == nil {
		return putKind(s.kind, m, int16(s.kind.Codec.Wire()), nil, into)
	}
	header, err := cell.Parse(sealed)
	if err != nil {
		return err
	}
	address, err := o.place(rows, f, header)
	if err != nil {
		return err
	}
	c := f.column.client
	plain, _, err := c.open(o.plain[:0], address, sealed)
	if err != nil {
		return err
	}
	var wire []byte
	if plain != nil {
		o.plain = plain
		if o.wire, err = header.Codec.Decode(o.wire[:0], plain, s.kind.Info); err != nil {
			return err
		}
		wire = o.wire
	}
	if err := putKind(s.kind, m, int16(header.Codec.Wire()), wire, into); err != nil {
		return err
	}
	c.lazy.offer(rows, f, header, address, sealed, plain)
	return nil
}

// place encodes what the cell of a row is bound to, from the fields that hold it.
func (o *opener) place(rows pgx.Rows, f *field, header cell.Header) (a cell.Address, err error) {
	a.Column = f.at.of(header)
	if !header.RowBound || header.Column != a.Column { // of a stranger nobody asks what it is bound to
		return a, nil
	}
	scheme, err := f.column.client.schemeOf(header)
	switch {
	case err != nil:
		return a, err
	case scheme.Columns == "":
		o.address, err = f.at.key.Read(o.address[:0], rows, f.key)
		a.Key = o.address
		return a, err
	}
	s := f.at
	if s.bound[scheme.Columns] == nil && (o.learned || o.learn()) {
		s = f.column.at.Load()
	}
	at := s.bound[scheme.Columns]
	if at == nil {
		return a, fmt.Errorf("scheme %d: %w", scheme.Number, ErrNoColumns)
	}
	o.address, err = at.Read(o.address[:0], rows, at.Fields(s.relid, o.known, f.i))
	a.Bound = append(o.bound[:0], cell.Bound{Columns: scheme.Columns, Key: o.address})
	o.bound = a.Bound
	return a, err
}

// slot is a destination that has its value inside.
type slot interface {
	into() any // where it wants it; from then on it holds one
	null()
}

// put is the scanning of pgx, also into a slot.
func put(m *pgtype.Map, oid uint32, format int16, value []byte, into any) error {
	if s, ok := into.(slot); ok {
		if value == nil {
			s.null()
			return nil
		}
		into = s.into()
	}
	return m.Scan(oid, format, value, into)
}

// putKind puts a value of the kind into a destination. No error quotes it.
func putKind(k kind.Kind, m *pgtype.Map, format int16, value []byte, into any) error {
	if k.Why != nil {
		return k.Why
	}
	err := put(m, k.Known(m), format, value, into)
	if err != nil && k.Info.OID == pgtype.NumericOID { // pgx reads whole numbers from the binary format only
		var n pgtype.Numeric
		var wire []byte
		if err = m.Scan(pgtype.NumericOID, format, value, &n); err == nil {
			wire, err = m.Encode(pgtype.NumericOID, pgtype.BinaryFormatCode, n, nil)
		}
		if err == nil {
			err = put(m, pgtype.NumericOID, pgtype.BinaryFormatCode, wire, into)
		}
	}
	if err != nil {
		return fmt.Errorf("a value of type %s does not go into a %T: %w", k.Name, into, ErrValue)
	}
	return nil
}
