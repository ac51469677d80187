package standing

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/bound"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Labels are what cells of the schemes that can be read are bound to beside the key, each once.
func Labels(schemes []lifecycle.SchemeRow) (labels []string) {
	for _, s := range schemes {
		live := s.State == lifecycle.SchemeReadable || s.State == lifecycle.SchemeActive
		if live && s.Columns != "" && !slices.Contains(labels, s.Columns) {
			labels = append(labels, s.Columns)
		}
	}
	return labels
}

// BoundColumns are the names of the columns that cells of the schemes that can be read are bound to. One that is not what
// it was is a [*Refusal].
func (s Standing) BoundColumns(schemes []lifecycle.SchemeRow) ([]string, error) {
	return boundColumns(s.Relation, schemes)
}

func boundColumns(relation pg.Relation, schemes []lifecycle.SchemeRow) ([]string, error) {
	list, err := bound.All(relation, Labels(schemes))
	if err != nil {
		return nil, Unbound(err)
	}
	return bound.Distinct(list), nil
}

// CheckBound refuses a column whose cells are bound to columns that are not what they were.
func (s Standing) CheckBound(ctx context.Context, q pg.Querier) error {
	schemes, err := lifecycle.Schemes(ctx, q, s.ID)
	if err == nil {
		_, err = s.BoundColumns(schemes)
	}
	return err
}

// Unbound makes a refusal of an error that says that a bound column is not what it was; any other stays.
func Unbound(err error) error {
	var changed *bound.ChangedError
	if errors.As(err, &changed) {
		return Refuse("scheme", changed.Hint(), "%s", changed.Error())
	}
	return err
}

// IsBound says that Postgres looks after these columns, as this version has it do: without any, that it need not.
func (s Standing) IsBound(names []string) bool { return isBound(s.Relation, s.DDL(), names) }

func isBound(relation pg.Relation, steps ddl.Column, names []string) bool {
	found := false
	for _, t := range relation.Triggers {
		if t.Name != ddl.BoundTrigger(steps.ID) {
			continue
		}
		if !steps.IsBound(t, names) {
			return false
		}
		found = found || t.Table.OID == relation.OID
	}
	return found == (len(names) > 0)
}

// Bind has Postgres look after these columns, unless it does; see [ddl.Column.Bind]. Alter runs it in a transaction of its
// own. A job over the table would take it for a change of the table, so there must be none.
func (s Standing) Bind(ctx context.Context, q pg.Querier, names []string, alter Alter) error {
	if s.Sealed.Attnum == 0 || s.IsBound(names) {
		return nil
	}
	if err := CheckFree(ctx, q, s.Relid, s.Relation.Table()); err != nil {
		return err
	}
	return bind(ctx, s.DDL(), names, alter)
}

// Alter runs one change of a table in a transaction of its own.
type Alter func(context.Context, func(pg.Tx) error) error

// BindAnew is the same for a column that climbs: its target may just have been made, and its job is not there yet.
func BindAnew(ctx context.Context, db *pg.DB, relation pg.Relation, steps ddl.Column, alter Alter) error {
	schemes, err := lifecycle.Schemes(ctx, db, steps.ID)
	if err != nil {
		return err
	}
	names, err := boundColumns(relation, schemes)
	if err != nil || len(names) == 0 || isBound(relation, steps, names) {
		return err
	}
	return bind(ctx, steps, names, alter)
}

func bind(ctx context.Context, steps ddl.Column, names []string, alter Alter) error {
	apart := Unwritten
	if len(names) == 0 { // what is dropped is kept from readers, too
		apart = Alone
	}
	err := alter(ctx, func(tx pg.Tx) error { return apart(ctx, tx, steps.Table, steps.Bind(names).Do...) })
	if err != nil {
		return fmt.Errorf("look after the columns that cells of %s are bound to: %w", steps.Table, err)
	}
	return nil
}
