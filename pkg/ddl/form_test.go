package ddl_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// formed is public.users with a target that holds cells in a form, guarded by its check.
func formed(t *testing.T, form cell.Form) fixture {
	t.Helper()
	c := usersColumn()
	c.Form = form
	f := fixture{testenv.Database(t), c}
	f.Run(t, `CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE users (id bigint PRIMARY KEY, email text, note text)`)
	f.do(t, f.AddTarget().Do)
	if form == cell.FormText {
		f.Run(t, `ALTER TABLE users ALTER cell TYPE text COLLATE loose`)
	}
	f.do(t, f.Check().Do)
	f.do(t, f.Validate().Do)
	return f
}

// cellUnder is what looks like a cell of column 7 under a scheme, and is as short as a cell can be.
func cellUnder(scheme uint16) []byte {
	c := cell.Header{Column: 7, Scheme: scheme, Suite: cell.SuiteAES256SIV, Codec: cell.CodecText, KeyID: 1}.Append(nil)
	return append(c, make([]byte, cell.TagSize)...)
}

func TestATargetInTextFormTakesItsOwnCellsAlone(t *testing.T) {
	t.Parallel()
	for _, form := range []cell.Form{cell.FormText, cell.FormJSON} {
		t.Run(form.String(), func(t *testing.T) {
			t.Parallel()
			f := formed(t, form)
			good := cellUnder(258)
			other := append([]byte{}, good...)
			other[5] = 8
			if err := f.insert(t, form.Append(nil, good)); err != nil {
				t.Errorf("a cell: %v", err)
			}
			text := func(s string) []byte {
				if form == cell.FormJSON {
					return []byte(`"` + s + `"`)
				}
				return []byte(s)
			}
			for name, value := range map[string][]byte{
				"another column's":  form.Append(nil, other),
				"too short":         form.Append(nil, good[:30]),
				"plaintext":         text("alice@example.com"),
				"nothing":           text(""),
				"in capitals":       text("CF1." + string(cell.FormText.Append(nil, good)[4:])),
				"no base64 behind":  text("cf1.9cEAAAAH!!!!" + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
				"hexadecimal bytes": text(fmt.Sprintf(`\\x%x`, good)),
			} {
				if err := f.insert(t, value); pg.Code(err) != "23514" {
					t.Errorf("%s: %v", name, err)
				}
			}
			for _, wrong := range []string{`{"cf": "cf1.9cEAAAAH"}`, `["cf1."]`, `null`, `true`, `1`} {
				if err := f.insert(t, []byte(wrong)); form == cell.FormJSON && pg.Code(err) != "23514" {
					t.Errorf("%s: %v", wrong, err)
				}
			}
			if err := f.insert(t, nil); err != nil {
				t.Errorf("NULL: %v", err)
			}
		})
	}
}

func (f fixture) insert(t *testing.T, value []byte) error {
	var text any
	if value != nil {
		text = string(value)
	}
	_, err := f.Exec(t.Context(), "INSERT INTO users (id, cell) SELECT coalesce(max(id), 0) + 1, $1::text::"+f.Form.String()+" FROM users", text)
	return err
}

// The scheme of a cell is seen without a key, in every form, at every boundary of its bits.
func TestTheSchemeOfACellIsSeenInEveryForm(t *testing.T) {
	t.Parallel()
	for _, form := range []cell.Form{cell.FormBytes, cell.FormText, cell.FormJSON} {
		t.Run(form.String(), func(t *testing.T) {
			t.Parallel()
			f := formed(t, form)
			numbers := []uint16{1, 2, 15, 16, 63, 64, 255, 256, 257, 4095, 4096, 65535}
			for _, number := range numbers {
				stored := form.Append(nil, cellUnder(number))
				if form == cell.FormBytes {
					stored = fmt.Appendf(nil, `\x%x`, stored)
				}
				if err := f.insert(t, stored); err != nil {
					t.Fatal(err)
				}
			}
			for i, number := range numbers {
				where := ddl.OtherScheme("cell", form, number)
				if n := testenv.One[int](t, f, "SELECT count(*) FROM users WHERE "+where); n != len(numbers)-1 {
					t.Errorf("%d cells are of another scheme than %d", n, number)
				}
				if n := testenv.One[int](t, f, f.LeftBehind(number, 10)); n != 1 {
					t.Errorf("%d cells are of scheme %d", n, number)
				}
				if id := testenv.One[int](t, f, "SELECT id FROM users WHERE NOT ("+where+")"); id != i+1 {
					t.Errorf("scheme %d is in row %d", number, id)
				}
			}
			if n := testenv.One[int](t, f, "SELECT count(*) FROM users WHERE "+ddl.Foreign("cell", form, 7)); n != 0 {
				t.Errorf("%d cells are foreign to their column", n)
			}
			if n := testenv.One[int](t, f, "SELECT count(*) FROM users WHERE "+ddl.Foreign("cell", form, 8)); n != len(numbers) {
				t.Errorf("%d cells are foreign to another column", n)
			}
			retired := []uint16{1, 2, 4096}
			f.do(t, f.Fence(retired).Do)
			printed := f.printed(t, ddl.NextFenceName(7))
			if !f.IsFence(printed, retired) || f.IsFence(printed, retired[:2]) {
				t.Errorf("the fence is not known by %s", printed)
			}
			if printed := f.printed(t, ddl.CheckName(7)); !f.IsCheck(printed) {
				t.Errorf("the check is not known by %s", printed)
			}
			if err := f.insert(t, form.Append(nil, cellUnder(4096))); form != cell.FormBytes && pg.Code(err) != "23514" {
				t.Errorf("a cell behind the fence: %v", err)
			}
		})
	}
}

// printed is the condition of a constraint as Postgres prints it.
func (f fixture) printed(t *testing.T, constraint string) string {
	t.Helper()
	return testenv.One[string](t, f, `SELECT pg_get_expr(k.conbin, k.conrelid) FROM set_config('search_path', 'pg_catalog', true) AS path, pg_constraint k WHERE k.conname = $1 AND path <> ''`, constraint)
}

// TestTheCheckRefusesAllButItsColumnsText does to the text forms what is done to bytes elsewhere: every character of what
// names the column, by every other one; every altered bit below it, written as text again; every cut; every character
// that is none of base64url where a cell's scheme stands. The collation of the column takes capitals for small letters.
func TestTheCheckRefusesAllButItsColumnsText(t *testing.T) {
	t.Parallel()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for _, form := range []cell.Form{cell.FormText, cell.FormJSON} {
		t.Run(form.String(), func(t *testing.T) {
			t.Parallel()
			f := formed(t, form)
			var what, tried []string
			var wanted []bool
			try := func(how, text string, want bool) {
				what, tried, wanted = append(what, how), append(tried, text), append(wanted, want)
			}
			for _, sealed := range [][]byte{suiteCell(t, cell.SuiteXAES256GCM), suiteCell(t, cell.SuiteAES256SIV), cellUnder(1)} {
				text := string(cell.FormText.Append(nil, sealed))
				try("the cell itself", text, true)
				for i := range cell.PrefixSize * 8 {
					bad := append([]byte{}, sealed...)
					bad[i/8] ^= 1 << (i % 8)
					try(fmt.Sprintf("bit %d altered", i), string(cell.FormText.Append(nil, bad)), false)
				}
				for i := range cell.TextPrefixSize + 4 {
					for c := rune(1); c < 0x180; c++ {
						altered := text[:i] + string(c) + text[i+1:]
						base64url := strings.ContainsRune(alphabet, c)
						try(fmt.Sprintf("character %d is %q", i, c), altered, altered == text || i >= cell.TextPrefixSize && base64url)
					}
				}
				for n := range len(text) {
					try(fmt.Sprintf("cut to %d characters", n), text[:n], n >= 47)
					try(fmt.Sprintf("without the first %d", n+1), text[n+1:], false)
				}
				for _, around := range []string{" %s", "\n%s", "\u200b%s", `"%s`, "x%s"} {
					try("something in front", fmt.Sprintf(around, text), false)
				}
			}
			// One statement for all: each is tried by itself, in a block that takes it back.
			f.Run(t, `CREATE FUNCTION takes(value text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO users (id, cell) VALUES (0, `+map[cell.Form]string{cell.FormText: "value", cell.FormJSON: "to_jsonb(value)"}[form]+`);
  DELETE FROM users WHERE id = 0;
  RETURN true;
EXCEPTION WHEN check_violation THEN
  RETURN false;
END $$`)
			taken := testenv.Column[bool](t, f, `SELECT takes(v) FROM unnest($1::text[]) WITH ORDINALITY AS u (v, n) ORDER BY n`, tried)
			if len(taken) != len(tried) {
				t.Fatalf("%d of %d were tried", len(taken), len(tried))
			}
			for i, in := range taken {
				if in != wanted[i] {
					t.Errorf("%s: it gets in: %t", what[i], in)
				}
			}
		})
	}
}

// A document holds a cell as a string of its own: in no object, list, or escape that means another string.
func TestTheCheckRefusesEveryOtherDocument(t *testing.T) {
	t.Parallel()
	f := formed(t, cell.FormJSON)
	text := string(cell.FormText.Append(nil, cellUnder(1)))
	for _, document := range []string{`{"cf": "%s"}`, `["%s"]`, `[["%s"]]`, `{"%s": 1}`, `"\"%s\""`, `"\n%s"`, `null`, `0`, `-1e10`, `true`, `false`, `""`, `{}`, `[]`} {
		if strings.Contains(document, "%s") {
			document = fmt.Sprintf(document, text)
		}
		if err := f.insert(t, []byte(document)); pg.Code(err) != "23514" {
			t.Errorf("%.12s…: %v", document, err)
		}
	}
	if err := f.insert(t, []byte(`"\u0063`+text[1:]+`"`)); err != nil { // the same string, spelled otherwise: it is stored as any
		t.Errorf("an escape: %v", err)
	}
}
