package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client/spell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// kind is the type of a column's values: how the application's become the bytes that Postgres would send, and back.
type kind struct {
	info  cell.TypeInfo
	codec cell.Codec // of new schemes for the type; says in which format values travel
	mod   int32      // its modifier as in pg_attribute, -1 for none
	name  string     // as declared, for errors
	why   error      // values of the type are not sealed
}

func kindOf(base pg.Type, mod int32, declared string) kind {
	k := kind{info: typeInfo(base), mod: mod, name: declared}
	k.codec, k.why = cell.CodecFor(k.info)
	if k.codec == cell.CodecTimeTZ && k.why == nil {
		k.why = fmt.Errorf("values of type %s are neither written nor read by this package, because pgx knows none; the fleet seals and opens them: %w", declared, ErrValue)
	}
	return k
}

// typeInfo says to package cell what package pg says of a type.
func typeInfo(t pg.Type) cell.TypeInfo {
	return cell.TypeInfo{OID: t.OID, Name: t.Name, Kind: t.Kind[0], Category: t.Category[0]}
}

// The modifier of a domain is that of the type below it; that of another type is in the declared text alone.
const typeSQL = `WITH RECURSIVE chain AS (
  SELECT t.oid, t.typname, t.typtype, t.typcategory, t.typbasetype, t.typtypmod FROM pg_catalog.pg_type t WHERE t.oid = pg_catalog.to_regtype($1)
  UNION ALL
  SELECT t.oid, t.typname, t.typtype, t.typcategory, t.typbasetype, CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE c.typtypmod END
    FROM chain c JOIN pg_catalog.pg_type t ON t.oid = c.typbasetype)
SELECT c.oid, c.typname::pg_catalog.text, c.typtype::pg_catalog.text, c.typcategory::pg_catalog.text, c.typtypmod FROM chain c WHERE c.typtype <> 'd'`

// kindNamed is the kind of a column that is gone, by its type as it was declared.
func (c *Client) kindNamed(ctx context.Context, declared string) (kind, error) {
	var base pg.Type
	mod := int32(-1)
	err := c.db.QueryRow(ctx, typeSQL, declared).Scan(&base.OID, &base.Name, &base.Kind, &base.Category, &mod)
	if errors.Is(err, pgx.ErrNoRows) {
		return kind{}, fmt.Errorf("type %s is gone", declared)
	}
	if err != nil {
		return kind{}, fmt.Errorf("read type %s: %w", declared, err)
	}
	if mod < 0 {
		mod = spell.Modifier(base.OID, declared)
	}
	return kindOf(base, mod, declared), nil
}

// textual says that the type's bytes are the same in both formats.
func (k kind) textual() bool { return k.codec == cell.CodecText }

// known is the OID by which values of the kind are handed to pgx: text for what it has never heard of.
func (k kind) known(m *pgtype.Map) uint32 {
	if _, ok := m.TypeForOID(k.info.OID); ok {
		return k.info.OID
	}
	return pgtype.TextOID
}

// wire is a value as Postgres would send it, once it were stored in the column; nil is NULL. No error quotes the value.
func (k kind) wire(m *pgtype.Map, v any, format cell.Format) ([]byte, error) {
	if v = bare(v); v == nil {
		return nil, nil
	}
	if k.why != nil {
		return nil, k.why
	}
	if k.codec == cell.CodecOutput && !k.spelled() && reflect.Indirect(reflect.ValueOf(v)).Kind() != reflect.String {
		return nil, fmt.Errorf("a %T: write values of type %s as text, as Postgres prints them: %w", v, k.name, ErrValue)
	}
	if f := reflect.Indirect(reflect.ValueOf(v)); k.codec == cell.CodecInt && f.CanFloat() && f.Float() != math.Trunc(f.Float()) {
		return nil, fmt.Errorf("a fraction does not fit type %s: %w", k.name, ErrValue) // pgx would cut it
	}
	raw, err := m.Encode(k.known(m), int16(format), v, make([]byte, 0, 64))
	if text, ok := v.(string); err != nil && ok && format == cell.Binary {
		raw, err = k.parse(m, text)
	}
	if err != nil {
		return nil, fmt.Errorf("a %T does not fit type %s: %w", v, k.name, ErrValue)
	}
	if raw == nil {
		return nil, nil
	}
	return k.normal(raw)
}

