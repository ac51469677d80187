package standing

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Beside are the columns without which what Plain holds cannot be opened, as far as they are there.
func (s Standing) Beside() (columns []pg.Column) {
	if s.Origin == nil {
		return nil
	}
	for _, in := range s.Origin.Beside {
		if column := s.Relation.ColumnAt(in.Attnum); column.Attnum != 0 {
			columns = append(columns, column)
		}
	}
	return columns
}

// beside are their names of today.
func (s Standing) beside() (names []string) {
	for _, c := range s.Beside() {
		names = append(names, c.Name)
	}
	return names
}

// Leaving are those of them that have no use once Plain is gone: no other column's source needs them to be opened.
func (s Standing) Leaving(ctx context.Context, q pg.Querier) (columns []pg.Column, err error) {
	registered, err := lifecycle.Columns(ctx, q, s.Relid)
	if err != nil {
		return nil, err
	}
	needed := map[int16]bool{}
	for _, c := range registered {
		if c.ID == s.ID || s.Relation.ColumnAt(c.SourceNum).Attnum == 0 {
			continue
		}
		needed[c.SourceNum] = true
		spec, err := SpecOf(ctx, q, c.ID)
		if err != nil {
			return nil, err
		}
		if origin := spec.OriginAt(c.SourceNum); origin != nil {
			for _, in := range origin.Beside {
				needed[in.Attnum] = true
			}
		}
	}
	return slices.DeleteFunc(s.Beside(), func(c pg.Column) bool { return needed[c.Attnum] }), nil
}

// Alongside is the same for package ddl.
func Alongside(columns []pg.Column) (list []ddl.Alongside) {
	for _, c := range columns {
		list = append(list, ddl.Alongside{Name: c.Name, Type: c.Type, Collation: c.Collation})
	}
	return list
}

// DependentsWith are those of Plain and of these columns.
func (s Standing) DependentsWith(ctx context.Context, q pg.Querier, columns []pg.Column) ([]Dependent, error) {
	all, err := Dependents(ctx, q, s.Relid, s.SourceNum)
	for i := 0; err == nil && i < len(columns); i++ {
		var more []Dependent
		more, err = Dependents(ctx, q, s.Relid, columns[i].Attnum)
		all = append(all, more...)
	}
	return all, err
}

// PlainWord is what is behind the name of the old column once the cells have its name.
func (s Standing) PlainWord() string {
	switch {
	case s.Origin.Own():
		return "_old"
	case s.Origin != nil:
		return "_foreign"
	}
	return "_plaintext"
}

// Before is what stands in the source, in a sentence.
func (s Standing) Before() string {
	switch {
	case s.Origin.Own():
		return "old cells"
	case s.Origin != nil:
		return "old value"
	}
	return "plaintext"
}

// CheckOrigin refuses to cut a column over whose source somebody else encrypted, if applications could not write cells
// alone afterwards.
func (s Standing) CheckOrigin() error {
	var required []string
	for _, c := range s.Beside() {
		if c.NotNull && !c.HasDefault {
			required = append(required, c.Name)
		}
	}
	if len(required) == 0 {
		return nil
	}
	return Refuse("column", fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL", s.Relation.Table().SQL(), strings.Join(quotedAll(required), " DROP NOT NULL, ALTER COLUMN ")),
		"%s of %s must not be NULL, and whoever writes cells has nothing to put there", strings.Join(required, " and "), s.Relation.Table())
}

func quotedAll(names []string) (list []string) {
	for _, name := range names {
		list = append(list, pg.Ident(name))
	}
	return list
}

// CheckBack refuses to bring back what nobody here can: only an inverse of an expression could make its source again, and
// only who encrypted a source could encrypt it anew.
func (s Standing) CheckBack() error {
	table := s.Relation.Table()
	switch {
	case s.Expression != nil:
		return Refuse("column", fmt.Sprintf("write what they should hold into column %q yourself, and ask for the same again", s.Plain.Name),
			"rows of %s were written since the cutover, and no expression makes %q of %q", table, s.Plain.Name, s.Sealed.Name)
	case s.Origin != nil && !s.Origin.Own() && s.Plain.Attnum != 0:
		return Refuse("column", fmt.Sprintf("SELECT ... FROM %s WHERE %s IS NOT NULL AND %s IS NULL lists them: have the application that encrypts in that format write them into column %q, then ask for the same again",
			table.SQL(), pg.Ident(s.Sealed.Name), pg.Ident(s.Plain.Name), s.Plain.Name),
			"rows of %s were written since the cutover, and values of format %s are only read here, never written", table, s.Origin.Format)
	}
	return nil
}

// CheckOpenable refuses to open what a user's own encrypter made.
func (s Standing) CheckOpenable(ctx context.Context, q pg.Querier) error {
	if err := s.CheckBack(); err != nil {
		return err
	}
	e, err := EncrypterOf(ctx, q, s.ID)
	if err != nil || !e.Foreign() {
		return err
	}
	return Refuse("column", fmt.Sprintf("have them opened by it, write their plaintext into column %q, and ask for the same again", s.Plain.Name),
		"rows of %s were written since the cutover, and only %s can open %q", s.Relation.Table(), e.Name(), s.Sealed.Name)
}

// FormatOf is the format of a column's source in its newest job, if somebody else encrypted it; "" of plaintext.
func (s Standing) FormatOf() string {
	if s.Origin == nil {
		return ""
	}
	return s.Origin.Format
}
