package messages

import (
	"strings"
)

// MostExpression is the most bytes of an expression, or of a condition.
const MostExpression = 8 << 10

// validateMade checks what an expression's column asks for, as far as that can be said without a server.
func (c ColumnRequest) validateMade(field string) error {
	switch {
	case c.From != nil:
		return invalid(field+".from", "is only for transform reencrypt")
	case c.External != (Encrypter{}):
		return invalid(field+".external", "is only for transform external")
	case c.Target == "":
		return invalid(field+".target", "is empty; transform %s needs the name of the column that takes the values", c.Transform)
	case c.Transform == TransformExpression && c.Expression == "":
		return invalid(field+".expression", "is empty; transform expression needs one, in SQL over the columns of a row")
	case c.Transform == TransformCopy && c.Expression != "":
		return invalid(field+".expression", "is known in transform copy: the source itself; leave it out")
	case c.Expression != "" && !IsExpression(c.Expression):
		return invalid(field+".expression", "must be one expression of SQL: every bracket, quote and comment in it closed, no semicolon")
	case c.Type != "" && !isType(c.Type):
		return invalid(field+".type", "was %.40q; accepted is the name of one type, as in numeric(10,2) or public.citext", c.Type)
	case c.Source == c.Target && c.Transform == TransformCopy:
		return invalid(field+".target", "is the source: nothing would be copied")
	}
	return c.Done.validate(field, c.Source == c.Target)
}

func (d Done) validate(field string, inPlace bool) error {
	switch {
	case d == (Done{}) && inPlace:
		return invalid(field+".done", "is missing: where target and source are one column, only a version column or a condition says which rows are done")
	case d.When != "" && (d.Version != "" || d.Number != 0):
		return invalid(field+".done", "has a version and a condition; one of them says which rows are done")
	case d.When != "" && !IsExpression(d.When):
		return invalid(field+".done.when", "must be one condition of SQL: every bracket, quote and comment in it closed, no semicolon")
	case d.Version == "" && d.Number != 0:
		return invalid(field+".done.version", "is empty; name the column that holds the number")
	case d.Version != "" && !isName(d.Version):
		return badName(field + ".done.version")
	case d.Version != "" && d.Number < 1:
		return invalid(field+".done.number", "was %d; accepted is 1 or more: rows of a lower one, or of none, are not done", d.Number)
	}
	return nil
}

// validateMade checks what expressions mean for the whole request.
func (r StartRequest) validateMade() error {
	versions := map[string]bool{}
	for i, c := range r.Columns {
		switch {
		case c.Where != "" && c.Where != EveryRow && r.Strict:
			return invalid("strict", "lets every write fail that misses a cell, and rows outside the condition need none: leave it out")
		case !c.Made():
		case r.Strict:
			return invalid("strict", "is about writes that miss a cell; where an expression makes the values, capture makes them too: leave it out")
		case versions[c.Done.Version]:
			return invalid(columnField(i)+".done.version", "counts another column of the request already; each needs its own")
		case c.Done.Version != "":
			versions[c.Done.Version] = true
		}
	}
	return nil
}

// isType says whether a text can be no more than the name of a type: letters, digits and what modifiers need.
func isType(s string) bool {
	return len(s) <= 200 && strings.TrimSpace(s) != "" && IsExpression(s) && !strings.ContainsFunc(s, func(r rune) bool {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r > 127:
			return false
		}
		return !strings.ContainsRune(`_$., "()[]`, r)
	})
}

// IsExpression says whether a text stays one expression wherever it is set in brackets: none of its own closes what it
// did not open, and every bracket, quote and comment is closed. Whether it means anything only a server can say.
func IsExpression(s string) bool {
	if s == "" || len(s) > MostExpression || strings.ContainsRune(s, 0) {
		return false
	}
	depth, seen, text := 0, false, false
	for i := 0; i < len(s); {
		n, after := 1, false
		switch b := s[i]; {
		case b == '\'' && text: // a text that goes on in another line has the first one's backslashes
			return false
		case b <= ' ':
			after = text
		case strings.HasPrefix(s[i:], "--"):
			n, after = lineComment(s[i:]), text
		case strings.HasPrefix(s[i:], "/*"):
			n, after = blockComment(s[i:]), text
		case b == '\'':
			n, seen, after = quotedText(s[i:], '\'', escapes(s, i)), true, true
		case b == '"':
			n, seen = quotedText(s[i:], '"', false), true
		case b == '$' && !continuesWord(s, i):
			n, seen = dollarText(s[i:]), true
		case b == '(' || b == '[':
			depth++
		case b == ')' || b == ']':
			depth--
		case b == ';':
			return false
		default:
			seen = true
		}
		text = after
		if i += n; n == 0 || depth < 0 {
			return false
		}
	}
	return depth == 0 && seen
}

// The following return the length of what begins here, or 0 if it does not end.

func lineComment(s string) int {
	if end := strings.IndexAny(s, "\r\n"); end >= 0 {
		return end
	}
	return len(s)
}

// blockComment nests.
func blockComment(s string) int {
	depth := 0
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "/*"):
			depth, i = depth+1, i+2
		case strings.HasPrefix(s[i:], "*/"):
			if depth, i = depth-1, i+2; depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return 0
}

// quotedText ends at a quote that is not doubled.
func quotedText(s string, quote byte, escaped bool) int {
	for i := 1; i < len(s); i++ {
		switch {
		case escaped && s[i] == '\\':
			i++
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			i++
		case s[i] == quote:
			return i + 1
		}
	}
	return 0
}

// escapes says that a text in quotes, which begins here, is one with backslashes: E'…'.
func escapes(s string, at int) bool {
	return at > 0 && (s[at-1] == 'e' || s[at-1] == 'E') && !continuesWord(s, at-1)
}

// dollarText is one between two equal tags; a dollar that begins none is itself.
func dollarText(s string) int {
	tag := strings.IndexByte(s[1:], '$')
	if tag < 0 {
		return 1
	}
	for i, b := range []byte(s[1 : 1+tag]) {
		if !isWord(b) || i == 0 && b >= '0' && b <= '9' {
			return 1
		}
	}
	mark := s[:tag+2]
	end := strings.Index(s[len(mark):], mark)
	if end < 0 {
		return 0
	}
	return end + 2*len(mark)
}

func isWord(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b > 127
}

// continuesWord says that what stands here belongs to a name that began before it.
func continuesWord(s string, at int) bool {
	return at > 0 && (isWord(s[at-1]) || s[at-1] == '$')
}
