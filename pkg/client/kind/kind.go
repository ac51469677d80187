// Package kind knows the type of a column's values: how what an application gives becomes the bytes that Postgres would
// send, and back.
//
// Words: a [Kind] is that type, with what of it a cell and an address need to know; bare is a value without what an
// application wraps it in. No error quotes a value.
package kind

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

// Kind is the type of a column's values.
type Kind struct {
	Info  cell.TypeInfo
	Codec cell.Codec // of new schemes for the type; says in which format values travel
	Mod   int32      // its modifier as in pg_attribute, -1 for none
	Name  string     // as declared, for errors
	Why   error      // values of the type are not sealed
}

// ErrValue: the value does not fit the column's type.
var ErrValue = spell.ErrValue

// Of is the kind of a type with domains taken off, as it was declared.
func Of(base pg.Type, mod int32, declared string) Kind {
	k := Kind{Info: typeInfo(base), Mod: mod, Name: declared}
	k.Codec, k.Why = cell.CodecFor(k.Info)
	if k.Codec == cell.CodecTimeTZ && k.Why == nil {
		k.Why = fmt.Errorf("values of type %s are neither written nor read by this package, because pgx knows none; the fleet seals and opens them: %w", declared, ErrValue)
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

// Named is the kind of a column that is gone, by its type as it was declared.
func Named(ctx context.Context, q pg.Querier, declared string) (Kind, error) {
	var base pg.Type
	mod := int32(-1)
	err := q.QueryRow(ctx, typeSQL, declared).Scan(&base.OID, &base.Name, &base.Kind, &base.Category, &mod)
	if errors.Is(err, pgx.ErrNoRows) {
		return Kind{}, fmt.Errorf("type %s is gone", declared)
	}
	if err != nil {
		return Kind{}, fmt.Errorf("read type %s: %w", declared, err)
	}
	if mod < 0 {
		mod = spell.Modifier(base.OID, declared)
	}
	return Of(base, mod, declared), nil
}

// Textual says that the type's bytes are the same in both formats.
func (k Kind) Textual() bool { return k.Codec == cell.CodecText }

// Known is the OID by which values of the kind are handed to pgx: text for what it has never heard of.
func (k Kind) Known(m *pgtype.Map) uint32 {
	if _, ok := m.TypeForOID(k.Info.OID); ok {
		return k.Info.OID
	}
	return pgtype.TextOID
}

// Wire is a value as Postgres would send it, once it were stored in the column; nil is NULL. No error quotes the value.
func (k Kind) Wire(m *pgtype.Map, v any, format cell.Format) ([]byte, error) {
	if v = Bare(v); v == nil {
		return nil, nil
	}
	if k.Why != nil {
		return nil, k.Why
	}
	if k.Codec == cell.CodecOutput && !k.spelled() && reflect.Indirect(reflect.ValueOf(v)).Kind() != reflect.String {
		return nil, fmt.Errorf("a %T: write values of type %s as text, as Postgres prints them: %w", v, k.Name, ErrValue)
	}
	if f := reflect.Indirect(reflect.ValueOf(v)); k.Codec == cell.CodecInt && f.CanFloat() && f.Float() != math.Trunc(f.Float()) {
		return nil, fmt.Errorf("a fraction does not fit type %s: %w", k.Name, ErrValue) // pgx would cut it
	}
	raw, err := m.Encode(k.Known(m), int16(format), v, make([]byte, 0, 64))
	if text, ok := v.(string); err != nil && ok && format == cell.Binary {
		raw, err = k.parse(m, text)
	}
	if err != nil {
		return nil, fmt.Errorf("a %T does not fit type %s: %w", v, k.Name, ErrValue)
	}
	if raw == nil {
		return nil, nil
	}
	return k.normal(raw)
}

// Spell is a value as Postgres prints it, of the few types of which that is one spelling: for what names a tenant or is
// part of an address as text. Nil is NULL.
func (k Kind) Spell(m *pgtype.Map, v any) ([]byte, error) {
	raw, err := k.Wire(m, v, k.Codec.Wire())
	if err != nil || raw == nil || k.Codec == cell.CodecText || k.Info.OID == pgtype.NumericOID {
		return raw, err
	}
	if k.Codec != cell.CodecInt && k.Codec != cell.CodecBool && k.Codec != cell.CodecUUID {
		return nil, fmt.Errorf("values of type %s can be spelled in several ways: %w", k.Name, ErrValue)
	}
	bare, err := k.Value(m, pgtype.BinaryFormatCode, raw)
	if err != nil {
		return nil, err
	}
	return m.Encode(k.Known(m), pgtype.TextFormatCode, bare, make([]byte, 0, 36))
}

// parse reads text into the binary format.
func (k Kind) parse(m *pgtype.Map, text string) ([]byte, error) {
	v, err := k.Value(m, pgtype.TextFormatCode, []byte(text))
	if err != nil {
		return nil, err
	}
	return m.Encode(k.Known(m), pgtype.BinaryFormatCode, v, make([]byte, 0, 32))
}

// Value is what pgx makes of a value in a format, in a type that it writes back to the same bytes.
func (k Kind) Value(m *pgtype.Map, format int16, raw []byte) (any, error) {
	var v any
	switch k.Codec {
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
		if format == pgtype.TextFormatCode || k.Codec == cell.CodecText {
			return string(raw), nil
		}
		if k.Info.OID != pgtype.NumericOID {
			return nil, fmt.Errorf("type %s in binary: %w", k.Name, ErrValue)
		}
		v = new(pgtype.Numeric)
	}
	if err := m.Scan(k.Known(m), format, raw, v); err != nil {
		return nil, fmt.Errorf("read a value of type %s: %w", k.Name, ErrValue)
	}
	return v, nil
}

// Argument is wire, in the codec's format, as an argument for pgx that Postgres stores as that very value.
func (k Kind) Argument(m *pgtype.Map, wire []byte) (any, error) {
	if wire == nil {
		return nil, nil
	}
	return k.Value(m, int16(k.Codec.Wire()), wire)
}

// Bare is what a cell of an application holds, and anything else as it is.
func Bare(v any) any {
	held, ok := v.(interface{ Held() (any, bool) })
	if !ok {
		return v
	}
	if value, valid := held.Held(); valid {
		return value
	}
	return nil
}

// Rounded is v to the microsecond, as Postgres stores it; pgx would cut.
func Rounded(v any) any {
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
func (k Kind) spelled() bool {
	return k.Info.OID == pgtype.NumericOID || k.Info.OID == pgtype.JSONBOID
}

// normal is a value as Postgres prints it once it is stored in the column: a cell must hold the very bytes that its
// plaintext has.
func (k Kind) normal(raw []byte) (_ []byte, err error) {
	switch k.Info.OID {
	case pgtype.VarcharOID, pgtype.BPCharOID:
		raw, err = spell.Text(k.Info.OID, raw, k.Mod)
	case pgtype.NumericOID:
		var text string
		text, err = spell.Numeric(string(raw), k.Mod)
		raw = []byte(text)
	case pgtype.JSONOID:
		err = spell.JSON(raw)
	case pgtype.JSONBOID:
		raw, err = spell.JSONB(raw)
	case pgtype.NameOID:
		err = spell.Name(raw)
	case pgtype.TimeOID, pgtype.TimestampOID, pgtype.TimestamptzOID:
		raw = spell.Time(raw, k.Mod)
	case pgtype.IntervalOID:
		if k.Mod >= 0 {
			err = fmt.Errorf("intervals of certain fields only are not written by this package: %w", ErrValue)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("type %s: %w", k.Name, err)
	}
	return raw, nil
}
