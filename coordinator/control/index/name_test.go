package index_test

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestANameMakesNoIndexOfTokens: what bears the name of ours, and is another, is neither taken for it nor dropped. Once it
// has another name, ours is built.
func TestANameMakesNoIndexOfTokens(t *testing.T) {
	t.Parallel()
	whole := func(o *office) string { return "cipherfleet_token_1_index" }
	part := func(o *office) string {
		return "cipherfleet_token_1_index_" + testenv.One[string](o.t, o, `SELECT 'rest'::regclass::oid::text`)
	}
	for what, c := range map[string]struct {
		in   func(*testing.T) *office
		name func(*office) string
		sql  string
	}{
		"another table's":                  {filled, whole, `CREATE TABLE other (x int); CREATE INDEX NAME ON other (x)`},
		"another column's":                 {filled, whole, `CREATE UNIQUE INDEX NAME ON users (note)`},
		"of some rows":                     {filled, whole, `CREATE UNIQUE INDEX NAME ON users (bidx) WHERE id > 10`},
		"not unique":                       {filled, whole, `CREATE INDEX NAME ON users (bidx)`},
		"of more columns":                  {filled, whole, `CREATE UNIQUE INDEX NAME ON users (bidx, id)`},
		"of an expression":                 {filled, whole, `CREATE UNIQUE INDEX NAME ON users (md5(bidx))`},
		"no index":                         {filled, whole, `CREATE TABLE NAME ()`},
		"over the partitions, of a column": {parted, whole, `CREATE INDEX NAME ON users (note)`},
		"over the partitions, hashed":      {parted, whole, `CREATE INDEX NAME ON users USING hash (bidx)`},
		"another column's, of a partition": {parted, part, `CREATE INDEX NAME ON rest (note)`},
		"unique, of a partition":           {parted, part, `CREATE UNIQUE INDEX NAME ON rest (bidx)`},
		"of another partition":             {parted, part, `CREATE INDEX NAME ON mid_0 (note)`},
		"no index, beside a partition":     {parted, part, `CREATE SEQUENCE NAME`},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			o := c.in(t)
			name := c.name(o)
			o.Run(t, strings.ReplaceAll(c.sql, "NAME", name))
			o.refuses("built", func() error {
				p, err := o.r.PlanBuild(t.Context(), o.name, "bidx", 0)
				if err == nil {
					_, err = o.r.Build(t.Context(), p, false)
				}
				return err
			})
			if x, err := o.r.Show(t.Context(), o.name, "bidx", 0, false); err != nil || x.Built != index.BuiltMissing {
				t.Errorf("it is shown as %s, %v", x.Built, err)
			}
			if _, err := o.Exec(t.Context(), `ALTER INDEX `+name+` RENAME TO other_name`); err != nil {
				o.Run(t, `ALTER TABLE `+name+` RENAME TO other_name`)
			}
			o.build(0)
			if n := testenv.One[int](t, o, `SELECT count(*) FROM pg_class WHERE relname = 'other_name'`); n != 1 {
				t.Error("what bore the name is gone")
			}
		})
	}
}

// filled is an office whose table has no partitions, and whose blind index is filled and not built.
func filled(t *testing.T) *office {
	t.Helper()
	o := backfilled(t)
	o.make(wanted())
	o.token("bidx")
	return o
}
