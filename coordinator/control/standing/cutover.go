package standing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// The strategies of a cutover.
const (
	StrategySwap   = "swap"    // the cell column takes the plaintext's name
	StrategyByName = "by-name" // names stay: the application's code switches
)

// The proofs that a cutover can rest on.
const (
	ProofFull   = "full"   // every cell was opened and compared
	ProofSample = "sample" // some were
	ProofNone   = "none"
)

// Cutover is the detail of a cut_over event: what a rollback needs to put everything back, and why it was done.
type Cutover struct {
	Strategy     string         `json:"strategy"`
	PlainName    string         `json:"plain_name"`       // of the plaintext column since
	SealedName   string         `json:"sealed_name"`      // of the cell column since
	PlainWas     string         `json:"plain_was"`        // before; the same where names stay
	SealedWas    string         `json:"sealed_was"`       // before
	Strict       bool           `json:"strict,omitempty"` // writes that missed the cell failed
	Places       []CutoverPlace `json:"places"`           // what was moved, where; the table itself first, then its partitions
	Proof        string         `json:"proof"`            // full, sample or none
	Soak         string         `json:"soak,omitempty"`   // without a missed write; as time.Duration writes it
	Acknowledged []string       `json:"acknowledged,omitempty"`
	Reason       string         `json:"reason,omitempty"`
	Note         string         `json:"note,omitempty"`
}

// CutoverPlace is what a cutover moved on one relation: the table, or one of its partitions.
type CutoverPlace struct {
	OID          uint32 `json:"oid"`
	Schema       string `json:"schema"`
	Name         string `json:"name"`
	Default      string `json:"default,omitempty"` // expression that was taken off the plaintext, every name in it qualified
	NullDefault  bool   `json:"null_default,omitempty"`
	NotNull      bool   `json:"not_null,omitempty"`      // was taken off the plaintext, here and below, and put on the cells
	PlainComment string `json:"plain_comment,omitempty"` // was copied to the cell column
	// SealedComment is the comment that the copy replaced; meaningless without PlainComment.
	SealedComment string  `json:"sealed_comment,omitempty"`
	Grants        []Grant `json:"grants,omitempty"` // were given on the cell column in addition
}

// Grant is one right on one column, by the catalog's words.
type Grant struct {
	Privilege string `json:"privilege"` // SELECT, INSERT, UPDATE or REFERENCES
	Grantee   string `json:"grantee"`   // role; "" is PUBLIC
	Grantable bool   `json:"grantable,omitempty"`
}

const newestCutoverSQL = `SELECT details FROM cipherfleet.events
 WHERE table_name = $1 AND column_name = $2 AND event = 'cut_over' ORDER BY id DESC LIMIT 1`

// LastCutover is the detail of a column's last cut_over event; the zero Cutover if there was none.
func LastCutover(ctx context.Context, q pg.Querier, c lifecycle.Column) (detail Cutover, err error) {
	var text []byte
	err = q.QueryRow(ctx, newestCutoverSQL, c.Table.String(), c.Source).Scan(&text)
	switch {
	case errors.Is(err, pgx.ErrNoRows) || err == nil && len(text) == 0:
		return Cutover{}, nil
	case err == nil:
		err = json.Unmarshal(text, &detail)
	}
	if err != nil {
		return Cutover{}, fmt.Errorf("read the last cutover of %s.%s: %w", c.Table, c.Source, err)
	}
	return detail, nil
}

// Swap is the cutover's SQL, or its undo, for a column under the names that it has before.
func (d Cutover) Swap(c ddl.Column) ddl.Swap {
	if c.Types != nil { // they are known by names too
		c.Types = maps.Clone(c.Types)
		c.Types[d.PlainWas], c.Types[d.SealedWas] = c.Types[c.Source], c.Types[c.Target]
	}
	c.Source, c.Target = d.PlainWas, d.SealedWas
	s := ddl.Swap{Column: c, Strict: d.Strict}
	if d.Strategy == StrategySwap {
		s.Plain = d.PlainName
	}
	for _, p := range d.Places {
		place := ddl.Place{Table: pg.Table{Schema: p.Schema, Name: p.Name}, Default: p.Default, NullDefault: p.NullDefault, NotNull: p.NotNull,
			PlainComment: p.PlainComment, SealedComment: p.SealedComment}
		for _, g := range p.Grants {
			place.Grants = append(place.Grants, ddl.Grant(g))
		}
		s.Places = append(s.Places, place)
	}
	return s
}
