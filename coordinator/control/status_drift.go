package control

import (
	"context"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Flags of a column's status: what is not as it was prepared. None of them is found by reading rows.
const (
	FlagTableMissing      = "table-missing"
	FlagTableRenamed      = "table-renamed"
	FlagSourceMissing     = "source-missing"
	FlagSourceRenamed     = "source-renamed"
	FlagTargetMissing     = "target-missing"
	FlagTargetRenamed     = "target-renamed"
	FlagTargetType        = "target-type"         // it is no bytea any more
	FlagCheckMissing      = "check-missing"       // anything may be written to the target
	FlagCheckNotValidated = "check-not-validated" // something else may stand in the target from before
	FlagCaptureMissing    = "capture-missing"     // writes that miss the target go unnoticed
	FlagCaptureDisabled   = "capture-disabled"    // the same, by ALTER TABLE ... DISABLE TRIGGER
	FlagCaptureNotAlways  = "capture-not-always"  // the same for replicated writes, or for all others
	FlagKeyMissing        = "key-missing"         // no scheme is active, or its data key is gone
)

// flags compares the catalog with what was prepared. Before dual-writing nothing is expected but the columns.
func (l *look) flags(ctx context.Context, q pg.Querier) error {
	if l.table.gone {
		l.flag(FlagTableMissing, true)
		return nil
	}
	l.flag(FlagTableRenamed, l.table.name != l.column.Table)
	l.flag(FlagSourceMissing, l.source.Attnum == 0)
	l.flag(FlagSourceRenamed, l.source.Attnum != 0 && l.source.Name != l.column.Source)
	l.flag(FlagTargetMissing, l.target.Attnum == 0)
	l.flag(FlagTargetRenamed, l.target.Attnum != 0 && l.target.Name != l.column.Target)
	l.flag(FlagTargetType, l.target.Attnum != 0 && l.target.TypeOID != byteaOID)
	switch l.status.Phase {
	case lifecycle.PhaseDualWriting, lifecycle.PhaseBackfilling, lifecycle.PhaseBackfilled:
		l.flagCheck()
		l.flagCapture()
		return l.flagKey(ctx, q)
	}
	return nil
}

func (l *look) flag(name string, holds bool) {
	if holds {
		l.status.Flags = append(l.status.Flags, name)
	}
}

func (l *look) flagCheck() {
	for _, c := range l.relation.Checks {
		if c.Name == ddl.CheckName(l.column.ID) {
			l.flag(FlagCheckNotValidated, !c.Validated)
			return
		}
	}
	l.flag(FlagCheckMissing, true)
}

// flagCapture looks at the table's own triggers, and at those of partitions that differ from them.
func (l *look) flagCapture() {
	own, disabled, notAlways := 0, false, false
	for _, t := range l.relation.Triggers {
		if !captures(t, l.column.ID) {
			continue
		}
		if t.Table.OID == l.relation.OID {
			own++
		}
		disabled = disabled || t.Enabled == "D"
		notAlways = notAlways || t.Enabled == "O" || t.Enabled == "R"
	}
	l.flag(FlagCaptureMissing, own < len(ddl.CaptureTriggers(l.column.ID)))
	l.flag(FlagCaptureDisabled, disabled)
	l.flag(FlagCaptureNotAlways, notAlways)
}

const hasKeySQL = `SELECT EXISTS (SELECT FROM cipherfleet.schemes s JOIN cipherfleet.deks d ON d.column_id = s.column_id AND d.scheme = s.number
 WHERE s.column_id = $1 AND s.state = 'active' AND d.wrapped IS NOT NULL)`

func (l *look) flagKey(ctx context.Context, q pg.Querier) error {
	has := false
	if err := q.QueryRow(ctx, hasKeySQL, l.column.ID).Scan(&has); err != nil {
		return fmt.Errorf("look for the column's key: %w", err)
	}
	l.flag(FlagKeyMissing, !has)
	return nil
}

// captures says that a trigger is one of those that capture a column's writes.
func captures(t pg.Trigger, id uint32) bool {
	return isOurs(t) && slices.Contains(ddl.CaptureTriggers(id), t.Name)
}
