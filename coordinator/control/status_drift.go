package control

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Flags of a column's status: what is not as it was prepared, or not as the manifest wants it.
const (
	FlagNotInDatabase     = "not-in-database" // the manifest names a table or column that is not there
	FlagTableMissing      = "table-missing"
	FlagTableRenamed      = "table-renamed"
	FlagSourceMissing     = "source-missing"
	FlagSourceRenamed     = "source-renamed"
	FlagSourceType        = "source-type" // it has another type than when it was registered
	FlagTargetMissing     = "target-missing"
	FlagTargetRenamed     = "target-renamed"
	FlagTargetType        = "target-type"         // it has another type than its values
	FlagPlaintextMissing  = "plaintext-missing"   // cut over, and there is no way back any more
	FlagPhase             = "phase-contradicted"  // the log says one phase, the columns another
	FlagCheckMissing      = "check-missing"       // anything may be written to the target
	FlagCheckAltered      = "check-altered"       // the same, for all we know
	FlagCheckNotValidated = "check-not-validated" // something else may stand in the target from before
	FlagCaptureMissing    = "capture-missing"     // writes that miss the target go unnoticed; after a cutover, those that miss the plaintext
	FlagCaptureAltered    = "capture-altered"     // it is of an older version, or somebody changed it
	FlagCaptureDisabled   = "capture-disabled"    // the same, by ALTER TABLE ... DISABLE TRIGGER
	FlagCaptureNotAlways  = "capture-not-always"  // the same for replicated writes, or for all others
	FlagKeyMissing        = "key-missing"         // no scheme is active, or its data key is gone
	FlagKeyChanged        = "key-changed"         // no usable key of the table is the one that cells are bound to
	FlagIndexMissing      = "index-missing"       // the manifest wants it
	FlagIndexUnwanted     = "index-unwanted"      // it is over the cells, and the manifest does not name it
	FlagUncovered         = "uncovered"           // although the backfill is complete
	FlagStale             = "stale"               // the last verification found cells of another value than their source
	FlagQuarantined       = "quarantined"
	FlagSchemeMix         = "scheme-mix" // there are cells of another scheme than the manifest writes
	FlagJobIdle           = "job-idle"   // a job has not ended, and no worker lives
	FlagEQLNotRegistered  = "eql-not-registered"
	FlagEQLPending        = "eql-pending"
	FlagEQLNotReady       = "eql-not-ready" // its pending configuration has no column to go to
)

// flags compares the database with what was prepared, and with the manifest.
func (l *look) flags() {
	switch {
	case l.column.ID == 0:
		l.flag(FlagNotInDatabase, l.gone || l.plain.Attnum == 0)
		l.flag(FlagTargetType, l.sealed.Attnum != 0 && !l.fits(l.sealed))
		l.flagEQL()
		return
	case l.gone:
		l.flag(FlagTableMissing, l.state.Phase != lifecycle.PhaseDropped)
		return
	}
	l.flag(FlagTableRenamed, l.table != l.column.Table)
	l.flag(FlagPhase, l.contradicted())
	l.flagColumns()
	switch l.state.Phase {
	case lifecycle.PhaseDualWriting, lifecycle.PhaseBackfilling, lifecycle.PhaseBackfilled:
		l.flagCheck()
		l.flagCapture(ddl.CaptureTriggers(l.column.ID), ddl.CaptureBody(l.column.ID))
		l.flagKeys()
	case lifecycle.PhaseCutOver:
		l.flagCheck()
		if l.plain.Attnum != 0 {
			l.flagCapture(ddl.ReverseTriggers(l.column.ID), "")
		}
		l.flagKeys()
	}
	l.flagRows()
	l.flagIndexes()
	l.flagEQL()
	l.flag(FlagJobIdle, l.idle())
}

func (l *look) flag(name string, holds bool) {
	if holds {
		l.status.Flags = append(l.status.Flags, name)
	}
}

// fits says that a target has the type that its values have.
func (l *look) fits(target pg.Column) bool {
	wanted := "bytea"
	if l.foreign() {
		_, fits := backfill.PayloadOf(target)
		return fits && (l.wanted == nil || l.wanted.Type == target.Base.Name)
	}
	if l.wanted != nil {
		wanted = l.wanted.Type
	}
	switch {
	case wanted == "bytea":
		return target.TypeOID == pgtype.ByteaOID || l.wanted == nil && target.Base.Name == eqlType
	case wanted == eqlType:
		return target.Base.Name == eqlType
	}
	return target.Base.Schema == "pg_catalog" && target.Base.Name == wanted
}

