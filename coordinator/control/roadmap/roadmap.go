package roadmap

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// The verdicts of a roadmap.
const (
	VerdictDone    = "done"    // the database is as the manifest wants it
	VerdictWork    = "work"    // there are steps to take, or differences to settle
	VerdictBlocked = "blocked" // and something stands in their way
)

// Roadmap is the way from what is to what the manifest wants.
type Roadmap struct {
	V        int        `json:"v"`
	At       time.Time  `json:"at"` // the server's clock
	Verdict  string     `json:"verdict"`
	Steps    []Step     `json:"steps"` // that come before those of any column
	Columns  []Column   `json:"columns"`
	Unlisted []Unlisted `json:"unlisted"`
	Blockers []Obstacle `json:"blockers"` // of the whole database
	Warnings []Obstacle `json:"warnings"`
	Unknown  []string   `json:"unknown"` // what could not be looked at, and why
}

// Column is one column of the manifest.
type Column struct {
	ID          uint32          `json:"column_id"` // 0: not registered yet
	Table       string          `json:"table"`
	Column      string          `json:"column"`
	Target      string          `json:"target"`
	Phase       lifecycle.Phase `json:"phase"`
	Reach       lifecycle.Phase `json:"reach"`
	Steps       []Step          `json:"steps"`
	Differences []Difference    `json:"differences"`
	Cost        *Cost           `json:"cost"` // null: no row is to be written
	Blockers    []Obstacle      `json:"blockers"`
	Warnings    []Obstacle      `json:"warnings"`
	Flags       []string        `json:"flags"` // as in status
}

// Step is one thing to do. A step without a command waits for time or for a person.
type Step struct {
	To      lifecycle.Phase `json:"to"` // the phase that it leads to; "": none
	Does    string          `json:"does"`
	Command string          `json:"command"`
	Lock    string          `json:"lock"` // that it takes on the table
	With    []string        `json:"with"` // the other columns of the table that the same command does
}

// Difference is what the manifest wants otherwise than it is, and no step changes.
type Difference struct {
	What   string `json:"what"`
	Wanted string `json:"wanted"`
	Is     string `json:"is"`
}

