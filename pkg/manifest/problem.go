package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with a manifest.
type Problem struct {
	Line, Column int    // from 1
	Field        string // tables[0].columns[1].scheme; "" for the whole file
	Message      string // what is wrong and what is accepted
	Hint         string // what to do about it; may be empty
}

func (p Problem) String() string {
	s := fmt.Sprintf("%d:%d: ", p.Line, p.Column)
	if p.Field != "" {
		s += p.Field + ": "
	}
	return s + p.Message
}

// Error is what [Parse] and [Load] return for a text that is no valid manifest: every problem found, in the order of
// the text, at least one.
type Error struct {
	File     string // "" when the text came from no file
	Problems []Problem
}

// Error lists every problem on a line of its own, each with file, line and column.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
		if e.File != "" {
			lines[i] = e.File + ":" + lines[i]
		}
	}
	return strings.Join(lines, "\n")
}

// Hint is the first hint among the problems.
func (e *Error) Hint() string {
	for _, p := range e.Problems {
		if p.Hint != "" {
			return p.Hint
		}
	}
	return ""
}

func (e *Error) sort() {
	slices.SortStableFunc(e.Problems, func(a, b Problem) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
}
