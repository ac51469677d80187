package ladder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Drop is the planned end of a column's plaintext.
type Drop struct {
	standing.Standing
	Gone  bool                 // the plaintext is not there any more: nothing is left to drop
	SQL   ddl.Step             // what takes it away, and the way back; each for one transaction
	With  []pg.Column          // columns that go too: vectors and salts of what somebody else encrypted
	Along []standing.Dependent // indexes, constraints and statistics that Postgres drops together with it
	Mind  []standing.Dependent // what knows the column by its name only: it fails later, or loses a column
}

// dropLockTimeout is how long the migration waits for jobs that begin or end; for the table, see [ddl.Alone].
const dropLockTimeout = "2s"

// PlanDrop checks everything that can be checked without reading rows, and writes the SQL. It changes nothing. What
// depends on the plaintext and would not go with it is a [*standing.Refusal] that lists it.
func (l *Ladder) PlanDrop(ctx context.Context, n standing.Name) (d Drop, err error) {
	if d.Standing, err = l.Find(ctx, n); err != nil {
		return d, err
	}
	if err := d.ready(n); err != nil {
		return d, err
	}
	if d.Gone = d.Plain.Attnum == 0; d.Gone {
		return d, nil
	}
	err = standing.Reading(ctx, l.DB, "30s", func(tx pg.Tx) error { return d.check(ctx, tx) })
	if err != nil {
		return d, err
	}
	pin, unpin := ddl.Pin(dropLockTimeout)
	step := ddl.Removal{Column: d.column(), LogTable: d.Column.Table.String(), LogColumn: d.Source, Type: d.Plain.Type, Collation: d.Plain.Collation, Along: standing.Alongside(d.With), Cells: d.Origin.Of()}.Drop()
	d.SQL.Do, d.SQL.Undo = slices.Concat([]string{pin}, step.Do, []string{unpin}), slices.Concat([]string{pin}, step.Undo, []string{unpin})
	return d, nil
}

// ready says whether the column has come as far as to lose its plaintext.
func (d Drop) ready(n standing.Name) error {
	name := d.Relation.Table().String() + "." + d.Source
	switch d.State.Phase {
	case lifecycle.PhaseCutOver, lifecycle.PhaseDropped:
		return nil
	case lifecycle.PhaseBackfilled:
		return standing.Refuse("column", "`"+n.Command("cutover")+"` comes first", "%s is %s: applications still read its plaintext", name, d.State.Phase)
	}
	return standing.Refuse("column", "`"+n.Backfill()+"` comes next, then verify and cutover", "%s is %s: not every row has its cell", name, standing.PhaseWord(d.State.Phase))
}

// column is the column for statements about its end: the plaintext is the source, by today's names.
func (d Drop) column() ddl.Column {
	return ddl.Column{ID: d.ID, Table: d.Relation.Table(), Source: d.Plain.Name, Target: d.Sealed.Name}
}

func (d *Drop) check(ctx context.Context, q pg.Querier) (err error) {
	table := d.Relation.Table()
	switch {
	case d.Sealed.Attnum == 0:
		return standing.Refuse("column", "cipherfleet status shows what is left; without its cells the plaintext is all there is", "the column that held the cells of %s.%s is gone", table, d.Source)
	case !d.Relation.Privileges.Owner:
		return standing.Deny("table", "run this as the owner of the table, or let somebody who is run the file", "role %q may not alter %s", d.Relation.Server.User, table)
	case d.captured():
		return standing.Refuse("column", "take it back to backfilled (cipherfleet advance) and cut it over with cipherfleet cutover",
			"%s.%s was declared cut over, but what catches writes to its plaintext still stands", table, d.Source)
	}
	if err := noJob(ctx, q, d.Standing); err != nil {
		return err
	}
	if d.With, err = d.Leaving(ctx, q); err != nil {
		return err
	}
	return d.sortDependents(ctx, q)
}

// captured says that the capture of before the cutover is still there: the column was never really cut over.
func (d Drop) captured() bool {
	return slices.ContainsFunc(d.Relation.Triggers, func(t pg.Trigger) bool { return slices.Contains(ddl.AnyCaptureTriggers(d.ID), t.Name) })
}

// sortDependents tells what would make the drop fail from what goes with the column and from what Postgres knows
// nothing of.
func (d *Drop) sortDependents(ctx context.Context, q pg.Querier) error {
	all, err := d.DependentsWith(ctx, q, d.With)
	if err != nil {
		return err
	}
	var blocking []string
	for _, x := range all {
		switch {
		case x.ByName:
			d.Mind = append(d.Mind, x)
		case d.goesAlong(x):
			d.Along = append(d.Along, x)
		default:
			blocking = append(blocking, x.String())
		}
	}
	if len(blocking) > 0 {
		return standing.Refuse("column", "drop them, or make them do without the column; then ask for the same again",
			"%s of %s cannot be dropped, because these depend on it: %s", d.Plain.Name, d.Relation.Table(), strings.Join(blocking, ", "))
	}
	return d.checkIdentity(ctx, q)
}