// Obstacle is what stands in the way, or what somebody should know.
type Obstacle struct {
	Kind    string `json:"kind"` // preflight, key, transaction, replication-slot, dependent, manifest, …
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// Unlisted is a registered column that the manifest does not name.
type Unlisted struct {
	ID     uint32          `json:"column_id"`
	Table  string          `json:"table"`
	Column string          `json:"column"`
	Phase  lifecycle.Phase `json:"phase"`
}

// Request says what the roadmap is about.
type Request struct {
	Manifest manifest.Manifest
	Table    string    // name, or schema.name; empty: every table
	Key      *Obstacle // why the key-encryption key cannot be used; nil: it can
	Proxy    *Obstacle // why no encrypting proxy can be used; nil: one can
	// Holds is how old a transaction is that is said to hold a table; 0 is a minute.
	Holds time.Duration
}

// Read compares a manifest with the database. It changes nothing, and works where nothing is installed yet. Its
// statements do not grow with the number of tables, but where a column has values in its target, or dependents.
func Read(ctx context.Context, db *pg.DB, r Request) (Roadmap, error) {
	v, err := status.ReadSurvey(ctx, db, r.Manifest, r.Table, false)
	if err != nil {
		return Roadmap{}, err
	}
	looks := v.Looks()
	if r.Table != "" && len(looks) == 0 {
		return Roadmap{}, standing.Lack("table", "names are taken literally", "the manifest names no column of a table %q, and none is registered", r.Table)
	}
	if err := status.Cover(ctx, db, looks, status.Covering{Wanted: true, Read: preflight.ReadCondition}); err != nil {
		return Roadmap{}, err
	}
	m := &mapper{survey: v, request: r, roadmap: Roadmap{V: messages.Version, At: v.At, Steps: []Step{}, Columns: []Column{}, Unlisted: []Unlisted{},
		Blockers: []Obstacle{}, Warnings: []Obstacle{}, Unknown: []string{}}}
	err = standing.Reading(ctx, db, "30s", func(tx pg.Tx) error { return m.run(ctx, tx, looks) })
	return m.roadmap, err
}

// mapper makes a roadmap.
type mapper struct {
	survey     *status.Survey
	request    Request
	roadmap    Roadmap
	facts      facts
	mayInstall bool
}

func (m *mapper) run(ctx context.Context, q pg.Querier, looks []*status.Look) error {
	// InspectAll has read the server's facts with each table; without tables nobody needs them.
	var err error
	if _, m.mayInstall, err = preflight.Installed(ctx, q); err != nil {
		return err
	}
	var listed []*status.Look
	for _, l := range looks {
		l.SetFlags()
		if l.Wanted == nil && m.moves(l, looks) {
			continue // the manifest speaks of the new one by now
		}
		if l.Wanted == nil {
			m.roadmap.Unlisted = append(m.roadmap.Unlisted, Unlisted{l.Column.ID, l.Table.String(), l.Name(), l.State.Phase})
			continue
		}
		listed = append(listed, l)
	}
	if m.facts, err = readFacts(ctx, q, m.survey, listed, cmp.Or(m.request.Holds, holdsLong)); err != nil {
		return err
	}
	for _, l := range listed {
		column, err := m.column(ctx, q, l)
		if err != nil {
			return err
		}
		m.roadmap.Columns = append(m.roadmap.Columns, column)
	}
	join(listed, m.roadmap.Columns)
	m.server()
	m.conclude()
	return nil
}

// moves says that the column's cells move into another one, or that the manifest wants it.
func (m *mapper) moves(l *status.Look, all []*status.Look) bool {
	_, moves := standing.MovedInto(l.Relation, m.survey.Columns, l.Column)
	return moves || slices.ContainsFunc(all, func(o *status.Look) bool {
		return o.Wanted != nil && o.Wanted.From.Own() && o.Table == l.Table && o.Plain.Attnum != 0 && o.Plain.Attnum == l.Column.TargetNum
	})
}

// column is what is to be done about one column, and what stands in the way.
func (m *mapper) column(ctx context.Context, q pg.Querier, l *status.Look) (Column, error) {
	c := Column{ID: l.Column.ID, Table: l.Table.String(), Column: l.Name(), Target: l.Status.Target, Phase: l.State.Phase, Reach: lifecycle.Phase(l.Wanted.Reach),
		Steps: []Step{}, Differences: differences(l), Blockers: []Obstacle{}, Warnings: []Obstacle{}, Flags: l.Status.Flags}
	c.Steps = append(c.Steps, steps(l)...)
	if c.Phase.Rung() > c.Reach.Rung() {
		c.Warnings = append(c.Warnings, backward(l, c))
	}
	if absent, is := absent(l); is && c.Phase.Rung() < c.Reach.Rung() {
		c.Blockers = append(c.Blockers, absent)
	}
	c.Blockers = slices.Concat(c.Blockers, changed(l), undivided(l), m.condition(l))
	if len(c.Steps) == 0 {
		return c, nil
	}
	blockers, err := m.blockers(ctx, q, l, c.Steps)
	if err != nil {
		return c, err
	}
	c.Blockers = append(c.Blockers, blockers...)
	c.Warnings = append(c.Warnings, m.cautions(l)...)
	if writes(l, c.Steps) && !l.Gone {
		c.Cost = m.cost(l)
	}
	return c, nil
}

// conclude says what it all amounts to.
func (m *mapper) conclude() {
	r := &m.roadmap
	r.Verdict = VerdictDone
	blocked := false
	for _, c := range r.Columns {
		if len(c.Steps) > 0 || len(c.Differences) > 0 || slices.ContainsFunc(c.Flags, isWork) {
			r.Verdict = VerdictWork
		}
		blocked = blocked || len(c.Blockers) > 0
	}
	if r.Verdict == VerdictWork && !m.survey.Installed {
		r.Steps = append(r.Steps, Step{Does: "create schema cipherfleet", Command: "cipherfleet install", Lock: "none", With: []string{}})
	}
	if blocked || r.Verdict == VerdictWork && len(r.Blockers) > 0 {
		r.Verdict = VerdictBlocked
	}
}

// isWork says that a flag is something to do, rather than something to know: what has another name is found all the same.
func isWork(flag string) bool {
	return !slices.Contains([]string{status.FlagTableRenamed, status.FlagSourceRenamed, status.FlagTargetRenamed}, flag)
}

// asObstacle is a refusal as an obstacle; false: it is no refusal but an error.
func asObstacle(kind string, err error) (Obstacle, bool) {
	var refusal *standing.Refusal
	if !errors.As(err, &refusal) {
		return Obstacle{}, false
	}
	return Obstacle{kind, refusal.Message, refusal.Hint}, true
}
