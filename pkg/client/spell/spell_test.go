package spell_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/client/spell"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const spelledSQL = `CREATE FUNCTION spelled(type text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE printed text;
BEGIN EXECUTE pg_catalog.format('SELECT $1::%s::text', type) INTO printed USING value; RETURN printed;
EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$`

// spelled is what Postgres makes of texts, each cast to the type beside it; nil where it refuses.
func spelled(t *testing.T, as, texts []string) []*string {
	t.Helper()
	db := testenv.EmptyDatabase(t)
	db.Run(t, spelledSQL)
	return testenv.Column[*string](t, db, `SELECT spelled(u.a, u.v) FROM unnest($1::text[], $2::text[]) WITH ORDINALITY u (a, v, n) ORDER BY n`, as, texts)
}

// TestNumbersAreSpelledAsPostgresDoes of any form, in columns of any precision.
func TestNumbersAreSpelledAsPostgresDoes(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	digits := func(most int) string {
		var b strings.Builder
		for range random.IntN(most + 1) {
			b.WriteByte("0000111599"[random.IntN(10)])
		}
		return b.String()
	}
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	var as, texts []string
	for range 3000 {
		text := pick("", "", "-", "+") + digits(7) + pick("", ".", ".") + digits(6)
		if random.IntN(4) == 0 {
			text += pick("e", "E") + pick("", "-", "+") + fmt.Sprint(random.IntN(12))
		}
		texts, as = append(texts, text), append(as, pick("numeric", "numeric(6,2)", "numeric(3,0)", "numeric(20,10)", "numeric(2,4)", "numeric(3,-2)"))
	}
	accepted := 0
	for i, want := range spelled(t, as, texts) {
		have, err := spell.Numeric(texts[i], spell.Modifier(pgtype.NumericOID, as[i]))
		switch {
		case want == nil && !errors.Is(err, spell.ErrValue):
			t.Errorf("%s of %q: %q, %v; Postgres refuses it", as[i], texts[i], have, err)
		case want != nil && (err != nil || have != *want):
			t.Errorf("%s of %q: %q, %v; Postgres says %q", as[i], texts[i], have, err, *want)
		case want != nil:
			accepted++
		}
	}
	if accepted < 1000 {
		t.Errorf("only %d of the numbers were numbers", accepted)
	}
	texts = []string{"NaN", "nan", "Infinity", "-inf", "+Infinity", " 1 ", "1e131071", "1e131072", "1e-16383", "1e-16384", "0x1F", "1_000", "", ".", "e5", "1e", "١"}
	for i, want := range spelled(t, slices.Repeat([]string{"numeric"}, len(texts)), texts) {
		have, err := spell.Numeric(texts[i], -1)
		if err == nil && (want == nil || have != *want) { // it may refuse what Postgres reads, and never the other way about
			t.Errorf("%q: %.40q, Postgres says %.40q", texts[i], have, *want)
		}
	}
}

// TestDocumentsAreSpelledAsPostgresDoes whatever is in them.
func TestDocumentsAreSpelledAsPostgresDoes(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	text := func() string {
		return `"` + pick("", "a", "bb", "ä", "é", "key", `\u00e9`, `\n\t\b\f\r`, `\"\\\/`, `\u001f`, `\ud83e\udd8a`, "🦊", "<&>", "\u2028", `\u007f`, "�") + pick("", "x") + `"`
	}
	var document func(depth int) string
	document = func(depth int) string {
		blank := pick("", " ", "\n\t")
		kind := random.IntN(9)
		if depth == 0 {
			kind = random.IntN(6)
		}
		var b strings.Builder
		switch kind {
		case 0:
			return pick("true", "false", "null")
		case 1, 2:
			return pick("", "-") + pick("0", "10", "7") + pick("", ".0", ".50", ".001") + pick("", "e2", "E-3", "e+0")
		case 3, 4, 5:
			return text()
		case 6:
			for i := range random.IntN(4) {
				b.WriteString(map[bool]string{true: ",", false: ""}[i > 0] + blank + document(depth-1))
			}
			return "[" + b.String() + blank + "]"
		}
		for i := range random.IntN(5) {
			b.WriteString(map[bool]string{true: ",", false: ""}[i > 0] + blank + text() + blank + ":" + document(depth-1))
		}
		return "{" + b.String() + blank + "}"
	}
	texts := make([]string, 2000)
	for i := range texts {
		texts[i] = document(3)
	}
	for i, want := range spelled(t, slices.Repeat([]string{"jsonb"}, len(texts)), texts) {
		if have, err := spell.JSONB([]byte(texts[i])); want == nil || err != nil || string(have) != *want {
			t.Errorf("%s\nis  %s (%v)", texts[i], have, err)
		}
	}
	texts = []string{``, ` `, `{`, `[1,]`, `{"a"}`, `01`, `+1`, `NaN`, `'a'`, `"\ud800"`, `"\udc00\ud800"`, `"\ud800x"`, `"\ud800\n"`, `"\u0000"`, `"\x"`, "\"\t\"", `[] []`, `nul`}
	for i, want := range spelled(t, slices.Repeat([]string{"jsonb"}, len(texts)), texts) {
		if have, err := spell.JSONB([]byte(texts[i])); want != nil || !errors.Is(err, spell.ErrValue) {
			t.Errorf("%q is %s, %v", texts[i], have, err)
		}
	}
	if _, err := spell.JSONB([]byte("\"\xff\"")); !errors.Is(err, spell.ErrValue) {
		t.Errorf("no Unicode: %v", err)
	}
	if err := spell.JSON([]byte(`{"a":1}`)); err != nil {
		t.Error(err)
	}
}

func TestModifiers(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	for _, declared := range []string{"character varying(20)", "character(3)", "numeric(10,2)", "numeric(3,-2)", "numeric", "text", "timestamp(3) with time zone", "time(0) without time zone", "timestamp without time zone"} {
		db.Run(t, `CREATE TABLE m (v `+declared+`)`)
		oid := testenv.One[uint32](t, db, `SELECT atttypid FROM pg_attribute WHERE attrelid = 'm'::regclass AND attname = 'v'`)
		want := testenv.One[int32](t, db, `SELECT atttypmod FROM pg_attribute WHERE attrelid = 'm'::regclass AND attname = 'v'`)
		printed := testenv.One[string](t, db, `SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'm'::regclass AND attname = 'v'`)
		if have := spell.Modifier(oid, printed); have != want {
			t.Errorf("%s: %d, want %d", printed, have, want)
		}
		db.Run(t, `DROP TABLE m`)
	}
}
