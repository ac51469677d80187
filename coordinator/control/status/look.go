package status

import (
	"cmp"
	"slices"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Look is one column in a survey: a registered one, one of the manifest, or both.
type Look struct {
	Survey *Survey
	Column lifecycle.Column // ID 0: not registered; then only names and relid
	Table  pg.Table         // today's name, or the registered one if the table is gone
	Gone   bool             // the table is not there
	Wanted *manifest.Column // nil: the manifest does not name it
	Within *manifest.Table  // the manifest's table of wanted
	Status Column

	Relation      pg.Relation
	Plain, Sealed pg.Column // that hold plaintext and cells, under today's names; Attnum 0: gone
	State         lifecycle.State
	contradictory bool  // the log holds what cannot have happened
	Counted       bool  // the coverage is of rows, not of a job's progress
	paired        int64 // counted rows with a value in both columns
	Condition     Condition
	wanting       bool // rows are counted by what the manifest wants
}

// Looks are the registered columns by the names of their tables, and behind them those that only the manifest names.
func (v *Survey) Looks() []*Look {
	var looks []*Look
	for _, c := range v.Columns {
		l := &Look{Survey: v, Column: c}
		l.place()
		looks = append(looks, l)
	}
	slices.SortStableFunc(looks, func(a, b *Look) int {
		return cmp.Or(cmp.Compare(a.Table.Schema, b.Table.Schema), cmp.Compare(a.Table.Name, b.Table.Name), cmp.Compare(a.Column.Relid, b.Column.Relid))
	})
	for t := range v.Manifest.Tables {
		table := &v.Manifest.Tables[t]
		for c := range table.Columns {
			looks = v.match(looks, table, &table.Columns[c])
		}
	}
	looks = slices.DeleteFunc(looks, func(l *Look) bool {
		return v.only != "" && !isNamed(l.Table, v.only) && !isNamed(l.Column.Table, v.only)
	})
	for _, l := range looks {
		l.describe()
	}
	return looks
}

func isNamed(t pg.Table, name string) bool { return t.Name == name || t.String() == name }

// match gives a registered column what the manifest says of it, or adds the column. The manifest may still have the
// names of the registration.
func (v *Survey) match(looks []*Look, t *manifest.Table, c *manifest.Column) []*Look {
	name := pg.Table{Schema: t.Schema, Name: t.Name}
	for _, today := range []bool{true, false} {
		at := slices.IndexFunc(looks, func(l *Look) bool {
			if l.Wanted != nil || l.Column.ID == 0 {
				return false
			}
			if c.From.Own() || l.moving() { // it goes by the name of its target
				return c.From.Own() && l.Column.Table == name && l.Column.Moves() && l.Column.Source == c.Target
			}
			if today {
				return l.Table == name && (l.Name() == c.Source || l.Column.Source == c.Source)
			}
			return l.Column.Table == name && l.Column.Source == c.Source
		})
		if at >= 0 {
			looks[at].Wanted, looks[at].Within = c, t
			return looks
		}
	}
	l := &Look{Survey: v, Wanted: c, Within: t, Column: lifecycle.Column{Table: name, Source: c.Source, Target: c.Target}}
	l.place()
	return append(looks, l)
}

// place finds the table and the columns under today's names.
func (l *Look) place() {
	l.Table, l.Gone = l.Column.Table, true
	oid := l.Column.Relid
	if l.Column.ID == 0 {
		oid = l.Survey.named[l.Table]
	}
	latest := l.Survey.States[l.Column.ID]
	l.State, l.contradictory = latest.State, latest.Err != nil
	relation, found := l.Survey.Relations[oid]
	if !found {
		return
	}
	l.Relation, l.Table, l.Gone = relation, relation.Table(), false
	if l.Column.ID == 0 {
		l.Plain, _ = relation.Column(l.Column.Source)
		l.Sealed, _ = relation.Column(l.Column.Target)
		return
	}
	l.Plain, l.Sealed = relation.ColumnAt(l.Column.SourceNum), relation.ColumnAt(l.Column.TargetNum)
}

// Swapped says that the cells have taken the plaintext's name.
func (l *Look) Swapped() bool {
	if l.Column.ID == 0 || l.Sealed.Attnum == 0 || l.inPlace() {
		return false
	}
	c := l.Survey.cutovers[l.Column.ID]
	return l.Sealed.Name == l.Column.Source && !l.Column.Moves() || l.cutOver() && c.Strategy == standing.StrategySwap && l.Sealed.Name == c.SealedName
}

// Name is what the column is called today.
func (l *Look) Name() string {
	switch {
	case l.moving() || l.Column.Moves() && l.Sealed.Attnum == 0:
		return l.Column.Source // the name in its table is still the old column's
	case l.Swapped() || l.Column.Moves() && l.Plain.Attnum == 0:
		return l.Sealed.Name
	case l.Plain.Attnum == 0:
		return l.Column.Source
	}
	return l.Plain.Name
}

// moving says that the column's source still holds the cells that move into its own.
func (l *Look) moving() bool {
	_, had := l.Survey.Jobs[l.Column.ID]
	return l.Column.Moves() && l.Plain.Attnum != 0 && (!had || l.origin() != nil)
}

// describe says everything of a column but how much of it is covered.
func (l *Look) describe() {
	v, id := l.Survey, l.Column.ID
	l.Status = Column{ID: id, Table: l.Table.String(), Column: l.Name(), Target: cmp.Or(l.Sealed.Name, l.Column.Target), Phase: l.State.Phase,
		Schemes: []SchemeRows{}, Indexes: l.indexes(), MissedBy: []standing.MissedBy{}, Flags: []string{}}
	switch {
	case l.moving() && l.Sealed.Attnum == 0:
	case l.moving():
		l.Status.MovesFrom = &l.Plain.Name
	case l.Plain.Attnum != 0 && l.Plain.Name != l.Status.Column:
		l.Status.Plaintext = &l.Plain.Name
	}
	if l.Wanted != nil {
		l.Status.Reach = &l.Wanted.Reach
	}
	if f, has := v.found[id]; has && !l.State.Verified.IsZero() {
		l.Status.Verified = &Verified{At: f.at, Proven: f.Proven, NoneWrong: f.Sound(), Unproven: f.Unproven}
	}
	l.Status.EQL = orNull(v.eql.of(l.Table, []string{l.Column.Source, l.Column.Target, l.Plain.Name, l.Sealed.Name}, l.isEQL()))
	l.Status.Strict = standing.IsStrict(l.Relation, id)
	l.Status.Coverage.Quarantined = v.quarantined[id]
	l.job()
	l.missed()
}

// isEQL says that the column's values are, or are to be, EQL's and no cells of ours.
func (l *Look) isEQL() bool {
	return l.Sealed.Base.Name == eqlType || l.Wanted != nil && l.Wanted.Type == eqlType
}

// foreign says that the newest job had the column's values made by a user's own encrypter, or that they are to be: the
// manifest says so, or the column was prepared without a scheme.
func (l *Look) foreign() bool {
	if job, has := l.Survey.Jobs[l.Column.ID]; has {
		return standing.EncrypterIn(job, l.Column.ID).Foreign()
	}
	if l.Wanted != nil {
		return l.Wanted.Transform == messages.TransformExternal || l.Wanted.Transform == messages.TransformProxy
	}
	return l.State.Phase == lifecycle.PhaseDualWriting && len(l.Survey.AllSchemes[l.Column.ID]) == 0
}

func (l *Look) job() {
	job, has := l.Survey.Jobs[l.Column.ID]
	if !has {
		return
	}
	j := l.Survey.described[job.ID]
	s := &Job{ID: j.ID, Kind: j.Kind, HandedBack: append([]string{}, j.HandedBack...), State: j.State, Rows: j.Rows, RowsPerSecond: j.RowsPerSecond, Ranges: j.Ranges, Workers: j.Workers,
		StoppedBy: orNull(j.StoppedBy), TraceID: orNull(j.TraceID)}
	if left := max(0, j.Total-j.Rows); job.State == work.Running && j.RowsPerSecond > 0 {
		seconds := int64(float64(left) / j.RowsPerSecond)
		s.ETASeconds = &seconds
	}
	l.Status.Job = s
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// missed says how many writes capture caught, and how many a minute: in the last minutes, or where it may not be read
// who wrote, since the last verification, or since capture was installed.
func (l *Look) missed() {
	v, id := l.Survey, l.Column.ID
	m, has := v.missed[id]
	if m.named && l.State.Phase == lifecycle.PhaseCutOver {
		l.Status.MissedBy = m.by
	}
	if !has || m.total == nil {
		return
	}
	l.Status.Missed = m.total
	if m.named {
		rate := float64(m.recent) / missedWindow.Minutes()
		l.Status.PerMinute, l.Status.MissedBy = &rate, m.by
		return
	}
	since, before := v.captured[id], int64(0)
	if f, found := v.found[id]; found && f.Missed <= *m.total {
		since, before = f.at, f.Missed
	}
	if !since.IsZero() && v.At.After(since) {
		rate := float64(*m.total-before) / max(v.At.Sub(since).Minutes(), 1)
		l.Status.PerMinute = &rate
	}
}

// expression is what made the column's values in its newest job, if an expression did.
func (l *Look) expression() *ddl.Expression {
	return standing.SpecIn(l.Survey.Jobs[l.Column.ID], l.Column.ID).Expression
}

// origin is who encrypted the column's source, as its newest job knew it, if somebody else did.
func (l *Look) origin() *work.Origin {
	return standing.SpecIn(l.Survey.Jobs[l.Column.ID], l.Column.ID).OriginAt(l.Column.SourceNum)
}

// beside are the columns without which the source cannot be opened, by today's names.
func (l *Look) beside() []string {
	return standing.Standing{Relation: l.Relation, Origin: l.origin()}.DDL().Beside
}

// made says that an expression makes the column's values, or is to.
func (l *Look) made() bool { return l.expression() != nil || l.Wanted != nil && l.Wanted.Made() }

// inPlace says that they take the place of their source.
func (l *Look) inPlace() bool { return l.Sealed.Attnum != 0 && l.Sealed.Attnum == l.Plain.Attnum }

// ddl is the column as package ddl takes it.
func (l *Look) ddl() ddl.Column {
	return ddl.Column{ID: l.Column.ID, Table: l.Table, Source: l.Plain.Name, Target: l.Sealed.Name, Beside: l.beside(), Expression: l.expression(), Where: l.Condition.Has, Nulls: l.sealsNulls(),
		Types: ddl.TypesOf(l.Relation.Columns...)}
}

// sealsNulls says that NULL is sealed, too: a row without a cell is uncovered, whatever its source.
func (l *Look) sealsNulls() bool {
	seals, _ := l.Survey.SealsNulls(l.Column.ID)
	return seals
}
