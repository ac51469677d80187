package ddl_test

import (
	"fmt"
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
