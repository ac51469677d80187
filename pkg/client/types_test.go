package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// typed is a type with values that an application writes, and what it reads back, if that is another value.
type typed struct {
	sql     string
	values  []any
	refused []any
}

func types() []typed {
	zone := time.FixedZone("", 5*3600+1800)
	infinity := pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	return []typed{
		{"text", []any{"", "alice", " blanks ", "żółć 🦊", `\x00`, strings.Repeat("x", 5000), []byte("as bytes")}, []any{"a\x00b", "\xff\xfe", 7, []byte{0xff}}},
		{"varchar(5)", []any{"", "äöüßé", "abc  ", "abcde   "}, []any{"abcdef"}},
		{"char(5)", []any{"", "ab", "äöüßé", "abcde  "}, []any{"abcdef"}},
		{"name", []any{"a_name"}, []any{strings.Repeat("n", 64)}},
		{"bytea", []any{[]byte{}, []byte{0, 1, 255}, []byte(`\x41`)}, []any{7}},
		{"bool", []any{true, false}, []any{"perhaps", 7}},
		{"int2", []any{int16(-32768), 7, int64(32767)}, []any{32768, "many"}},
		{"int4", []any{int32(math.MinInt32), 0, "12"}, []any{int64(math.MaxInt32) + 1}},
		{"int8", []any{int64(math.MinInt64), int64(math.MaxInt64), uint8(3)}, []any{uint64(math.MaxUint64), 1.5}},
		{"float4", []any{float32(1.1), float32(math.Inf(-1)), 0.5}, []any{"x"}},
		{"float8", []any{1.1, math.NaN(), math.Copysign(0, -1), 1e300}, []any{"x"}},
		{"uuid", []any{uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), "6ba7b810-9dad-11d1-80b4-00c04fd430c8", [16]byte{1}}, []any{"6ba7", 7}},
		{"date", []any{time.Date(2024, 2, 3, 23, 59, 0, 0, time.UTC), "2024-02-03", pgtype.Date{InfinityModifier: pgtype.NegativeInfinity, Valid: true}}, []any{"2024-02-31", 7}},
		{"time", []any{pgtype.Time{Microseconds: 86_400_000_000, Valid: true}, "12:30:00.000001"}, []any{"25:00"}},
		{"time(2)", []any{"12:30:00.125", "12:30:00.124999"}, nil},
		{"timestamp", []any{time.Date(2024, 2, 3, 4, 5, 6, 123456500, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), "2024-02-03 04:05:06.7"}, []any{"soon"}},
		{"timestamptz", []any{time.Date(2024, 2, 3, 4, 5, 6, 123456499, zone), time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC), infinity, "2024-02-03 04:05:06+05:30"}, []any{7}},
		{"timestamptz(0)", []any{time.Date(1999, 12, 31, 23, 59, 59, 500000000, time.UTC), time.Date(1999, 12, 31, 23, 59, 58, 500000000, time.UTC), time.Date(2024, 1, 1, 0, 0, 0, 499999000, zone)}, nil},
		{"interval", []any{pgtype.Interval{Months: 1, Days: -2, Microseconds: 3, Valid: true}, "1 mon -2 days"}, []any{"a while"}},
		{"numeric", []any{"1.10", "-0.00", "12345678901234567890.1234", "1e5", "1.5e-3", "+007.", ".5", "NaN", "-Infinity", pgtype.Numeric{Int: nil, NaN: true, Valid: true}, 1.5, 42, "0.000"}, []any{"one", "1,5", "--1", "1e999999", ""}},
		{"numeric(6,2)", []any{"1.1", "1.005", "-1.005", "9999.994", "0", 3, "NaN"}, []any{"9999.995", "Infinity"}},
		{"numeric(4,0)", []any{"0.5", "-0.4", "9998.5"}, []any{"9999.5"}},
		{"json", []any{`{"b": 1,  "a":[ ]}`, "null", json.RawMessage(`{"x":1.10}`), map[string]any{"k": "v"}}, []any{`{`, ``}},
		{"jsonb", []any{`{"bb": 1.10, "a": {"z": [true, null, "\u00e9\n\"\\\u001f/<"], "": 1e3}, "bb": 2}`, `[]`, `{}`, `"\ud83e\udd8a"`, `-0`, `-0.0`, `[1, 2.50,"x"]`, map[string]any{"k": []int{1, 2}}},
			[]any{`{`, `"\ud83e"`, `"\udd8a\ud83e"`, `"\u0000"`, "{\"a\":\"\xff\"}"}},
		{"mood", []any{"sad", "ok"}, nil},
		{"short", []any{"abc "}, []any{"abcdef"}},
		{"inet", []any{"10.0.0.1"}, []any{7}},
		{"text[]", []any{"{a,b}"}, []any{[]string{"a"}}},
		{"timetz", nil, []any{"12:00+00"}},
	}
}

