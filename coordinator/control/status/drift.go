package status

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
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
	FlagUnwatched         = "unwatched"           // cells are beside a source that may change, or could, and nothing compares them
	FlagWhereDiffers      = "where-differs"       // the manifest has another condition for the table's rows than the last job
	FlagKeyMissing        = "key-missing"         // no scheme is active, or its data key is gone
	FlagKeyChanged        = "key-changed"         // no usable key of the table is the one that cells are bound to
	FlagBoundChanged      = "bound-changed"       // a column that cells are bound to is gone, may be NULL, or has another type
	FlagBoundUnwatched    = "bound-unwatched"     // nothing keeps a write of such a column from leaving its cell behind
	FlagIndexMissing      = "index-missing"       // the manifest wants it
	FlagIndexUnwanted     = "index-unwanted"      // it is over the cells, and the manifest does not name it
	FlagIndexDiffers      = "index-differs"       // a blind index is another one than the manifest describes, and never changes
	FlagIndexUnready      = "index-not-ready"     // a blind index is not filled or built yet: nothing is looked up in it
	FlagIndexInvalid      = "index-invalid"       // Postgres has no valid index of a blind index's tokens
	FlagIndexUncovered    = "index-uncovered"     // rows have lost their token since a blind index was filled, and are not found
	FlagUncovered         = "uncovered"           // although the backfill is complete
	FlagStale             = "stale"               // the last verification found cells of another value than their source
	FlagPlaintextWritten  = "plaintext-written"   // cut over, and somebody wrote the plaintext without its cell: only a verification tells which cells are stale
	FlagQuarantined       = "quarantined"
	FlagSchemeMix         = "scheme-mix" // there are cells of another scheme than the manifest writes
	FlagJobIdle           = "job-idle"   // a job has not ended, and no worker lives
	FlagEQLNotRegistered  = "eql-not-registered"
	FlagEQLPending        = "eql-pending"
	FlagEQLNotReady       = "eql-not-ready" // its pending configuration has no column to go to
)

// SetFlags compares the database with what was prepared, and with the manifest.
func (l *Look) SetFlags() {
	switch {
	case l.Column.ID == 0:
		l.flag(FlagNotInDatabase, l.Gone || l.Plain.Attnum == 0)
		l.flag(FlagTargetType, l.Sealed.Attnum != 0 && !l.Fits(l.Sealed))
		l.flagEQL()
		return
	case l.Gone:
		l.flag(FlagTableMissing, l.State.Phase != lifecycle.PhaseDropped)
		return
	}
	l.flag(FlagTableRenamed, l.Table != l.Column.Table)
	l.flag(FlagPhase, l.contradicted())
	l.flagColumns()
	switch l.State.Phase {
	case lifecycle.PhaseDualWriting, lifecycle.PhaseBackfilling, lifecycle.PhaseBackfilled:
		l.flagCheck()
		c := l.ddl()
		l.flagCapture(slices.Collect(maps.Keys(c.Guards())), c.IsGuard)
		l.flag(FlagWhereDiffers, l.whereDiffers())
		l.flag(FlagUnwatched, (l.State.Unnoticed || l.State.Uncompared && !l.foreign()) && l.hasValues())
		l.flagKeys()
	case lifecycle.PhaseSchemaAdded:
		l.flag(FlagUnwatched, !l.State.Watched.IsZero() && l.hasValues() && !l.captures())
	case lifecycle.PhaseCutOver:
		l.flagCheck()
		if l.Plain.Attnum != 0 {
			l.flagCapture(ddl.ReverseTriggers(l.Column.ID), func(pg.Trigger) bool { return true })
			l.flag(FlagPlaintextWritten, len(l.Status.MissedBy) > 0)
		}
		l.flagKeys()
	}
	l.flagBound()
	l.flagRows()
	l.flagIndexes()
	l.flagEQL()
	l.flag(FlagJobIdle, l.idle())
}

func (l *Look) flag(name string, holds bool) {
	if holds {
		l.Status.Flags = append(l.Status.Flags, name)
	}
}

// Fits says that a target has the type that its values have.
func (l *Look) Fits(target pg.Column) bool {
	wanted := "bytea"
	if l.made() { // of whatever type
		return true
	}
	if l.foreign() {
		_, fits := shape.PayloadOf(target)
		return fits && (l.Wanted == nil || l.Wanted.Type == target.Base.Name)
	}
	if l.Wanted != nil {
		wanted = l.Wanted.Type
	}
	switch {
	case l.Wanted == nil:
		return target.TypeOID == pgtype.ByteaOID || ddl.FormOf(target) != cell.FormBytes || target.Base.Name == eqlType
	case wanted == eqlType:
		return target.Base.Name == eqlType
	}
	return target.Base.Schema == "pg_catalog" && target.Base.Name == wanted
}

