package verify

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/proof"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// IndexReport is what was found of one blind index: each of its tokens was made again from the cell beside it, and
// compared. It proves nothing of the column, and takes nothing from what that proves.
type IndexReport struct {
	Index      string               `json:"index"`
	Generation int                  `json:"generation"`
	State      lifecycle.IndexState `json:"state"`
	Tokens     string               `json:"tokens"`           // the column of tokens, under today's name; "": it is gone
	Right      int64                `json:"right"`            // the token of the cell beside it, or both are NULL
	Missing    int64                `json:"missing"`          // a cell without its token, or a token left over beside none
	Wrong      int64                `json:"wrong"`            // a token of another value
	Unopened   int64                `json:"unopened"`         // beside a cell that does not open, or whose value has no token: nobody can tell
	Unread     string               `json:"unread,omitempty"` // why no token was looked at
	Examples   []string             `json:"examples"`         // hashes of the first keys whose token is wrong, or whose cell does not open
	// Proven says that no token that was read is wrong, each could be judged, and that none is missing where the index is
	// ready: until then lookups expect none.
	Proven bool `json:"proven"`
}

// testTokens are the tokens of one index of a column.
type testTokens struct {
	lifecycle.Index
	of     testColumn
	token  pg.Column
	unread string
}

// openTokens finds the tokens beside the cells that are to be opened, and loads their keys. An index that cannot be judged
// says so, and keeps no column from being verified.
func (v *Verifier) openTokens(ctx context.Context, t *tested) error {
	for _, p := range t.passes {
		for _, c := range p.columns {
			for _, x := range t.indexes {
				if x.Column != c.ID || !x.State.Written() || !c.sealed() {
					continue
				}
				tokens, err := v.openIndex(ctx, t, c, x)
				if err != nil {
					return err
				}
				p.tokens = append(p.tokens, tokens)
			}
		}
		for _, x := range p.judged() {
			p.reports = append(p.reports, proof.Report{Column: x.of.ID, Examples: []string{}})
		}
	}
	return nil
}

func (v *Verifier) openIndex(ctx context.Context, t *tested, c testColumn, x lifecycle.Index) (testTokens, error) {
	tokens := testTokens{Index: x, of: c}
	at := slices.IndexFunc(t.relation.Checks, func(k pg.Check) bool { return k.Name == ddl.TokenCheckName(x.ID) && len(k.Columns) == 1 })
	if at >= 0 {
		tokens.token, _ = t.relation.Column(t.relation.Checks[at].Columns[0])
	}
	if tokens.token.Attnum == 0 || tokens.token.TypeOID != pgtype.ByteaOID {
		tokens.unread = "its column of tokens is gone, or is not what it was"
		return tokens, nil
	}
	err := t.keys.AddIndex(ctx, v.KEK, x)
	var damage *lifecycle.DamageError
	if errors.As(err, &damage) {
		tokens.unread, err = damage.Error(), nil
	}
	return tokens, err
}

// judged are the tokens that are read.
func (p *testPass) judged() (all []testTokens) {
	for _, x := range p.tokens {
		if x.unread == "" {
			all = append(all, x)
		}
	}
	return all
}

// tokenColumns are the tokens as a proof reads them: each cell once more, and beside it the token.
func (p *testPass) tokenColumns() (all []work.Column) {
	for _, x := range p.judged() {
		all = append(all, work.Column{ID: x.of.ID, Source: x.of.target, SourceAttnum: x.of.TargetNum, Target: x.token.Name, TargetAttnum: x.token.Attnum,
			LogColumn: x.Token, Index: &work.Index{ID: x.ID, Name: x.Name}})
	}
	return all
}

// indexReports are what was found beside the cells of one column.
func (p *testPass) indexReports(column uint32) []IndexReport {
	reports, next := []IndexReport{}, len(p.columns)
	for _, x := range p.tokens {
		found := IndexReport{Index: x.Name, Generation: x.Generation, State: x.State, Tokens: x.token.Name, Unread: x.unread, Examples: []string{}}
		if x.unread == "" {
			r := p.reports[next]
			next++
			found.Right, found.Missing, found.Wrong, found.Unopened, found.Examples = r.Covered, r.Uncovered, r.Stale, r.Broken, r.Examples
		}
		found.Proven = x.unread == "" && found.Wrong+found.Unopened == 0 && (x.State != lifecycle.IndexReady || found.Missing == 0)
		if x.of.ID == column {
			reports = append(reports, found)
		}
	}
	return reports
}