// spell is a value as Postgres prints it, of the few types of which that is one spelling: for what names a tenant or is
// part of an address as text. Nil is NULL.
func (k kind) spell(m *pgtype.Map, v any) ([]byte, error) {
	raw, err := k.wire(m, v, k.codec.Wire())
	if err != nil || raw == nil || k.codec == cell.CodecText || k.info.OID == pgtype.NumericOID {
		return raw, err
	}
	if k.codec != cell.CodecInt && k.codec != cell.CodecBool && k.codec != cell.CodecUUID {
		return nil, fmt.Errorf("values of type %s can be spelled in several ways: %w", k.name, ErrValue)
	}
	bare, err := k.value(m, pgtype.BinaryFormatCode, raw)
	if err != nil {
		return nil, err
	}
	return m.Encode(k.known(m), pgtype.TextFormatCode, bare, make([]byte, 0, 36))
}

// parse reads text into the binary format.
func (k kind) parse(m *pgtype.Map, text string) ([]byte, error) {
	v, err := k.value(m, pgtype.TextFormatCode, []byte(text))
	if err != nil {
		return nil, err
	}
	return m.Encode(k.known(m), pgtype.BinaryFormatCode, v, make([]byte, 0, 32))
}

// value is what pgx makes of a value in a format, in a type that it writes back to the same bytes.
func (k kind) value(m *pgtype.Map, format int16, raw []byte) (any, error) {
	var v any
	switch k.codec {
	case cell.CodecBytes:
		v = new([]byte)
	case cell.CodecBool:
		v = new(bool)
	case cell.CodecInt:
		v = new(int64)
	case cell.CodecFloat4:
		v = new(float32)
	case cell.CodecFloat8:
		v = new(float64)
	case cell.CodecDate:
		v = new(pgtype.Date)
	case cell.CodecTime:
		v = new(pgtype.Time)
	case cell.CodecTimestamp:
		v = new(pgtype.Timestamp)
	case cell.CodecTimestampTZ:
		v = new(pgtype.Timestamptz)
	case cell.CodecInterval:
		v = new(pgtype.Interval)
	case cell.CodecUUID:
		v = new(pgtype.UUID)
	default:
		if format == pgtype.TextFormatCode || k.codec == cell.CodecText {
			return string(raw), nil
		}
		if k.info.OID != pgtype.NumericOID {
			return nil, fmt.Errorf("type %s in binary: %w", k.name, ErrValue)
		}
		v = new(pgtype.Numeric)
	}
	if err := m.Scan(k.known(m), format, raw, v); err != nil {
		return nil, fmt.Errorf("read a value of type %s: %w", k.name, ErrValue)
	}
	return v, nil
}

// argument is wire, in the codec's format, as an argument for pgx that Postgres stores as that very value.
func (k kind) argument(m *pgtype.Map, wire []byte) (any, error) {
	if wire == nil {
		return nil, nil
	}
	return k.value(m, int16(k.codec.Wire()), wire)
}

// bare is what a [Cell] holds, and anything else as it is.
func bare(v any) any {
	held, ok := v.(interface{ held() (any, bool) })
	if !ok {
		return v
	}
	if value, valid := held.held(); valid {
		return value
	}
	return nil
}

// rounded is v to the microsecond, as Postgres stores it; pgx would cut.
func rounded(v any) any {
	switch v := v.(type) {
	case time.Time:
		return v.Round(time.Microsecond)
	case *time.Time:
		if v == nil {
			return nil
		}
		return v.Round(time.Microsecond)
	case pgtype.Timestamptz:
		v.Time = v.Time.Round(time.Microsecond)
		return v
	case pgtype.Timestamp:
		v.Time = v.Time.Round(time.Microsecond)
		return v
	}
	return v
}

// spelled says that the client can spell any value of the type as Postgres prints it.
func (k kind) spelled() bool {
	return k.info.OID == pgtype.NumericOID || k.info.OID == pgtype.JSONBOID
}

// normal is a value as Postgres prints it once it is stored in the column: a cell must hold the very bytes that its
// plaintext has.
func (k kind) normal(raw []byte) (_ []byte, err error) {
	switch k.info.OID {
	case pgtype.VarcharOID, pgtype.BPCharOID:
		raw, err = spell.Text(k.info.OID, raw, k.mod)
	case pgtype.NumericOID:
		var text string
		text, err = spell.Numeric(string(raw), k.mod)
		raw = []byte(text)
	case pgtype.JSONOID:
		err = spell.JSON(raw)
	case pgtype.JSONBOID:
		raw, err = spell.JSONB(raw)
	case pgtype.NameOID:
		err = spell.Name(raw)
	case pgtype.TimeOID, pgtype.TimestampOID, pgtype.TimestamptzOID:
		raw = spell.Time(raw, k.mod)
	case pgtype.IntervalOID:
		if k.mod >= 0 {
			err = fmt.Errorf("intervals of certain fields only are not written by this package: %w", ErrValue)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("type %s: %w", k.name, err)
	}
	return raw, nil
}
