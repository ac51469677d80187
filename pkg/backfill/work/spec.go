package work

import (
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Spec is what a job was asked to do, with every name resolved to what it meant then.
type Spec struct {
	Schema       string   `json:"schema"`
	Table        string   `json:"table"`
	Key          []string `json:"key"`
	Columns      []Column `json:"columns"`
	Limits       Limits   `json:"limits,omitzero"`
	UserTriggers string   `json:"user_triggers,omitempty"` // fire or skip
	Budget       int      `json:"quarantine_budget"`
	Compared     bool     `json:"compared,omitempty"` // a pass has compared the cells of every column that asks for it
	Unasked      bool     `json:"unasked,omitempty"`  // the fleet began it, or its last sweep, by itself
}

// Column is one column of a job. The attribute numbers are those of the table, or of the partitions' root.
type Column struct {
	ID           uint32   `json:"id"`
	Source       string   `json:"source"`
	Target       string   `json:"target"`
	SourceAttnum int16    `json:"source_attnum"`
	TargetAttnum int16    `json:"target_attnum"`
	Scheme       uint16   `json:"scheme"`
	Reverse      bool     `json:"reverse,omitempty"` // after its cutover: cells are opened into the source
	External     External `json:"external,omitzero"` // who makes the values; then there is no scheme
	LogTable     string   `json:"log_table"`         // names under which the event log knows the column
	LogColumn    string   `json:"log_column"`

	Rotate bool            `json:"rotate,omitempty"` // cells are sealed anew under Scheme; the source is not looked at
	Phase  lifecycle.Phase `json:"phase,omitempty"`  // where the column stands, if its run leaves it there
	Index  *Index          `json:"index,omitempty"`  // tokens are made of the cells in Source; then Target holds those

	// Compare has cells that are there already opened and compared with their source, and sealed anew if they are of
	// another value: they are from a time when nobody noticed who missed them.
	Compare bool `json:"compare,omitempty"`

	// Expression makes the values inside Postgres; then there is no scheme either, and Source may be the target.
	Expression *ddl.Expression `json:"expression,omitempty"`

	// Where says which rows need a cell; nil: all.
	Where *ddl.Condition `json:"where,omitempty"`

	Origin *Origin `json:"origin,omitempty"` // who encrypted the values of the source, if somebody else did

	Reader transform.Reader `json:"-"` // of the origin's values; see [Job.Reading]

	Tenant string `json:"-"` // column whose value chooses the key that Scheme seals with; see [Job.Following]
}

// stays is the phase in which the column's run leaves it; "" if it climbs.
func (c Column) stays() lifecycle.Phase {
	if c.Reverse {
		return lifecycle.PhaseCutOver
	}
	return c.Phase
}

// Made says that an expression makes the column's values inside Postgres.
func (c Column) Made() bool { return c.Expression != nil }

// Sealed says that the column's target holds cells of ours.
func (c Column) Sealed() bool { return !c.Foreign() && !c.Made() }

// Index is the blind index that a job fills: it reads the cells that stand in the column's source, whatever became of
// their plaintext, and writes tokens to its target. In the log it is a column of its own.
type Index struct {
	ID     uint32 `json:"id"`
	Name   string `json:"name"`
	Missed int64  `json:"missed"`           // rows that had been left without a token when the job was asked for; see [ddl.TokenMissed]
	Listed bool   `json:"listed,omitempty"` // few rows lack one, and an index holds them: no other is read
}