// flagColumns looks at the two columns. After a cutover they have other names than at their registration, and once the
// plaintext is dropped nobody misses it.
func (l *Look) flagColumns() {
	plain, sealed := l.Column.Source, l.Column.Target
	if c := l.Survey.cutovers[l.Column.ID]; l.cutOver() && c.PlainName != "" {
		plain, sealed = c.PlainName, c.SealedName
	}
	phase := l.State.Phase
	if phase != lifecycle.PhaseDropped {
		l.flag(FlagPlaintextMissing, phase == lifecycle.PhaseCutOver && l.Plain.Attnum == 0)
		l.flag(FlagSourceMissing, phase != lifecycle.PhaseCutOver && l.Plain.Attnum == 0)
		l.flag(FlagSourceRenamed, l.Plain.Attnum != 0 && l.Plain.Name != plain && !l.contradicted() && (l.cutOver() || !l.Column.Moves()))
		l.flag(FlagSourceType, l.Plain.Attnum != 0 && l.origin() == nil && l.Plain.Type != l.Column.Type)
	}
	l.flag(FlagTargetMissing, l.Sealed.Attnum == 0 && !(l.State.Withdrawn && l.Wanted == nil))
	_, moves := standing.MovedInto(l.Relation, l.Survey.Columns, l.Column) // its cutover takes the name away
	l.flag(FlagTargetRenamed, l.Sealed.Attnum != 0 && l.Sealed.Name != sealed && !l.contradicted() && !moves)
	l.flag(FlagTargetType, l.Sealed.Attnum != 0 && !l.Fits(l.Sealed))
}

func (l *Look) cutOver() bool {
	return l.State.Phase == lifecycle.PhaseCutOver || l.State.Phase == lifecycle.PhaseDropped
}

// contradicted says that the log cannot be right: it holds what cannot have happened, or the names say otherwise, or
// there is a plaintext that was dropped.
func (l *Look) contradicted() bool {
	c := l.Survey.cutovers[l.Column.ID]
	swap := l.cutOver() && c.Strategy == standing.StrategySwap
	back := l.Plain.Attnum != 0 && l.Plain.Name == c.PlainWas && l.Sealed.Name == c.SealedWas
	return l.contradictory || l.Swapped() && !l.cutOver() || swap && back || l.State.Phase == lifecycle.PhaseDropped && l.Plain.Attnum != 0
}

func (l *Look) flagCheck() {
	at := slices.IndexFunc(l.Relation.Checks, func(c pg.Check) bool { return c.Name == ddl.CheckName(l.Column.ID) })
	if l.inPlace() {
		return
	}
	l.flag(FlagCheckMissing, at < 0)
	if at < 0 || l.Sealed.Attnum == 0 {
		return
	}
	check := l.Relation.Checks[at]
	form := ddl.FormOf(l.Sealed)
	ours := ddl.Column{ID: l.Column.ID, Target: l.Sealed.Name, Form: form}.IsCheck(check.SQL)
	l.flag(FlagCheckAltered, !ours && (l.Sealed.TypeOID == pgtype.ByteaOID || form != cell.FormBytes) && !l.foreign() && !l.made())
	l.flag(FlagCheckNotValidated, !check.Validated)
}

// flagCapture looks at the table's own triggers of these names, and at those of partitions that differ from them.
func (l *Look) flagCapture(guards []string, asInstalled func(pg.Trigger) bool) {
	own, disabled, notAlways, altered := 0, false, false, false
	for _, t := range l.Relation.Triggers {
		if !slices.Contains(guards, t.Name) || !standing.IsOurs(t) {
			continue
		}
		if t.Table.OID == l.Relation.OID {
			own++
		}
		disabled = disabled || t.Enabled == "D"
		notAlways = notAlways || t.Enabled == "O" || t.Enabled == "R"
		altered = altered || !asInstalled(t)
	}
	l.flag(FlagCaptureMissing, own < len(guards))
	l.flag(FlagCaptureAltered, altered)
	l.flag(FlagCaptureDisabled, disabled)
	l.flag(FlagCaptureNotAlways, notAlways)
}

// captures says that one of the table's own triggers is the column's capture.
func (l *Look) captures() bool {
	return slices.ContainsFunc(l.Relation.Triggers, func(t pg.Trigger) bool {
		return t.Table.OID == l.Relation.OID && captures(t, l.Column.ID)
	})
}

// hasValues says that the target holds values beside their sources, as far as can be seen; of what was not counted in
// whole, that it may.
func (l *Look) hasValues() bool {
	if l.Plain.Attnum == 0 || l.Sealed.Attnum == 0 || l.inPlace() {
		return false
	}
	return l.paired > 0 || l.made() || !l.Counted || !l.Status.Coverage.Exact
}

// flagKeys looks at the data key, and at the key of rows: a cell opens under the one it was bound to only.
func (l *Look) flagKeys() {
	scheme, has := l.Survey.Schemes[l.Column.ID]
	l.flag(FlagKeyMissing, !l.isEQL() && !l.foreign() && !l.made() && (!has || !scheme.keyed))
	l.flag(FlagKeyChanged, l.keyChanged())
}

