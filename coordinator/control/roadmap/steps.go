package roadmap

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// steps are what leads from where the column stands to where the manifest wants it, in order. A column that is not there
// has none.
func steps(l *status.Look) (steps []Step) {
	at, want := l.State.Phase.Rung(), lifecycle.Phase(l.Wanted.Reach).Rung()
	add := func(to lifecycle.Phase, does, command, lock string) {
		steps = append(steps, Step{to, does, command, lock, []string{}})
	}
	if l.Gone || l.Plain.Attnum == 0 && at < lifecycle.PhaseCutOver.Rung() {
		return nil
	}
	byBackfill := l.Wanted.Made() || l.Wanted.From != nil || l.Within.Where != "" // it climbs all rungs of such a column itself
	if at < 1 && want >= 1 && !byBackfill {
		add(lifecycle.PhaseSchemaAdded, "add the target column and its CHECK, and register the column", nameOf(l).Command("advance")+" --to schema-added",
			"ACCESS EXCLUSIVE for a moment; no row is read")
	}
	if at == 1 && want == 1 && l.Sealed.Attnum == 0 {
		add(lifecycle.PhaseSchemaAdded, "add the target column again, and its CHECK", nameOf(l).Command("advance")+" --to schema-added", "ACCESS EXCLUSIVE for a moment; no row is read")
	}
	if at < 2 && want >= 2 && !byBackfill {
		add(lifecycle.PhaseDualWriting, "validate the CHECK, make the data key, and install capture", nameOf(l).Command("advance")+" --to dual-writing",
			"SHARE UPDATE EXCLUSIVE while rows are read, then SHARE ROW EXCLUSIVE for a moment")
	} else if at == 2 && want == 2 && mends(l) {
		add(lifecycle.PhaseDualWriting, "put back what is missing", nameOf(l).Command("advance")+" --to dual-writing", "SHARE UPDATE EXCLUSIVE while rows are read, then SHARE ROW EXCLUSIVE for a moment")
	}
	if at == 2 && want == 2 && unwatched(l) {
		add("", "open every cell and compare it with its source", verifyLine(l), "none; every row is read")
	}
	if want >= 4 && at < 5 && (at < 4 || mends(l) || unwatched(l)) || byBackfill && at < want && want < 4 {
		add(lifecycle.PhaseBackfilled, fills(l), passLine(l), "of rows, a chunk at a time")
	}
	if slices.Contains(l.Status.Flags, status.FlagQuarantined) && l.Status.Job != nil {
		add("", "look at the rows in quarantine, and try them again", "cipherfleet job retry "+l.Status.Job.ID+" --quarantined", "of rows, a chunk at a time")
	}
	schemeSteps(l, add)
	indexSteps(l, add)
	if want >= 5 && at < 5 {
		if of, has := underneath(l); has {
			add("", fmt.Sprintf("drop the plaintext of %s: nothing would keep it up to date once its cells have moved", of), of.Command("drop")+" --apply", dropLock)
		}
		cutoverSteps(l, add)
	}
	if want >= 6 && at < 6 {
		add("", "write the migration that drops the "+before(l)+", for review", nameOf(l).Command("drop"), "none")
		add(lifecycle.PhaseDropped, "drop the "+before(l), nameOf(l).Command("drop")+" --apply", dropLock)
	}
	return steps
}

const dropLock = "ACCESS EXCLUSIVE for a moment, after a CHECK was validated beside writers"

// underneath is the column whose cells move, if it still has its plaintext: the cutover of the move wants that gone.
func underneath(l *status.Look) (of standing.Name, has bool) {
	at := slices.IndexFunc(l.Survey.Columns, func(c lifecycle.Column) bool {
		return l.Wanted.From.Own() && c.ID != l.Column.ID && c.Relid == l.Relation.OID && c.TargetNum == l.Plain.Attnum && c.SourceNum != c.TargetNum && l.Relation.ColumnAt(c.SourceNum).Attnum != 0
	})
	if at < 0 || l.Plain.Attnum == 0 || l.Survey.States[l.Survey.Columns[at].ID].State.Phase != lifecycle.PhaseCutOver {
		return of, false
	}
	return standing.Name{Schema: l.Table.Schema, Table: l.Table.Name, Column: l.Survey.Columns[at].Source}, true
}

func cutoverSteps(l *status.Look, add func(to lifecycle.Phase, does, command, lock string)) {
	state := l.State
	if !state.Sound() || state.Phase.Rung() < 4 || rotates(l) { // which leaves nothing proved
		add("", "open every cell and compare it with its source", verifyLine(l), "none; every row is read")
	}
	if l.Wanted.Soak > 0 {
		add("", fmt.Sprintf("wait until no write has missed the target for %v", l.Wanted.Soak), "", "none")
	}
	does := "let the cells take the plaintext's name"
	if l.Wanted.From.Own() {
		does = "let the cells take the old cells' name"
	}
	if l.Wanted.Cutover == standing.StrategyByName {
		does = "record that applications read the cells by their own name"
	}
	add(lifecycle.PhaseCutOver, does, nameOf(l).Command("cutover"), "ACCESS EXCLUSIVE for a moment, tried again and again")
}

// before is what the column's source holds.
func before(l *status.Look) string {
	if l.Wanted.From.Own() {
		return "old cells"
	}
	return "plaintext"
}

