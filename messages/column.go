package messages

import (
	"fmt"
	"slices"
	"strings"
)

// What makes the values of a target.
const (
	TransformEncrypt  = "encrypt"  // cipherfleet does: cells
	TransformExternal = "external" // a user's own encrypter, asked over NATS
	TransformProxy    = "proxy"    // an encrypting proxy, through which plaintext is written

	TransformExpression = "expression" // an expression of SQL over the row, inside Postgres
	TransformCopy       = "copy"       // the same, and the expression is the source itself
)

// Transforms are all of them.
func Transforms() []string {
	return []string{TransformEncrypt, TransformReencrypt, TransformExternal, TransformProxy, TransformExpression, TransformCopy}
}

// TargetTypes are the types that a missing target may be added with; cells go into all but the last.
func TargetTypes() []string { return []string{"bytea", "text", "jsonb", "eql_v2_encrypted"} }

// EveryRow is the condition that every row meets.
const EveryRow = "true"

// NoCondition says what a text lacks that is to be a condition and is not [IsExpression].
const NoCondition = "must be one condition of SQL: every bracket, quote and comment in it closed, no semicolon"

// ColumnRequest names one column to encrypt, where the result goes, and who makes it.
type ColumnRequest struct {
	Source    string    `json:"source"`
	Target    string    `json:"target,omitempty"`    // empty: the source's name with "_encrypted" behind it; in reverse always empty
	Type      string    `json:"type,omitempty"`      // of a target that is added; empty: bytea
	Transform string    `json:"transform,omitempty"` // one of those above; empty: what the last job over the column did, else encrypt
	External  Encrypter `json:"external,omitzero"`   // of transform external
	From      *Origin   `json:"from,omitempty"`      // of transform reencrypt: who encrypted the values of the source

	Where string `json:"where,omitempty"` // of transform encrypt: SQL over a row, true of those that need a cell; empty: as in the last job; "true": all

	First *Scheme `json:"first_scheme,omitempty"` // of a column that has no scheme yet: what its first one is to be; nil: as Scheme says

	Expression string `json:"expression,omitempty"` // of transform expression
	Done       Done   `json:"done,omitzero"`        // which rows an expression is done with; empty: those that hold its value
}

// Made says that Postgres makes the target's values, by an expression.
func (c ColumnRequest) Made() bool {
	return c.Transform == TransformExpression || c.Transform == TransformCopy
}

// Done says which rows an expression is done with: those whose column Version is at least Number, or those for which When
// is true.
type Done struct {
	Version string `json:"version,omitempty"`
	Number  int64  `json:"number,omitempty"`
	When    string `json:"when,omitempty"`
}

// Encrypter says where a user's own encrypter is asked, and what it calls the column.
type Encrypter struct {
	Subject string `json:"subject"`
	Key     string `json:"key,omitempty"`
}

// Validate checks who makes a column's values and how; field is the column's own name in problems.
func (c ColumnRequest) Validate(field string) error {
	if err := c.validateTransform(field); err != nil {
		return err
	}
	return c.validateFirst(field)
}

// validateTransform checks who makes a column's values.
func (c ColumnRequest) validateTransform(field string) error {
	switch {
	case c.Transform != "" && !slices.Contains(Transforms(), c.Transform):
		return invalid(field+".transform", "was %.40q; accepted is encrypt, reencrypt, external, proxy, expression or copy", c.Transform)
	case c.Where != "" && c.Transform != "" && c.Transform != TransformEncrypt:
		return invalid(field+".where", "is only for transform encrypt: where another transform makes the values, every row has one")
	case c.Where != "" && !IsExpression(c.Where):
		return invalid(field+".where", NoCondition)
	case c.Made():
		return c.validateMade(field)
	case c.Expression != "":
		return invalid(field+".expression", "is only for transform expression")
	case c.Done != (Done{}):
		return invalid(field+".done", "is only for transforms expression and copy")
	case c.Type != "" && !slices.Contains(TargetTypes(), c.Type):
		return invalid(field+".type", "was %.40q; accepted is %s", c.Type, strings.Join(TargetTypes(), ", "))
	case c.Transform != TransformExternal && c.External != (Encrypter{}):
		return invalid(field+".external", "is only for transform external")
	case (c.Transform == TransformEncrypt || c.Transform == TransformReencrypt) && c.Type == "eql_v2_encrypted":
		return invalid(field+".type", "was %.40q; cells go into bytea, text or jsonb", c.Type)
	case c.Transform != TransformExternal:
		return c.validateFrom(field)
	case c.From != nil:
		return invalid(field+".from", "is only for transform reencrypt")
	case !IsEncrypterSubject(c.External.Subject):
		return invalid(field+".external.subject", "must be a NATS subject without wildcards that is none of NATS's or of cipherfleet's own")
	case len(c.External.Key) > 256 || !isText(c.External.Key):
		return invalid(field+".external.key", "must be at most 256 bytes of printable text")
	}
	return nil
}

// IsEncrypterSubject says whether plaintext may be sent to a subject: one exact subject, which is nobody else's.
func IsEncrypterSubject(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || token == "*" || token == ">" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return false
		}
	}
	first, _, _ := strings.Cut(s, ".")
	return first[0] != '$' && first != "_INBOX" && first != Service
}

func columnField(i int) string { return fmt.Sprintf("columns[%d]", i) }
