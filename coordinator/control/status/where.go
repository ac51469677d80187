package status

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Condition says which rows of a column need a cell, by its newest job and by the manifest; nil is every row.
type Condition struct {
	Has     *ddl.Condition // the job's, as long as it can be asked
	Wanted  *ddl.Condition // the manifest's, as Postgres prints it
	Refused error          // why the manifest's is not known: a [*standing.Refusal], or another error
	known   bool           // it is
}

// Every says that the manifest wants a cell in every row.
func (c Condition) Every() bool { return c.known && c.Wanted == nil }

// ReadCondition has Postgres read a condition, for a source and a target of a table. A [*standing.Refusal] says why that
// cannot be done.
type ReadCondition func(ctx context.Context, db *pg.DB, r pg.Relation, source, target, where string) (*ddl.Condition, error)

// settleConditions finds the conditions of columns. The text that the newest job was asked with is not read again;
// without read, no text is.
func settleConditions(ctx context.Context, db *pg.DB, looks []*Look, read ReadCondition) error {
	conditions := standing.Conditions{}
	if slices.ContainsFunc(looks, func(l *Look) bool { return l.last() != nil }) {
		var err error
		if conditions, err = standing.ReadConditions(ctx, db); err != nil {
			return err
		}
	}
	for _, l := range looks {
		last := l.last()
		if l.Condition.Has = conditions.Within(l.Relation, l.Column.ID, last); l.Condition.Has != nil {
			l.Status.Where = &l.Condition.Has.SQL
		}
		switch where := l.wantedWhere(); {
		case where == "":
			l.Condition.known = true
		case last != nil && last.Text == where && last.Stands(l.Relation):
			l.Condition.Wanted, l.Condition.known = last, true
		case read != nil && !l.Gone && l.Plain.Attnum != 0:
			l.Condition.Wanted, l.Condition.Refused = read(ctx, db, l.Relation, l.Plain.Name, l.target(), where)
			l.Condition.known = l.Condition.Refused == nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// last is the condition of the newest job, under the names that it was read with.
func (l *Look) last() *ddl.Condition {
	return standing.SpecIn(l.Survey.Jobs[l.Column.ID], l.Column.ID).Where
}

// outside is the condition, of a row of alias t, that it needs no cell and has none.
func (c Condition) outside(column ddl.Column, sealed string, wanted bool) string {
	switch {
	case wanted && c.known && c.Wanted != nil && !c.Wanted.Same(c.Has): // nothing calls it yet
		return fmt.Sprintf("NOT (%s OR ((%s) IS TRUE))", sealed, c.Wanted.SQL)
	case wanted && c.Every(), c.Has == nil:
		return "false"
	}
	return fmt.Sprintf("NOT (%s OR %s)", sealed, column.Within("t"))
}

// target is the name of the column of cells, also of one that is to be added.
func (l *Look) target() string {
	if l.Sealed.Attnum != 0 || l.Wanted == nil {
		return l.Sealed.Name
	}
	return l.Wanted.Target
}

// wantedWhere is the manifest's text of the condition, where it bears on the column; "" is every row.
func (l *Look) wantedWhere() string {
	if l.Wanted == nil || l.Wanted.Transform != messages.TransformEncrypt || l.State.Phase.Rung() >= lifecycle.PhaseCutOver.Rung() {
		return ""
	}
	return l.Within.Where
}

// whereDiffers says that the manifest has another condition than the newest job: one that Postgres refuses cannot be the
// same.
func (l *Look) whereDiffers() bool {
	if _, had := l.Survey.Jobs[l.Column.ID]; !had || l.Wanted == nil || l.Wanted.Transform != messages.TransformEncrypt {
		return false
	}
	var refused *standing.Refusal
	if errors.As(l.Condition.Refused, &refused) {
		return refused.Kind != messages.CodeDenied
	}
	return l.Condition.known && !l.last().Same(l.Condition.Wanted)
}