// flagColumns looks at the two columns. After a cutover they have other names than at their registration, and once the
// plaintext is dropped nobody misses it.
func (l *look) flagColumns() {
	plain, sealed := l.column.Source, l.column.Target
	if c := l.survey.cutovers[l.column.ID]; l.cutOver() && c.PlainName != "" {
		plain, sealed = c.PlainName, c.SealedName
	}
	phase := l.state.Phase
	if phase != lifecycle.PhaseDropped {
		l.flag(FlagPlaintextMissing, phase == lifecycle.PhaseCutOver && l.plain.Attnum == 0)
		l.flag(FlagSourceMissing, phase != lifecycle.PhaseCutOver && l.plain.Attnum == 0)
		l.flag(FlagSourceRenamed, l.plain.Attnum != 0 && l.plain.Name != plain && !l.contradicted())
		l.flag(FlagSourceType, l.plain.Attnum != 0 && l.plain.Type != l.column.Type)
	}
	l.flag(FlagTargetMissing, l.sealed.Attnum == 0)
	l.flag(FlagTargetRenamed, l.sealed.Attnum != 0 && l.sealed.Name != sealed && !l.contradicted())
	l.flag(FlagTargetType, l.sealed.Attnum != 0 && !l.fits(l.sealed))
}

func (l *look) cutOver() bool {
	return l.state.Phase == lifecycle.PhaseCutOver || l.state.Phase == lifecycle.PhaseDropped
}

// contradicted says that the log cannot be right: it holds what cannot have happened, or the names say otherwise, or
// there is a plaintext that was dropped.
func (l *look) contradicted() bool {
	c := l.survey.cutovers[l.column.ID]
	swap := l.cutOver() && c.Strategy == StrategySwap
	back := l.plain.Attnum != 0 && l.plain.Name == c.PlainWas && l.sealed.Name == c.SealedWas
	return l.contradictory || l.swapped() && !l.cutOver() || swap && back || l.state.Phase == lifecycle.PhaseDropped && l.plain.Attnum != 0
}

func (l *look) flagCheck() {
	at := slices.IndexFunc(l.relation.Checks, func(c pg.Check) bool { return c.Name == ddl.CheckName(l.column.ID) })
	l.flag(FlagCheckMissing, at < 0)
	if at < 0 || l.sealed.Attnum == 0 {
		return
	}
	check := l.relation.Checks[at]
	ours := ddl.Column{ID: l.column.ID, Target: l.sealed.Name}.IsCheck(check.SQL)
	l.flag(FlagCheckAltered, !ours && l.sealed.TypeOID == pgtype.ByteaOID && !l.foreign())
	l.flag(FlagCheckNotValidated, !check.Validated)
}

// flagCapture looks at the table's own triggers, and at those of partitions that differ from them. A body of "" may be
// any.
func (l *look) flagCapture(names []string, body string) {
	own, disabled, notAlways, altered := 0, false, false, false
	for _, t := range l.relation.Triggers {
		if !isOurs(t) || !slices.Contains(names, t.Name) {
			continue
		}
		if t.Table.OID == l.relation.OID {
			own++
		}
		disabled = disabled || t.Enabled == "D"
		notAlways = notAlways || t.Enabled == "O" || t.Enabled == "R"
		altered = altered || body != "" && t.Body != body
	}
	l.flag(FlagCaptureMissing, own < len(names))
	l.flag(FlagCaptureAltered, altered)
	l.flag(FlagCaptureDisabled, disabled)
	l.flag(FlagCaptureNotAlways, notAlways)
}

// flagKeys looks at the data key, and at the key of rows: a cell opens under the one it was bound to only.
func (l *look) flagKeys() {
	scheme, has := l.survey.schemes[l.column.ID]
	l.flag(FlagKeyMissing, !l.isEQL() && !l.foreign() && (!has || !scheme.keyed))
	l.flag(FlagKeyChanged, l.keyChanged())
}

func (l *look) keyChanged() bool {
	bound := l.bound()
	if len(bound) == 0 {
		return false
	}
	for _, name := range bound {
		if _, there := l.relation.Column(name); !there { // it may have been renamed since the job
			return !slices.ContainsFunc(l.relation.Keys, func(k pg.Key) bool { return k.Usable() && len(k.Columns) == len(bound) })
		}
	}
	key, found := l.relation.KeyOf(bound)
	return !found || !key.Usable()
}

