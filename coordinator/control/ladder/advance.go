package ladder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// AdvanceRequest asks for a column to be taken to a phase.
type AdvanceRequest struct {
	Column standing.Name
	To     lifecycle.Phase
	Key    []string // of a new column, to walk its table by; empty: the primary key, else a NOT NULL unique index
	Target string   // where the cells go; "": where they went, else the column's name with _encrypted behind it
	Type   string   // of a target that is added: bytea, text or jsonb, of an encrypter's also eql_v2_encrypted; "": bytea
	// Transform is external or proxy where a user's own encrypter makes the values; "": as by the last job, else encrypt.
	Transform string
	External  messages.Encrypter // of transform external
	First     *messages.Scheme   // what the column's first scheme is to be, where it has none yet; nil: as [messages.Scheme] says
	Note      string
	Reason    string // why the phase is set by hand: against the order, or without a run
	Strict    bool   // writes that miss the target fail from then on; of a climb to dual-writing
}

// Way is how a column gets to a phase.
type Way string

// The ways. Backfill and cutover are verbs of their own, with their own gates.
const (
	WayNone     Way = ""         // it is there
	WayClimb    Way = "climb"    // rungs before a job
	WayBackfill Way = "backfill" // a job leads there
	WayCutover  Way = "cutover"
	WayRecord   Way = "record" // the phase is set by hand
)

// AdvancePlan is a transition that nothing stands in the way of.
type AdvancePlan struct {
	V      int             `json:"v"`
	Table  string          `json:"table"`
	Column string          `json:"column"`
	Target string          `json:"target"`
	From   lifecycle.Phase `json:"from"` // "" of a new column
	To     lifecycle.Phase `json:"to"`
	Way    Way             `json:"way"`
	Steps  []PlannedStep   `json:"steps"` // of a climb

	standing standing.Standing
	plan     preflight.Plan
	strict   bool // is to be added
}

// PlanAdvance says how the column gets to the phase, and refuses what is not for this verb. It changes nothing.
func (l *Ladder) PlanAdvance(ctx context.Context, r AdvanceRequest) (p AdvancePlan, err error) {
	if !r.To.Known() {
		return p, standing.Reject("to", "accepted are schema-added, dual-writing, backfilling, backfilled, cut-over and dropped", "was %.40q", r.To)
	}
	if r.Strict && (r.To != lifecycle.PhaseDualWriting || r.Reason != "") {
		return p, standing.Reject("strict", "give it with --to dual-writing; a column that stands higher gets it by cipherfleet backfill --strict", "is about the step to dual-writing")
	}
	if p.standing, err = l.findOrNew(ctx, r.Column); err != nil {
		return p, err
	}
	s := p.standing
	p.V, p.Table, p.Column, p.Target = messages.Version, s.Relation.Table().String(), s.Source, s.Sealed.Name
	p.From, p.To, p.Steps = s.State.Phase, r.To, []PlannedStep{}
	if p.Way, err = wayTo(s, r); err != nil || p.Way != WayNone && p.Way != WayClimb && (p.Way != WayRecord || p.From.Rung() >= lifecycle.PhaseDualWriting.Rung()) {
		return p, err
	}
	if r.To.Rung() > lifecycle.PhaseDualWriting.Rung() && p.Way == WayNone {
		return p, nil
	}
	return p, l.planClimb(ctx, r, &p)
}

// wayTo decides by where the column stands and where it is to go.
func wayTo(s standing.Standing, r AdvanceRequest) (Way, error) {
	from, to := s.State.Phase.Rung(), r.To.Rung()
	name := s.Relation.Table().String() + "." + s.Source
	switch {
	case r.To == s.State.Phase:
		return WayNone, nil
	case r.To == lifecycle.PhaseDropped:
		return "", standing.Refuse("to", "cipherfleet drop writes the migration that drops the plaintext, or runs it; that it is gone is recorded when it is seen", "no column is dropped by advancing it")
	case s.State.Phase == lifecycle.PhaseDropped:
		return "", standing.Refuse("column", "its cells are all there is: no phase is left", "the plaintext of %s was dropped", name)
	case s.State.Phase == lifecycle.PhaseCutOver:
		return "", standing.Refuse("to", "cipherfleet rollback takes the cutover back", "%s is cut over", name)
	case r.To == lifecycle.PhaseCutOver && s.State.Phase != lifecycle.PhaseBackfilled:
		return "", standing.Refuse("to", "take it to backfilled first: cipherfleet backfill encrypts every row", "%s is %s, not backfilled", name, standing.PhaseWord(s.State.Phase))
	case r.To == lifecycle.PhaseCutOver:
		return WayCutover, nil
	case to < from && r.To == lifecycle.PhaseBackfilling:
		return "", standing.Refuse("to", "cipherfleet backfill runs again over what is uncovered", "only a run leads to backfilling")
	case to < from && r.Reason == "":
		return "", standing.Refuse("reason", "say why with --reason; it is recorded. To take back what was prepared, see cipherfleet rollback",
			"%s is %s: back to %s is against the order", name, standing.PhaseWord(s.State.Phase), r.To)
	case to < from:
		return WayRecord, nil
	case r.To == lifecycle.PhaseBackfilled && r.Reason != "":
		return WayRecord, nil
	case to >= lifecycle.PhaseBackfilling.Rung():
		return WayBackfill, nil
	}
	return WayClimb, nil
}

