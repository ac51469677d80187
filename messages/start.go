package messages

import (
	"encoding/json"
	"fmt"
	"strings"
)

// What happens to the user's own triggers when the fleet updates a row.
const (
	TriggersFire = "fire"
	TriggersSkip = "skip"
)

// Which way a job goes: forward it encrypts; in reverse it opens the cells of a column that is cut over into its
// plaintext column, where that fell behind; a rotation seals the cells of a column anew under another scheme.
const (
	DirectionForward = "forward"
	DirectionReverse = "reverse"
	DirectionRotate  = "rotate"
	DirectionIndex   = "index" // tokens are made of the cells of a column, into a blind index of it
)

// MaxScheme is the highest number that a scheme can have.
const MaxScheme = 65535

// MaxChunkRows is the most rows that a request may ask to have in one transaction.
const MaxChunkRows = 100_000

// StartRequest asks for a job over one table. Sending it again with the same RequestID answers with the same job.
// Names are literal: never folded, never quoted.
type StartRequest struct {
	V            int             `json:"v"`
	RequestID    string          `json:"request_id"`
	Schema       string          `json:"schema,omitempty"` // empty: public
	Table        string          `json:"table"`
	Columns      []ColumnRequest `json:"columns"`
	Key          []string        `json:"key,omitempty"`           // empty: the primary key, else a NOT NULL unique index
	ChunkRows    int             `json:"chunk_rows,omitempty"`    // 0: the coordinator's default
	Prepare      bool            `json:"prepare,omitempty"`       // also adds a missing target column
	UserTriggers string          `json:"user_triggers,omitempty"` // empty: refused when it matters, in reverse what the last job did; else fire or skip
	Direction    string          `json:"direction,omitempty"`     // empty or forward; reverse, rotate or index
	Scheme       int             `json:"scheme,omitempty"`        // of a rotation: what to seal under; 0: the newest that is readable
	Index        string          `json:"index,omitempty"`         // of direction index: the name of the column of tokens
	Strict       bool            `json:"strict,omitempty"`        // writes that miss a target fail from now on
	Actor        string          `json:"actor,omitempty"`         // who asks, for the event log
}

// Marshal writes the body in the current version whatever V says.
func (r StartRequest) Marshal() ([]byte, error) {
	r.V = Version
	return json.Marshal(r)
}

// ParseStartRequest reads a request strictly and fills in its defaults. Every error is a *Problem that names the
// field; that of an unknown version is ErrVersion too.
func ParseStartRequest(body []byte) (StartRequest, error) {
	var r StartRequest
	if err := readStrictly(body, &r); err != nil {
		return StartRequest{}, err
	}
	r = r.withDefaults()
	if err := r.Validate(); err != nil {
		return StartRequest{}, err
	}
	return r, nil
}

func (r StartRequest) withDefaults() StartRequest {
	if r.Schema == "" {
		r.Schema = "public"
	}
	columns := make([]ColumnRequest, len(r.Columns))
	for i, column := range r.Columns {
		if column.Target == "" && column.Source != "" && !column.Made() && !column.From.Own() && !r.known() {
			column.Target = column.Source + "_encrypted"
		}
		columns[i] = column
	}
	r.Columns = columns
	return r
}

