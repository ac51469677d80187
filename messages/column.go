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
)

// TargetTypes are the types that a missing target may be added with; cells go into all but the last.
func TargetTypes() []string { return []string{"bytea", "text", "jsonb", "eql_v2_encrypted"} }

// ColumnRequest names one column to encrypt, where the result goes, and who makes it.
type ColumnRequest struct {
	Source    string    `json:"source"`
	Target    string    `json:"target,omitempty"`    // empty: the source's name with "_encrypted" behind it; in reverse always empty
	Type      string    `json:"type,omitempty"`      // of a target that is added; empty: bytea
	Transform string    `json:"transform,omitempty"` // encrypt, external or proxy; empty: what the last job over the column did, else encrypt
	External  Encrypter `json:"external,omitzero"`   // of transform external
}

// Encrypter says where a user's own encrypter is asked, and what it calls the column.
type Encrypter struct {
	Subject string `json:"subject"`
	Key     string `json:"key,omitempty"`
}

// validateTransform checks who makes a column's values.
func (c ColumnRequest) validateTransform(field string) error {
	switch {
	case c.Transform != "" && c.Transform != TransformEncrypt && c.Transform != TransformExternal && c.Transform != TransformProxy:
		return invalid(field+".transform", "was %.40q; accepted is encrypt, external or proxy", c.Transform)
	case c.Type != "" && !slices.Contains(TargetTypes(), c.Type):
		return invalid(field+".type", "was %.40q; accepted is %s", c.Type, strings.Join(TargetTypes(), ", "))
	case c.Transform != TransformExternal && c.External != (Encrypter{}):
		return invalid(field+".external", "is only for transform external")
	case c.Transform == TransformEncrypt && c.Type == "eql_v2_encrypted":
		return invalid(field+".type", "was %.40q; cells go into bytea, text or jsonb", c.Type)
	case c.Transform != TransformExternal:
		return nil
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