// identitySQL are the indexes that tell subscribers which row was meant, and that would go with the column.
const identitySQL = standing.PlacesSQL + `
SELECT c.relname::text FROM places p JOIN pg_catalog.pg_index i ON i.indrelid = p.relid AND i.indisreplident AND p.attnum = ANY (i.indkey)
 JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid ORDER BY 1`

// checkIdentity: without its replica identity Postgres refuses every UPDATE and DELETE of a table that is published.
func (d *Drop) checkIdentity(ctx context.Context, q pg.Querier) error {
	indexes, err := pg.Values[string](ctx, q, identitySQL, d.Relid, d.SourceNum)
	if err != nil {
		return fmt.Errorf("look for the replica identity: %w", err)
	}
	if len(indexes) > 0 {
		return standing.Refuse("column", "ALTER TABLE "+d.Relation.Table().SQL()+" REPLICA IDENTITY DEFAULT, or USING INDEX another one",
			"index %s is the replica identity of %s and would go with %s: updates that are published would fail", indexes[0], d.Relation.Table(), d.Plain.Name)
	}
	return nil
}

// goesAlong: indexes, statistics and constraints of the table itself end with any of their columns.
func (d Drop) goesAlong(x standing.Dependent) bool {
	switch x.Kind {
	case "index", "unique index", "statistics", "unique constraint", "primary key", "exclusion constraint", "check constraint", "identity":
		return true
	case "foreign key":
		return x.Table == d.Relation.Table().String() || slices.ContainsFunc(d.Relation.Leaves, func(leaf pg.Leaf) bool { return leaf.Table().String() == x.Table })
	}
	return false
}

// dropPlanned is the detail of a drop_planned event.
type dropPlanned struct {
	File   string `json:"file,omitempty"` // its name without its folder; "" if it went to standard output
	Style  string `json:"style"`
	SHA256 string `json:"sha256"`
}

// RecordPlan notes in the log that the SQL was handed out, if the column is still cut over. The file's name should
// have no folder.
func (l *Ladder) RecordPlan(ctx context.Context, d Drop, file, style, sha256 string) error {
	detail, err := json.Marshal(dropPlanned{file, style, sha256})
	if err != nil {
		return err
	}
	return l.Transition(ctx, d.Standing, lifecycle.Event{Kind: lifecycle.KindDropPlanned, Detail: detail}, func(pg.Tx) error { return nil })
}

// Apply runs the SQL of a planned drop and records it, in one transaction. [Ladder.ProveCoverage] comes before.
func (l *Ladder) Apply(ctx context.Context, d Drop) error {
	detail, err := json.Marshal(standing.Dropped{Attnum: d.SourceNum, Applied: true})
	if err != nil {
		return err
	}
	err = l.Transition(ctx, d.Standing, lifecycle.Event{Kind: lifecycle.KindDropped, Detail: detail}, func(tx pg.Tx) error {
		if err := standing.Each(ctx, tx, d.SQL.Do); err != nil {
			return err
		}
		gone, err := standing.IsGone(ctx, tx, d.Column)
		if err == nil && !gone {
			err = fmt.Errorf("drop column %d of %s: it is still there", d.SourceNum, d.Relation.Table())
		}
		if err == nil {
			err = standing.RetireMoved(ctx, tx, d.Column)
		}
		return err
	})
	err = l.explained(ctx, d.Standing, err)
	var server *pg.Error
	if !errors.As(err, &server) {
		return err
	}
	switch server.Code {
	case "55000":
		return standing.Refuse("column", "cipherfleet status shows where the column stands; then ask for the same again", "the plaintext was not dropped: %s", server.Constraint)
	case "2BP01":
		return standing.Refuse("column", "ask for the same again: it lists them", "%s of %s cannot be dropped, because something has come to depend on it", d.Plain.Name, d.Relation.Table())
	}
	return err
}

// uncelled is the proof that failed.
func uncelled(d Drop, rows int64, n standing.Name) error {
	return &app.Fail{Code: app.CodeUnproven,
		Err: fmt.Errorf("%d rows of %s have a plaintext in %s and no cell in %s: dropping it would lose them", rows, d.Relation.Table(), d.Plain.Name, d.Sealed.Name),
		Hint: fmt.Sprintf("`%s`, then `%s`, verify and cutover again: that seals them; or set the plaintext of those rows to NULL, if their values are not wanted",
			n.Command("rollback"), n.Backfill())}
}
