package ddl_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// A write by which a row comes to lack its cell is counted, once, and no other: not of a row that has its cell, that needs
// none, or that lacked it before.
func TestRowsThatComeIntoAConditionAreCounted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		insert, update string
		sealed         bool
		missed         int64 // by the update
	}{
		"comes in":                    {insert: "'a', 'out'", update: "note = 'in'", missed: 1},
		"is in, and raises no doubt":  {insert: "'a', 'in'", update: "note = 'in'"},
		"comes in from nowhere":       {insert: "'a', NULL", update: "note = 'in'", missed: 1},
		"goes out":                    {insert: "'a', 'in'", update: "note = 'out'"},
		"goes nowhere":                {insert: "'a', 'in'", update: "note = NULL"},
		"has no source":               {insert: "NULL, 'out'", update: "note = 'in'"},
		"has its cell":                {insert: "'a', 'out'", update: "note = 'in'", sealed: true},
		"comes in with another value": {insert: "'a', 'out'", update: "note = 'in', email = 'b'", missed: 1},
		"comes in with its value":     {insert: "NULL, 'out'", update: "note = 'in', email = 'b'", missed: 1},
		"comes in with another key":   {insert: "'a', 'out'", update: "note = 'in', id = 2", missed: 1},
		"another value outside":       {insert: "'a', 'out'", update: "email = 'b'"},
		"another value of a cell":     {insert: "'a', 'out'", update: "email = 'b'", sealed: true},
		"another value inside":        {insert: "'a', 'in'", update: "email = 'b'", sealed: true, missed: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := usersColumn()
			c.Where = &ddl.Condition{SQL: "(note = 'in'::text)", Reads: []ddl.Input{{Name: "note", Attnum: 3}}}
			f := prepare(t, c, "CREATE TABLE users (id bigint PRIMARY KEY, email text, note text)")
			f.write(t, "", "INSERT INTO public.users (id, email, note) VALUES (1, "+tc.insert+")")
			if tc.sealed {
				f.write(t, ddl.WriterFleet, "UPDATE public.users SET cell = $1", cellOf(7))
			}
			before := f.missed(t)
			f.write(t, "", "UPDATE public.users SET "+tc.update)
			if n := f.missed(t) - before; n != tc.missed {
				t.Errorf("%d writes were counted, want %d", n, tc.missed)
			}
			if cell := testenv.One[bool](t, f, "SELECT cell IS NOT NULL FROM public.users"); cell != (tc.sealed && name == "has its cell") {
				t.Errorf("a cell is there: %v", cell)
			}
		})
	}
}
