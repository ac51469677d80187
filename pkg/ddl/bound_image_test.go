package ddl_test

import (
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// A cell is bound to what Postgres prints of a column, or to what a number is worth: whatever changes that leaves no cell
// behind, also where Postgres takes both values for equal, or this session prints them alike; whatever does not, leaves it.
func TestAnyOtherPrintOfABoundColumnIsAChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		typ, tag, from, to string
		stays              bool
	}{
		"a negative zero":                      {"float8", "o", "'0'", "'-0'", false},
		"a digit that this session hides":      {"float8", "o", "0.3", "0.1::float8 + 0.2::float8", false},
		"another scale inside of jsonb":        {"jsonb", "o", `'{"a": 1.0}'`, `'{"a": 1.00}'`, false},
		"another scale inside of an array":     {"numeric[]", "o", "'{1.0}'", "'{1.00}'", false},
		"other bounds of an array":             {"int[]", "o", "'{1,2}'", "'[0:1]={1,2}'", false},
		"another scale inside of a composite":  {"pair", "o", "'(1.0,x)'", "'(1.00,x)'", false},
		"another scale inside of a range":      {"numrange", "o", "'[1.0,2)'", "'[1.00,2)'", false},
		"an interval that is equal":            {"interval", "o", "'1 mon'", "'30 days'", false},
		"another case of citext":               {"citext", "s", "'a'", "'A'", false},
		"another case where they are the same": {"text COLLATE loose", "s", "'a'", "'A'", false},
		"a network's length":                   {"inet", "o", "'10.0.0.1'", "'10.0.0.1/24'", false},
		"another scale":                        {"numeric", "n", "1.0", "1.00", true},
		"another scale of a domain":            {"amount", "n", "1.0", "1.00", true},
		"a number":                             {"amount", "n", "1.0", "1.001", false},
		"no number":                            {"numeric", "n", "'NaN'", "1", false},
		"the same jsonb":                       {"jsonb", "o", `'{"a": 1, "b": 2}'`, `'{"b": 2, "a": 1}'`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := formed(t, cell.FormBytes)
			f.Run(t, fmt.Sprintf(`CREATE EXTENSION citext; CREATE TYPE pair AS (n numeric, s text); CREATE DOMAIN amount AS numeric;
ALTER TABLE users ADD "a ""b" %s NOT NULL DEFAULT %s`, c.typ, c.from))
			f.bindTo(t, c.tag, `a "b`)
			f.write(t, "", "INSERT INTO users (id, email, cell) VALUES (1, 'x', $1)", boundCell(cell.FormBytes, 2, 1))
			update := fmt.Sprintf(`UPDATE users SET "a ""b" = %s WHERE id = 1`, c.to)
			err := f.under(t, map[string]string{"extra_float_digits": "0", "intervalstyle": "sql_standard", "timezone": "Asia/Kolkata"}, update)
			if (err == nil) != c.stays || err != nil && pg.Code(err) != checkViolation {
				t.Errorf("the cell stays: %v", err)
			}
		})
	}
}

// bindTo has cells of scheme 2 bound to one column, and Postgres look after it, where cells are the truth.
func (f fixture) bindTo(t *testing.T, tag, name string) {
	t.Helper()
	f.Run(t, `INSERT INTO cipherfleet.columns (id, relid, source_attnum, target_attnum, schema_name, table_name, source, target, type) OVERRIDING SYSTEM VALUE
 SELECT 7, c.oid, 2, 4, 'public', 'users', 'email', 'cell', 'text' FROM pg_class c WHERE c.oid = 'users'::regclass`)
	if _, err := f.Exec(t.Context(), `INSERT INTO cipherfleet.schemes (column_id, number, suite, codec, binding, padding, nulls, state, bound_attnums, bound_tags)
 SELECT 7, 2, 1, 1, 'columns', 0, 'keep', 'active', ARRAY[attnum], $2 FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = $1`, name, tag); err != nil {
		t.Fatal(err)
	}
	f.do(t, f.Bind([]string{name}).Do)
}