// fills is what a backfill of the column does.
func fills(l *status.Look) string {
	within := withinWords(l)
	switch {
	case l.Wanted.Made():
		return "make the values of rows that are not done"
	case unwatched(l) || slices.Contains(l.Status.Flags, status.FlagWhereDiffers):
		return "encrypt what is not covered" + within + ", and what is covered by a cell of another value"
	}
	if l.Wanted.From.Own() {
		return "open the cells that are not covered, and seal them into cells of their own type"
	}
	if l.Wanted.From != nil {
		return "open what is not covered, in format " + l.Wanted.From.Format + ", and seal it into cells"
	}
	return "encrypt what is not covered" + within
}

// withinWords say which rows the backfill is about, and which the last one was.
func withinWords(l *status.Look) (words string) {
	switch {
	case l.Condition.Wanted != nil:
		words = " of the rows for which " + l.Condition.Wanted.SQL
	case !l.Condition.Every() && l.Within.Where != "":
		words = " of the rows that meet the condition"
	}
	if !slices.Contains(l.Status.Flags, status.FlagWhereDiffers) {
		return words
	}
	was := "every row"
	if l.Condition.Has != nil {
		was = "those for which " + l.Condition.Has.SQL
	}
	return cmp.Or(words, " of every row") + " (until now " + was + ")"
}

// unwatched says that a job, or a verification, has cells to compare.
func unwatched(l *status.Look) bool { return slices.Contains(l.Status.Flags, status.FlagUnwatched) }

// mends says that the backfill's preparation, or a sweep, has something to put right.
func mends(l *status.Look) bool {
	return slices.ContainsFunc(l.Status.Flags, func(flag string) bool {
		return slices.Contains([]string{status.FlagUncovered, status.FlagWhereDiffers, status.FlagTargetMissing, status.FlagCheckMissing, status.FlagCheckNotValidated, status.FlagCaptureMissing, status.FlagCaptureAltered,
			status.FlagCaptureDisabled, status.FlagCaptureNotAlways, status.FlagKeyMissing}, flag)
	})
}

// writes says that one of the steps writes rows.
func writes(l *status.Look, steps []Step) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { return s.To == lifecycle.PhaseBackfilled })
}

// sourceOf is the column by its source, as a backfill begins with it.
func sourceOf(l *status.Look) standing.Name {
	return standing.Name{Schema: l.Table.Schema, Table: l.Table.Name, Column: l.Name()}
}

// nameOf is the column under today's names; one that is going to move by that of its target.
func nameOf(l *status.Look) standing.Name {
	if l.Column.ID == 0 && l.Wanted.From.Own() {
		return standing.Name{Schema: l.Table.Schema, Table: l.Table.Name, Column: l.Wanted.Target}
	}
	return standing.Name{Schema: l.Table.Schema, Table: l.Table.Name, Column: l.Name()}
}

func verifyLine(l *status.Look) string {
	return strings.Join(append([]string{"cipherfleet", "verify"}, nameOf(l).Flags()...), " ")
}

// backward is the warning that the manifest wants less than there is.
func backward(l *status.Look, c Column) Obstacle {
	o := Obstacle{Kind: "backward", Message: fmt.Sprintf("the manifest wants %s, but the column is %s already", c.Reach, c.Phase),
		Hint: fmt.Sprintf("no plan goes backward: say reach: %s in the manifest, or go back yourself with `%s`", c.Phase, nameOf(l).Command("rollback"))}
	switch c.Phase {
	case lifecycle.PhaseDropped:
		o.Hint = "nothing brings the plaintext back but decrypting: say reach: dropped in the manifest"
	case lifecycle.PhaseBackfilling:
		o.Hint = "say reach: backfilled in the manifest, or cancel the job"
	}
	return o
}

// differences are what the manifest wants otherwise.
func differences(l *status.Look) []Difference {
	list := []Difference{}
	differ := func(what, wanted, is string) {
		if wanted != is {
			list = append(list, Difference{what, wanted, is})
		}
	}
	if l.Sealed.Attnum != 0 {
		differ("target type", l.Wanted.Type, typeWord(l))
	}
	if l.Column.ID != 0 && !l.Swapped() {
		differ("target", l.Wanted.Target, cmp.Or(l.Sealed.Name, l.Column.Target))
	}
	if bound := l.Bound(); l.Column.ID != 0 && len(l.Within.Key) > 0 && len(bound) > 0 {
		differ("key", sortedWords(l.Within.Key), sortedWords(bound))
	}
	list = append(list, schemeDifferences(l)...)
	for _, x := range l.Status.Indexes {
		for _, other := range l.Otherwise(x) {
			what := "index " + x.Name + " " + other[0]
			if !slices.ContainsFunc(list, func(d Difference) bool { return d.What == what }) { // another generation is as the first
				differ(what, other[1], other[2])
			}
		}
		if x.Wanted && indexable(l) && !undividable(l, x) { // a step makes it
			continue
		}
		if l.State.Phase.Rung() >= lifecycle.PhaseBackfilled.Rung() || x.Present {
			differ("index "+x.Name, there(x.Wanted), there(x.Present))
		}
	}
	return list
}

func there(is bool) string {
	if is {
		return "there"
	}
	return "not there"
}

// typeWord is the target's type as a manifest would spell it.
func typeWord(l *status.Look) string {
	if l.Fits(l.Sealed) {
		return l.Wanted.Type
	}
	return l.Sealed.Type
}

func sortedWords(names []string) string {
	return strings.Join(slices.Sorted(slices.Values(names)), ", ")
}