// Validate checks everything that can be checked without a database; its error is a *Problem that names the field.
func (r StartRequest) Validate() error {
	switch {
	case !isRequestID(r.RequestID):
		return invalid("request_id", "must be 1 to 128 visible ASCII characters: it makes repeating the request safe")
	case r.Schema != "" && !isName(r.Schema):
		return badName("schema")
	case !isName(r.Table):
		return badName("table")
	case r.ChunkRows < 0 || r.ChunkRows > MaxChunkRows:
		return invalid("chunk_rows", "was %d; accepted is 1 to %d, or 0 for the default", r.ChunkRows, MaxChunkRows)
	case r.UserTriggers != "" && r.UserTriggers != TriggersFire && r.UserTriggers != TriggersSkip:
		return invalid("user_triggers", "was %.40q; accepted is fire or skip", r.UserTriggers)
	case r.Direction != "" && r.Direction != DirectionForward && !r.known():
		return invalid("direction", "was %.40q; accepted is forward, reverse, rotate or index", r.Direction)
	case r.Scheme < 0 || r.Scheme > MaxScheme:
		return invalid("scheme", "was %d; accepted is 1 to %d, or 0 for the newest", r.Scheme, MaxScheme)
	case r.Scheme != 0 && r.Direction != DirectionRotate:
		return invalid("scheme", "is only for direction rotate")
	case r.Direction == DirectionIndex && !isName(r.Index):
		return badName("index")
	case r.Index != "" && r.Direction != DirectionIndex:
		return invalid("index", "is only for direction index")
	case len(r.Actor) > 128 || !isText(r.Actor):
		return invalid("actor", "must be at most 128 bytes of printable text")
	}
	if err := r.validateColumns(); err != nil {
		return err
	}
	if r.known() {
		return r.validateKnown()
	}
	if err := r.validateMade(); err != nil {
		return err
	}
	return r.validateKey()
}

// known says that the job reads cells that are there: what they are bound to, and where they stand, is known.
func (r StartRequest) known() bool {
	return r.Direction == DirectionReverse || r.Direction == DirectionRotate || r.Direction == DirectionIndex
}

// validateKnown refuses what is known of a column that has its cells: its target, and its key.
func (r StartRequest) validateKnown() error {
	of := "in reverse"
	if r.Direction == DirectionRotate {
		of = "of a rotation"
	}
	if r.Direction == DirectionIndex {
		of = "of an index"
	}
	switch {
	case len(r.Columns) > 1:
		return invalid("columns", "has %d elements; a job %s opens one column", len(r.Columns), of)
	case r.Columns[0].Type != "" || r.Columns[0].Transform != "":
		return invalid("columns[0].transform", "is known %s; leave it out", of)
	case r.Columns[0].First != nil:
		return invalid("columns[0].first_scheme", "is known %s; leave it out", of)
	case r.Columns[0].Target != "":
		return invalid("columns[0].target", "is known %s; leave it out", of)
	case len(r.Key) > 0:
		return invalid("key", "is known %s: the cells are bound to it; leave it out", of)
	case r.Prepare:
		return invalid("prepare", "adds nothing %s; leave it out", of)
	case r.Strict:
		return invalid("strict", "is about writes that miss a cell; %s leave it out", of)
	}
	return nil
}

func (r StartRequest) validateColumns() error {
	if len(r.Columns) == 0 {
		return invalid("columns", "is empty; name at least one column")
	}
	used := map[string]string{}
	for i, column := range r.Columns {
		for _, name := range []struct{ field, value string }{{"source", column.Source}, {"target", column.Target}} {
			field := fmt.Sprintf("columns[%d].%s", i, name.field)
			if name.field == "target" && name.value == "" {
				continue
			}
			if !isName(name.value) {
				return badName(field)
			}
			if name.field == "target" && column.Made() && name.value == column.Source {
				continue // in place
			}
			if before, taken := used[name.value]; taken {
				return invalid(field, "names the same column as %s", before)
			}
			used[name.value] = field
		}
		if err := column.Validate(columnField(i)); err != nil {
			return err
		}
	}
	return nil
}

func (r StartRequest) validateKey() error {
	used := map[string]bool{}
	for i, name := range r.Key {
		field := fmt.Sprintf("key[%d]", i)
		if !isName(name) {
			return badName(field)
		}
		if used[name] {
			return invalid(field, "names a column that stands in the key already")
		}
		used[name] = true
	}
	return nil
}

func badName(field string) *Problem {
	return invalid(field, "must be a name of 1 to 63 bytes")
}

func isRequestID(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
