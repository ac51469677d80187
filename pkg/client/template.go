package client

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A template is a statement of the application, cut at its placeholders and parameters.
type template []piece

// piece is one stretch of a template: text as it is, a parameter, or a placeholder.
type piece struct {
	text   string // as it is; of a placeholder the column's name
	param  int    // of a parameter its number, of a placeholder that of its value; 0: none
	use    use
	key    []int // the parameters that are the row's key
	tenant int   // the parameter that is the row's tenant; 0: none is named
}

// use says what a piece stands for.
type use int

const (
	useText     use = iota
	useParam        // $1
	useRead         // {email}
	useNames        // {email ...}
	useValues       // {email $2 key $1}
	useSet          // {email = $2 key $1}
	useExcluded     // {email = excluded}
)

// parse cuts a statement. Only braces around a name of one of the columns are placeholders; what is quoted, or a
// comment, is text.
func parse(sql string, names []string) (template, error) {
	var t template
	start := 0
	text := func(end int) {
		if end > start {
			t = append(t, piece{text: sql[start:end]})
		}
	}
	for i := 0; i < len(sql); {
		if n := opaque(sql[i:]); n > 0 {
			i += n
			continue
		}
		if n, digits := number(sql[i:]); digits > 0 && (i == 0 || !wordly(sql[i-1])) {
			text(i)
			t = append(t, piece{use: useParam, param: n})
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
func placeholder(text string, names []string) (p piece, ok bool, err error) {
	rest := strings.TrimSpace(text)
	name := ""
	for _, candidate := range names {
		after, found := strings.CutPrefix(rest, candidate)
		if found && len(candidate) > len(name) && (after == "" || strings.ContainsRune(" \t\n=", rune(after[0]))) {
			name = candidate
		}
	}
	if name == "" {
		return piece{}, false, nil
	}
	p = piece{text: name}
	words := strings.Fields(strings.NewReplacer("=", " = ", ",", " ").Replace(rest[len(name):]))
	bad := fmt.Errorf("{%[1]s}: want {%[2]s}, {%[2]s ...}, {%[2]s $1 key $2 tenant $3}, {%[2]s = $1 key $2 tenant $3} or {%[2]s = excluded}: %[3]w", text, name, ErrStatement)
	switch {
	case len(words) == 0:
		p.use = useRead
		return p, true, nil
	case len(words) == 1 && words[0] == "...":
		p.use = useNames
		return p, true, nil
	case len(words) == 2 && words[0] == "=" && words[1] == "excluded":
		p.use = useExcluded
		return p, true, nil
	case words[0] == "=":
		p.use, words = useSet, words[1:]
	default:
		p.use = useValues
	}
	if !p.take(words) {
		return piece{}, false, bad
	}
	return p, true, nil
}

// take reads $1 key $2 $3 tenant $4; key and tenant may be left out.
func (p *piece) take(words []string) bool {
	into := func(n int) { p.param = n }
	most := 1 // parameters that may still follow
	for i, word := range words {
		n, length := number(word)
		switch {
		case length == len(word) && most > 0:
			into(n)
			most--
		case length > 0 || i == 0 || i == len(words)-1:
			return false
		case word == "key" && p.key == nil:
			most = len(words)
			into = func(n int) { p.key = append(p.key, n) }
		case word == "tenant" && p.tenant == 0:
			most = 1
			into = func(n int) { p.tenant = n }
		default:
			return false
		}
	}
	return p.param > 0
}

// named are all parameters that a piece names.
func (p piece) named() []int {
	list := append([]int{p.param}, p.key...)
	if p.tenant > 0 {
		list = append(list, p.tenant)
	}
	return list
}

// templates keeps statements that were parsed, up to so many: an application that makes its statements up has no end of
// them.
type templates struct {
	kept  sync.Map // of templateKey to template
	count atomic.Int64
}

type templateKey struct{ columns, sql string }

const mostTemplates = 1024

func (t *templates) parse(cs Columns, sql string) (template, error) {
	at := templateKey{cs.names(), sql}
	if kept, ok := t.kept.Load(at); ok {
		return kept.(template), nil
	}
	names := make([]string, len(cs))
	for i, c := range cs {
		names[i] = c.name
	}
	parsed, err := parse(sql, names)
	if err == nil && t.count.Load() < mostTemplates {
		t.kept.Store(at, parsed)
		t.count.Add(1)
	}
	return parsed, err
}

// names tells sets of columns apart.
func (cs Columns) names() string {
	if len(cs) == 1 {
		return cs[0].name
	}
	var b strings.Builder
	for _, c := range cs {
		b.WriteString(strconv.Quote(c.name))
	}
	return b.String()
}

// named is the column of that name: the first, if columns of several tables are called so.
func (cs Columns) named(name string) *Column {
	for _, c := range cs {
		if c.name == name {
			return c
		}
	}
	return nil
}