// bound is the key that cells are bound to: capture's condition compares it, and follows renames; else the last job's.
func (l *look) bound() (key []string) {
	for _, t := range l.relation.Triggers {
		if t.Table.OID != l.relation.OID || !slices.Contains(t.Events, "UPDATE") || !captures(t, l.column.ID) || !t.When || len(t.Reads) < 3 {
			continue
		}
		for _, name := range t.Reads {
			if name != l.plain.Name && name != l.sealed.Name && !slices.Contains(key, name) {
				key = append(key, name)
			}
		}
	}
	if job, has := l.survey.jobs[l.column.ID]; has && len(key) == 0 {
		return job.Spec.Key
	}
	return key
}

// captures says that a trigger is one of those that capture a column's writes, in either direction.
func captures(t pg.Trigger, id uint32) bool {
	return isOurs(t) && strings.HasPrefix(t.Name, fmt.Sprintf("%s%d_", ddl.TriggerPrefix, id))
}

func (l *look) flagRows() {
	c := l.status.Coverage
	complete := l.state.Phase == lifecycle.PhaseBackfilled || l.state.Phase == lifecycle.PhaseCutOver
	l.flag(FlagUncovered, complete && l.counted && c.Uncovered > 0)
	if l.state.Phase == lifecycle.PhaseDropped {
		return
	}
	l.flag(FlagStale, c.Stale != nil && *c.Stale > 0)
	l.flag(FlagQuarantined, c.Quarantined > 0)
	l.flag(FlagSchemeMix, l.wanted != nil && l.wanted.Scheme > 0 && slices.ContainsFunc(l.status.Schemes, func(s SchemeRows) bool {
		_, listed := l.wanted.Schemes[s.Number]
		return !listed || complete && s.Number != l.wanted.Scheme
	}))
}

// idle says that a job waits for workers, and none has been heard of.
func (l *look) idle() bool {
	job, has := l.survey.jobs[l.column.ID]
	j := l.survey.described[job.ID]
	return has && (job.State == backfill.Planning || job.State == backfill.Running || job.State == backfill.Sweeping) && j.Ranges.Leased == 0 && l.survey.workers == 0
}

func (l *look) flagEQL() {
	if l.status.EQL == nil || l.state.Phase == lifecycle.PhaseDropped {
		return
	}
	state := *l.status.EQL
	pending := state == EQLPending || state == EQLEncrypting
	l.flag(FlagEQLNotRegistered, state == EQLNotRegistered)
	l.flag(FlagEQLPending, pending)
	l.flag(FlagEQLNotReady, pending && l.sealed.Base.Name != eqlType)
}

// ownIndex begins the names of indexes that cipherfleet makes for itself.
const ownIndex = "cipherfleet_"

// indexes are those over the cells: what the manifest wants, an index or a companion column of that name; and what is
// there without being wanted. A unique key of the user's is nobody's to judge.
func (l *look) indexes() []IndexStatus {
	list, wanted := []IndexStatus{}, map[string]bool{}
	if l.wanted != nil {
		for _, x := range l.wanted.Indexes {
			_, column := l.relation.Column(x.Name)
			index := slices.ContainsFunc(l.relation.Indexes, func(i pg.Index) bool { return i.Name == x.Name && i.Valid })
			list, wanted[x.Name] = append(list, IndexStatus{Name: x.Name, Wanted: true, Present: column || index}), true
		}
	}
	for _, x := range l.relation.Indexes {
		over := l.sealed.Attnum != 0 && slices.Contains(x.Columns, l.sealed.Name)
		if over && !wanted[x.Name] && !strings.HasPrefix(x.Name, ownIndex) {
			list = append(list, IndexStatus{Name: x.Name, Present: true})
		}
	}
	return list
}

func (l *look) flagIndexes() {
	if l.wanted == nil {
		return
	}
	due := l.state.Phase == lifecycle.PhaseBackfilled || l.cutOver() // they are built after the backfill
	l.flag(FlagIndexMissing, due && slices.ContainsFunc(l.status.Indexes, func(x IndexStatus) bool { return x.Wanted && !x.Present }))
	l.flag(FlagIndexUnwanted, slices.ContainsFunc(l.status.Indexes, func(x IndexStatus) bool { return !x.Wanted && x.Present }))
}
