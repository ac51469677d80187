package control

import (
	"cmp"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// look is one column in a survey: a registered one, one of the manifest, or both.
type look struct {
	survey *survey
	column lifecycle.Column // ID 0: not registered; then only names and relid
	table  pg.Table         // today's name, or the registered one if the table is gone
	gone   bool             // the table is not there
	wanted *manifest.Column // nil: the manifest does not name it
	within *manifest.Table  // the manifest's table of wanted
	status ColumnStatus

	relation      pg.Relation
	plain, sealed pg.Column // that hold plaintext and cells, under today's names; Attnum 0: gone
	state         lifecycle.State
	contradictory bool // the log holds what cannot have happened
	counted       bool // the coverage is of rows, not of a job's progress
}

// looks are the registered columns by the names of their tables, and behind them those that only the manifest names.
func (v *survey) looks() []*look {
	var looks []*look
	for _, c := range v.columns {
		l := &look{survey: v, column: c}
		l.place()
		looks = append(looks, l)
	}
	slices.SortStableFunc(looks, func(a, b *look) int {
		return cmp.Or(cmp.Compare(a.table.Schema, b.table.Schema), cmp.Compare(a.table.Name, b.table.Name), cmp.Compare(a.column.Relid, b.column.Relid))
	})
	for t := range v.manifest.Tables {
		table := &v.manifest.Tables[t]
		for c := range table.Columns {
			looks = v.match(looks, table, &table.Columns[c])
		}
	}
	looks = slices.DeleteFunc(looks, func(l *look) bool {
		return v.only != "" && !isNamed(l.table, v.only) && !isNamed(l.column.Table, v.only)
	})
	for _, l := range looks {
		l.describe()
	}
	return looks
}

func isNamed(t pg.Table, name string) bool { return t.Name == name || t.String() == name }

// match gives a registered column what the manifest says of it, or adds the column. The manifest may still have the
// names of the registration.
func (v *survey) match(looks []*look, t *manifest.Table, c *manifest.Column) []*look {
	name := pg.Table{Schema: t.Schema, Name: t.Name}
	for _, today := range []bool{true, false} {
		at := slices.IndexFunc(looks, func(l *look) bool {
			if l.wanted != nil || l.column.ID == 0 {
				return false
			}
			if today {
				return l.table == name && (l.name() == c.Source || l.column.Source == c.Source)
			}
			return l.column.Table == name && l.column.Source == c.Source
		})
		if at >= 0 {
			looks[at].wanted, looks[at].within = c, t
			return looks
		}
	}
	l := &look{survey: v, wanted: c, within: t, column: lifecycle.Column{Table: name, Source: c.Source, Target: c.Target}}
	l.place()
	return append(looks, l)
}

// place finds the table and the columns under today's names.
func (l *look) place() {
	l.table, l.gone = l.column.Table, true
	oid := l.column.Relid
	if l.column.ID == 0 {
		oid = l.survey.named[l.table]
	}
	standing := l.survey.states[l.column.ID]
	l.state, l.contradictory = standing.State, standing.Err != nil
	relation, found := l.survey.relations[oid]
	if !found {
		return
	}
	l.relation, l.table, l.gone = relation, relation.Table(), false
	if l.column.ID == 0 {
		l.plain, _ = relation.Column(l.column.Source)
		l.sealed, _ = relation.Column(l.column.Target)
		return
	}
	l.plain, l.sealed = relation.ColumnAt(l.column.SourceNum), relation.ColumnAt(l.column.TargetNum)
}

// swapped says that the cells have taken the plaintext's name.
func (l *look) swapped() bool {
	if l.column.ID == 0 || l.sealed.Attnum == 0 {
		return false
	}
	c := l.survey.cutovers[l.column.ID]
	return l.sealed.Name == l.column.Source || l.cutOver() && c.Strategy == StrategySwap && l.sealed.Name == c.SealedName
}

// name is what the column is called today.
func (l *look) name() string {
	switch {
	case l.swapped():
		return l.sealed.Name
	case l.plain.Attnum == 0:
		return l.column.Source
	}
	return l.plain.Name
}

// describe says everything of a column but how much of it is covered.
func (l *look) describe() {
	v, id := l.survey, l.column.ID
	l.status = ColumnStatus{ID: id, Table: l.table.String(), Column: l.name(), Target: cmp.Or(l.sealed.Name, l.column.Target), Phase: l.state.Phase,
		Schemes: []SchemeRows{}, Indexes: l.indexes(), MissedBy: []MissedBy{}, Flags: []string{}}
	if l.plain.Attnum != 0 && l.plain.Name != l.status.Column {
		l.status.Plaintext = &l.plain.Name
	}
	if l.wanted != nil {
		l.status.Reach = &l.wanted.Reach
	}
	if f, has := v.found[id]; has && !l.state.Verified.IsZero() {
		l.status.Verified = &Verified{At: f.at, Proven: f.Proven}
	}
	l.status.EQL = orNull(v.eql.of(l.table, []string{l.column.Source, l.column.Target, l.plain.Name, l.sealed.Name}, l.isEQL()))
	l.status.Coverage.Quarantined = v.quarantined[id]
	l.job()
	l.missed()
}

// isEQL says that the column's values are, or are to be, EQL's and no cells of ours.
func (l *look) isEQL() bool {
	return l.sealed.Base.Name == eqlType || l.wanted != nil && l.wanted.Type == eqlType
}

// foreign says that the newest job had the column's values made by a user's own encrypter.
func (l *look) foreign() bool {
	return foreignIn(l.survey.jobs[l.column.ID], l.column.ID).Subject != ""
}

func (l *look) job() {
	job, has := l.survey.jobs[l.column.ID]
	if !has {
		return
	}
	j := l.survey.described[job.ID]
	s := &JobStatus{ID: j.ID, State: j.State, Rows: j.Rows, RowsPerSecond: j.RowsPerSecond, Ranges: j.Ranges, Workers: j.Workers,
		StoppedBy: orNull(j.StoppedBy), TraceID: orNull(j.TraceID)}
	if left := max(0, j.Total-j.Rows); job.State == backfill.Running && j.RowsPerSecond > 0 {
		seconds := int64(float64(left) / j.RowsPerSecond)
		s.ETASeconds = &seconds
	}
	l.status.Job = s
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// missed says how many writes capture caught, and how many a minute: in the last minutes, or where it may not be read
// who wrote, since the last verification, or since capture was installed.
func (l *look) missed() {
	v, id := l.survey, l.column.ID
	m, has := v.missed[id]
	if !has || m.total == nil {
		return
	}
	l.status.Missed = m.total
	if m.named {
		rate := float64(m.recent) / missedWindow.Minutes()
		l.status.PerMinute, l.status.MissedBy = &rate, m.by
		return
	}
	since, before := v.captured[id], int64(0)
	if f, found := v.found[id]; found && f.Missed <= *m.total {
		since, before = f.at, f.Missed
	}
	if !since.IsZero() && v.at.After(since) {
		rate := float64(*m.total-before) / max(v.at.Sub(since).Minutes(), 1)
		l.status.PerMinute = &rate
	}
}