// TestValuesOfEveryTypeAreSealedAsPostgresHasThem writes through the client while plaintext stands beside the cell, and
// compares the bytes of both; and then where it is gone.
func TestValuesOfEveryTypeAreSealedAsPostgresHasThem(t *testing.T) {
	t.Parallel()
	for _, one := range types() {
		t.Run(one.sql, func(t *testing.T) {
			t.Parallel()
			s := open(t, `CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN short AS varchar(5) CHECK (value <> 'never');
CREATE TABLE users (id bigint PRIMARY KEY, email `+one.sql+`)`)
			s.register()
			s.dualWrite()
			a := s.app(s.still())
			for i, v := range one.values {
				if err := a.write(insertOne, i, v); err != nil {
					t.Fatalf("%#v: %v", v, err)
				}
				plain, sealed := s.images(int64(i))
				if !bytes.Equal(plain, sealed) {
					t.Errorf("%#v: Postgres has %q, the cell %q", v, plain, sealed)
				}
			}
			for _, v := range one.refused {
				if err := a.write(insertOne, 1000, v); !errors.Is(err, client.ErrValue) && !errors.Is(err, cell.ErrWire) {
					t.Errorf("%#v is not refused: %v", v, err)
				} else if text := fmt.Sprint(v); len(text) > 1 && strings.Contains(strings.ReplaceAll(err.Error(), one.sql, ""), text) {
					t.Errorf("the error quotes the value: %v", err)
				}
			}
			s.run(nil, lifecycle.Event{Kind: lifecycle.KindBackfillStarted, Job: job}, lifecycle.Event{Kind: lifecycle.KindBackfilled, Job: job})
			s.run(s.swap("email_plaintext").Step().Do, lifecycle.Event{Kind: lifecycle.KindCutOver})
			s.column().Source, s.column().Target = "email_plaintext", "email"
			for i, v := range one.values {
				s.same(a, int64(i), v)
			}
			before := make([][]byte, len(one.values))
			for i := range one.values {
				before[i], _ = s.images(int64(i))
			}
			s.drop()
			for i, v := range one.values {
				if err := a.write(updateSQL, i, v); err != nil {
					t.Fatalf("%#v: %v", v, err)
				}
				if sealed := s.sealedImage(int64(i)); !bytes.Equal(sealed, before[i]) {
					t.Errorf("%#v without plaintext: the cell has %q, want %q", v, sealed, before[i])
				}
			}
			for _, v := range one.refused {
				if err := a.write(updateSQL, 0, v); !errors.Is(err, client.ErrValue) && !errors.Is(err, cell.ErrWire) {
					t.Errorf("%#v is not refused: %v", v, err)
				}
			}
		})
	}
}