func (l *Look) keyChanged() bool {
	bound := l.Bound()
	if len(bound) == 0 {
		return false
	}
	for _, name := range bound {
		if _, there := l.Relation.Column(name); !there { // it may have been renamed since the job
			return !slices.ContainsFunc(l.Relation.Keys, func(k pg.Key) bool { return k.Usable() && len(k.Columns) == len(bound) })
		}
	}
	key, found := l.Relation.KeyOf(bound)
	return !found || !key.Usable()
}

// Bound is the key that cells are bound to: capture's condition compares it, and follows renames; else the last job's.
func (l *Look) Bound() (key []string) {
	for _, t := range l.Relation.Triggers {
		if l.made() || t.Table.OID != l.Relation.OID || !slices.Contains(t.Events, "UPDATE") || !captures(t, l.Column.ID) || t.Name == ddl.EnteringTrigger(l.Column.ID) || !t.When || len(t.Reads) < 3 {
			continue
		}
		for _, name := range t.Reads {
			if name != l.Plain.Name && name != l.Sealed.Name && !slices.Contains(l.beside(), name) && !slices.Contains(key, name) {
				key = append(key, name)
			}
		}
	}
	if job, has := l.Survey.Jobs[l.Column.ID]; has && len(key) == 0 {
		return job.Spec.Key
	}
	return key
}

// captures says that a trigger is one of those that capture a column's writes, in either direction.
func captures(t pg.Trigger, id uint32) bool {
	return standing.IsOurs(t) && strings.HasPrefix(t.Name, fmt.Sprintf("%s%d_", ddl.TriggerPrefix, id))
}

func (l *Look) flagRows() {
	c := l.Status.Coverage
	complete := l.State.Phase == lifecycle.PhaseBackfilled || l.State.Phase == lifecycle.PhaseCutOver
	l.flag(FlagUncovered, complete && l.Counted && c.Uncovered > 0 && !(l.wanting && l.whereDiffers()))
	if l.State.Phase == lifecycle.PhaseDropped {
		return
	}
	l.flag(FlagStale, c.Stale != nil && *c.Stale > 0)
	l.flag(FlagQuarantined, c.Quarantined > 0)
	l.flag(FlagSchemeMix, l.Wanted != nil && l.Wanted.Scheme > 0 && slices.ContainsFunc(l.Status.Schemes, func(s SchemeRows) bool {
		_, listed := l.Wanted.Schemes[s.Number]
		return !listed || complete && s.Number != l.Wanted.Scheme
	}))
}

// idle says that a job waits for workers, and none has been heard of.
func (l *Look) idle() bool {
	job, has := l.Survey.Jobs[l.Column.ID]
	j := l.Survey.described[job.ID]
	return has && (job.State == work.Planning || job.State == work.Running || job.State == work.Sweeping) && j.Ranges.Leased == 0 && l.Survey.workers == 0
}

func (l *Look) flagEQL() {
	if l.Status.EQL == nil || l.State.Phase == lifecycle.PhaseDropped {
		return
	}
	state := *l.Status.EQL
	pending := state == EQLPending || state == EQLEncrypting
	l.flag(FlagEQLNotRegistered, state == EQLNotRegistered)
	l.flag(FlagEQLPending, pending)
	l.flag(FlagEQLNotReady, pending && l.Sealed.Base.Name != eqlType)
}

// ownIndex begins the names of indexes that cipherfleet makes for itself.
const ownIndex = "cipherfleet_"

// indexes are those over the cells: what the manifest wants, an index or a companion column of that name; and what is
// there without being wanted. A unique key of the user's is nobody's to judge.
func (l *Look) indexes() []Index {
	list, wanted := []Index{}, map[string]bool{}
	if l.Wanted != nil {
		for _, x := range l.Wanted.Indexes {
			_, column := l.Relation.Column(x.Name)
			index := slices.ContainsFunc(l.Relation.Indexes, func(i pg.Index) bool { return i.Name == x.Name && i.Valid })
			wanted[x.Name] = true
			if !l.hasBlind(x.Name) {
				list = append(list, Index{Name: x.Name, Wanted: true, Present: column || index})
			}
		}
	}
	for _, x := range l.Survey.blind[l.Column.ID] {
		list = append(list, l.describeBlind(x))
	}
	for _, x := range l.Relation.Indexes {
		over := l.Sealed.Attnum != 0 && slices.Contains(x.Columns, l.Sealed.Name)
		if over && !wanted[x.Name] && !strings.HasPrefix(x.Name, ownIndex) {
			list = append(list, Index{Name: x.Name, Present: true})
		}
	}
	return list
}

func (l *Look) flagIndexes() {
	l.flagBlind()
	if l.Wanted == nil {
		return
	}
	due := l.State.Phase == lifecycle.PhaseBackfilled || l.cutOver() // they are built after the backfill
	l.flag(FlagIndexMissing, due && slices.ContainsFunc(l.Status.Indexes, func(x Index) bool { return x.Wanted && !x.Present }))
	l.flag(FlagIndexUnwanted, slices.ContainsFunc(l.Status.Indexes, func(x Index) bool { return !x.Wanted && x.Present }))
}
