// Package template reads statements with placeholders.
//
// Words: a [Template] is a statement of the application, cut at its placeholders and parameters; a [Piece] is one stretch
// of it. Only braces around a name of one of the columns are placeholders; what is quoted, or a comment, is text.
package template

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrStatement: a placeholder of a statement is not of the grammar.
var ErrStatement = errors.New("placeholder is not understood")

// Template is a statement of the application, cut at its placeholders and parameters.
type Template []Piece

// Piece is one stretch of a template: text as it is, a parameter, or a placeholder.
type Piece struct {
	Text   string // as it is; of a placeholder the column's name
	Param  int    // of a parameter its number, of a placeholder that of its value; 0: none
	Use    Use
	Key    []int  // the parameters that are the row's key
	Tenant int    // the parameter that is the row's tenant; 0: none is named
	With   []With // further columns of the row
	Index  string // of a lookup the name of the index
}

// With is a column of the row with the parameter that is its value.
type With struct {
	Name  string
	Param int
}

// Use says what a piece stands for.
type Use int

// What pieces stand for.
const (
	Text     Use = iota
	Param        // $1
	Read         // {email}
	Names        // {email ...}
	Values       // {email $2 key $1}
	Set          // {email = $2 key $1}
	Excluded     // {email = excluded}
	Lookup       // {email by email_bidx $1}
)

// Parse cuts a statement. Only braces around a name of one of the columns are placeholders; what is quoted, or a
// comment, is text.
func Parse(sql string, names []string) (Template, error) {
	var t Template
	start := 0
	text := func(end int) {
		if end > start {
			t = append(t, Piece{Text: sql[start:end]})
		}
	}
	for i := 0; i < len(sql); {
		if n := opaque(sql[i:]); n > 0 {
			i += n
			continue
		}
		if n, digits := number(sql[i:]); digits > 0 && (i == 0 || !wordly(sql[i-1])) {
			text(i)
			t = append(t, Piece{Use: Param, Param: n})
			i += digits
			start = i
			continue
		}
		if sql[i] == '{' {
			if length := strings.IndexByte(sql[i:], '}'); length > 0 {
				p, ok, err := placeholder(sql[i+1:i+length], names)
				if err != nil {
					return nil, err
				}
				if ok {
					text(i)
					t = append(t, p)
					i += length + 1
					start = i
					continue
				}
			}
		}
		i++
	}
	text(len(sql))
	return t, nil
}

func wordly(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// number reads $1: its number and its length.
func number(s string) (n, length int) {
	if s[0] != '$' {
		return 0, 0
	}
	length = 1
	for length < len(s) && s[length] >= '0' && s[length] <= '9' && length < 7 {
		n = n*10 + int(s[length]-'0')
		length++
	}
	if n == 0 {
		return 0, 0
	}
	return n, length
}

// opaque is the length of what begins here and is not looked into: a string, a quoted name, a comment.
func opaque(s string) int {
	to := func(end string, from int) int {
		if at := strings.Index(s[from:], end); at >= 0 {
			return from + at + len(end)
		}
		return len(s)
	}
	switch {
	case s[0] == '\'' || s[0] == '"':
		return to(s[:1], 1)
	case (s[0] == 'E' || s[0] == 'e') && len(s) > 1 && s[1] == '\'':
		return escaped(s)
	case strings.HasPrefix(s, "--"):
		return to("\n", 2)
	case strings.HasPrefix(s, "/*"):
		return to("*/", 2)
	case s[0] == '$':
		tag := strings.IndexByte(s[1:], '$')
		if tag < 0 || strings.ContainsFunc(s[1:1+tag], func(r rune) bool { return r < 0x80 && !wordly(byte(r)) }) || tag > 0 && s[1] <= '9' {
			return 0
		}
		return to(s[:tag+2], tag+2)
	}
	return 0
}

// escaped is the length of a string with backslashes.
func escaped(s string) int {
	for i := 2; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\'':
			return i + 1
		}
	}
	return len(s)
}

// placeholder reads what is between braces; ok is false when it names none of the columns.
func placeholder(text string, names []string) (p Piece, ok bool, err error) {
	rest := strings.TrimSpace(text)
	name := ""
	for _, candidate := range names {
		after, found := strings.CutPrefix(rest, candidate)
		if found && len(candidate) > len(name) && (after == "" || strings.ContainsRune(" \t\n=", rune(after[0]))) {
			name = candidate
		}
	}
	if name == "" {
		return Piece{}, false, nil
	}
	p = Piece{Text: name}
	words := strings.Fields(strings.NewReplacer("=", " = ", ",", " ").Replace(rest[len(name):]))
	bad := fmt.Errorf("{%[1]s}: want {%[2]s}, {%[2]s ...}, {%[2]s $1 key $2 tenant $3 with column $4}, {%[2]s = $1 key $2 tenant $3 with column $4}, {%[2]s = excluded} or {%[2]s by index $1}: %[3]w", text, name, ErrStatement)
	switch {
	case len(words) == 0:
		p.Use = Read
		return p, true, nil
	case len(words) == 1 && words[0] == "...":
		p.Use = Names
		return p, true, nil
	case len(words) == 2 && words[0] == "=" && words[1] == "excluded":
		p.Use = Excluded
		return p, true, nil
	case len(words) == 3 && words[0] == "by":
		p.Use, p.Index, words = Lookup, words[1], words[2:]
	case words[0] == "=":
		p.Use, words = Set, words[1:]
	default:
		p.Use = Values
	}
	if !p.take(words) {
		return Piece{}, false, bad
	}
	return p, true, nil
}

// take reads $1 key $2 $3 tenant $4 with tenant_id $5 slug $6; what is behind $1 may be left out. With comes last: what
// follows it are names of columns, whatever they are.
func (p *Piece) take(words []string) bool {
	if at := slices.Index(words, "with"); at > 0 {
		if !p.takeWith(words[at+1:]) {
			return false
		}
		words = words[:at]
	}
	into := func(n int) { p.Param = n }
	most := 1 // parameters that may still follow
	for i, word := range words {
		n, length := number(word)
		switch {
		case length == len(word) && most > 0:
			into(n)
			most--
		case length > 0 || i == 0 || i == len(words)-1:
			return false
		case word == "key" && p.Key == nil:
			most = len(words)
			into = func(n int) { p.Key = append(p.Key, n) }
		case word == "tenant" && p.Tenant == 0:
			most = 1
			into = func(n int) { p.Tenant = n }
		default:
			return false
		}
	}
	return p.Param > 0
}

// takeWith reads names, each with its parameter.
func (p *Piece) takeWith(words []string) bool {
	for i := 0; i+1 < len(words); i += 2 {
		n, length := number(words[i+1])
		known := slices.ContainsFunc(p.With, func(w With) bool { return w.Name == words[i] })
		if length == 0 || length != len(words[i+1]) || words[i][0] == '$' || known {
			return false
		}
		p.With = append(p.With, With{words[i], n})
	}
	return len(words) > 0 && len(words)%2 == 0
}

// Named are all parameters that a piece names.
func (p Piece) Named() []int {
	list := append([]int{p.Param}, p.Key...)
	if p.Tenant > 0 {
		list = append(list, p.Tenant)
	}
	for _, w := range p.With {
		list = append(list, w.Param)
	}
	return list
}

// Takes says whether a parameter is named anywhere.
func (t Template) Takes(n int) bool {
	return slices.ContainsFunc(t, func(p Piece) bool { return slices.Contains(p.Named(), n) })
}