// TestTimesWithAZoneAreRefusedByName, to be written and to be read; what the fleet has sealed of them stays.
func TestTimesWithAZoneAreRefusedByName(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TABLE users (id bigint PRIMARY KEY, email timetz)`)
	s.register()
	s.dualWrite()
	a := s.app(s.still())
	const want = "type time with time zone are neither written nor read by this package"
	if err := a.write(insertOne, 1, "12:00+00"); !errors.Is(err, client.ErrValue) || !strings.Contains(err.Error(), want) {
		t.Errorf("a write says %v", err)
	}
	check(t, a.write(insertOne, 2, nil))
	s.backfill()
	s.cutOver("email_plaintext")
	ring := must(testenv.LoadKeyring(t.Context(), s, s.kek))(t)
	wire := must(s.schemes["email"].Codec.Encode(nil, make([]byte, 12)))(t)
	s.Run(t, `INSERT INTO users (id, email) VALUES (3, $1)`, must(ring.Seal(nil, s.schemes["email"], s.address(3), wire))(t))
	if _, err := a.read(3); !errors.Is(err, client.ErrValue) || !strings.Contains(err.Error(), want) {
		t.Errorf("a read says %v", err)
	}
}

const insertOne = `INSERT INTO users (id, {email ...}) VALUES ($1, {email $2 key $1})`

// images are the bytes of a row's plaintext and those in its cell.
func (s *shop) images(id int64) (plain, sealed []byte) {
	s.t.Helper()
	check(s.t, s.InTx(s.t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(s.t.Context(), pg.Pinned); err != nil {
			return err
		}
		format := pgx.QueryResultFormats{int16(s.schemes["email"].Codec.Wire())}
		rows, err := tx.Query(s.t.Context(), `SELECT `+pg.Ident(s.column().Source)+` FROM users WHERE id = $1 /* beside `+s.column().Target+` */`, format, id)
		if err != nil {
			return err
		}
		defer rows.Close()
		if rows.Next() {
			plain = bytes.Clone(rows.RawValues()[0])
		}
		return rows.Err()
	}))
	return plain, s.sealedImage(id)
}

func (s *shop) sealedImage(id int64) []byte {
	s.t.Helper()
	sealed := testenv.One[[]byte](s.t, s, `SELECT `+pg.Ident(s.column().Target)+` FROM users WHERE id = $1 /* cells */`, id)
	ring := must(testenv.LoadKeyring(s.t.Context(), s, s.kek))(s.t)
	opened, h, err := ring.Open(nil, s.address(id), sealed)
	check(s.t, err)
	oid := testenv.One[uint32](s.t, s, `SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END FROM pg_type t WHERE t.oid = to_regtype((SELECT c.type FROM cipherfleet.columns c))`)
	return must(h.Codec.Decode(nil, opened, cell.TypeInfo{OID: oid}))(s.t)
}

// same reads a cell into the type that was written, and as pgx reads the plaintext.
func (s *shop) same(a app, id int64, v any) {
	s.t.Helper()
	into, plain := reflect.New(reflect.TypeOf(v)), reflect.New(reflect.TypeOf(v))
	expression := "email_plaintext"
	if _, ok := v.(string); ok && strings.HasPrefix(testenv.One[string](s.t, s, `SELECT c.type FROM cipherfleet.columns c`), "numeric") {
		expression += "::text" // pgx reads 0.00 as 0
	}
	errPlain := s.pool.QueryRow(s.t.Context(), `SELECT `+expression+` FROM users WHERE id = $1`, id).Scan(plain.Interface())
	err := a.c.Do(s.t.Context(), func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, selectSQL, a.users, id).Scan(a.users.Row(new(int64), into.Interface()))
	})
	if errPlain != nil { // as pgx refuses it for plaintext
		return
	}
	have, want := fmt.Sprintf("%v", into.Elem().Interface()), fmt.Sprintf("%v", plain.Elem().Interface())
	if err != nil || have != want {
		s.t.Errorf("%#v is read as %s, %v; plaintext as %s", v, have, err, want)
	}
}