// findOrNew finds the column, or what is there of one that was never registered.
func (l *Ladder) findOrNew(ctx context.Context, n standing.Name) (s standing.Standing, err error) {
	err = standing.Reading(ctx, l.DB, "30s", func(tx pg.Tx) error {
		installed, err := lifecycle.Installed(ctx, tx)
		if err != nil {
			return err
		}
		var unknown *standing.Refusal
		if installed > 0 {
			if s, err = standing.Find(ctx, tx, n); !errors.As(err, &unknown) || unknown.Kind != messages.CodeNotFound || unknown.Field != "column" {
				return err
			}
		}
		return newStanding(ctx, tx, n, &s)
	})
	return s, err
}

// newStanding is that of a column that nothing has happened to.
func newStanding(ctx context.Context, q pg.Querier, n standing.Name, s *standing.Standing) (err error) {
	if s.Relation, err = standing.Inspect(ctx, q, n.Schema, n.Table); err != nil {
		return err
	}
	found := false
	if s.Plain, found = s.Relation.Column(n.Column); !found {
		return preflight.NoColumn(s.Relation, "column", n.Column)
	}
	s.Column = lifecycle.Column{Relid: s.Relation.OID, SourceNum: s.Plain.Attnum, Table: s.Relation.Table(), Source: n.Column}
	return nil
}

// planClimb checks what a backfill would check, and lists the rungs that are missing.
func (l *Ladder) planClimb(ctx context.Context, r AdvanceRequest, p *AdvancePlan) (err error) {
	s := p.standing
	p.Target = p.Pair(r).Target
	request := messages.StartRequest{Schema: s.Relation.Schema, Table: s.Relation.Name, Key: r.Key, Prepare: true, UserTriggers: messages.TriggersFire, Strict: r.Strict,
		Columns: []messages.ColumnRequest{p.Pair(r)}}
	if s.ID != 0 && s.Sealed.Attnum != 0 {
		err = standing.Reading(ctx, l.DB, "30s", func(tx pg.Tx) error { request.Key, err = keyOf(ctx, tx, s); return err })
		if err != nil {
			return err
		}
	}
	if p.plan, err = preflight.Check(ctx, l.DB, request); err != nil {
		return err
	}
	p.strict = r.Strict && !standing.IsStrict(p.plan.Relation, p.plan.Columns[0].Registered.ID)
	p.Steps = p.rungs()
	if p.Way == WayNone && len(p.Steps) > 0 {
		p.Way = WayClimb // something that the phase promises is missing: it is put back
	}
	return nil
}

// Advance carries a climb or a record out; for the others it does nothing. Killed at any moment, the same request goes on.
func (l *Ladder) Advance(ctx context.Context, r AdvanceRequest, p AdvancePlan) error {
	if p.Way != WayClimb && p.Way != WayRecord {
		return nil
	}
	s := p.standing
	detail, err := json.Marshal(struct {
		Note   string `json:"note,omitempty"`
		Reason string `json:"reason,omitempty"`
	}{r.Note, r.Reason})
	if err != nil {
		return err
	}
	if len(p.plan.Columns) > 0 {
		if err := l.climb(ctx, &s, p, detail); err != nil {
			return fmt.Errorf("prepare column %s of %s: %w", s.Source, s.Relation.Table(), err)
		}
	}
	if p.Way == WayClimb {
		return nil
	}
	return l.Transition(ctx, s, lifecycle.Event{Kind: lifecycle.KindAdvanced, Phase: r.To, Detail: detail}, func(pg.Tx) error { return nil })
}

// NeedsKey says that the climb makes or proves the column's key.
func (p AdvancePlan) NeedsKey() bool {
	return len(p.plan.Columns) > 0 && p.To.Rung() >= lifecycle.PhaseDualWriting.Rung() && p.plan.Columns[0].Sealed()
}

// Warnings are what whoever reviews the column's first scheme should know, if the climb makes it.
func (p AdvancePlan) Warnings() []string {
	if !p.NeedsKey() || !p.plan.Columns[0].Fresh {
		return nil
	}
	return preflight.Warnings(p.plan.Relation, p.plan.Columns[0].Source.Attnum, p.plan.Columns[0].First(0))
}

// Pair is the column and its target under today's names, for a request that goes on from there.
func (p AdvancePlan) Pair(r AdvanceRequest) messages.ColumnRequest {
	pair := messages.ColumnRequest{Source: p.standing.Plain.Name, Target: cmp.Or(r.Target, p.standing.Sealed.Name, p.standing.Plain.Name+"_encrypted"),
		Transform: r.Transform, External: r.External, First: r.First}
	if p.standing.Sealed.Attnum == 0 {
		pair.Type = r.Type
	}
	return pair
}
