package cli

import (
	"regexp"
	"strings"
)

// opening is what begins a stretch of SQL in which a semicolon ends nothing.
var opening = regexp.MustCompile(`(?s)[eE]'|'|"|--|/\*|\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$|;`)

// statements cuts a script of SQL at the semicolons that end its statements, and leaves those out. Comments stay with
// the statement that follows; what is empty is left out.
func statements(script string) []string {
	var all []string
	begun, at := 0, 0
	take := func(end int) {
		if text := strings.TrimSpace(script[begun:end]); text != "" {
			all = append(all, text)
		}
	}
	for at < len(script) {
		found := opening.FindStringIndex(script[at:])
		if found == nil {
			break
		}
		open, inside := script[at+found[0]:at+found[1]], at+found[1]
		if open == ";" {
			take(inside - 1)
			begun, at = inside, inside
			continue
		}
		at = inside + closing(open, script[inside:])
	}
	take(len(script))
	return all
}

// closing is where the stretch that open began ends in rest. A quote that is doubled ends it and begins another.
func closing(open, rest string) int {
	switch open {
	case "--":
		return until(rest, "\n")
	case "/*":
		return comment(rest)
	case "E'", "e'":
		for i := 0; i < len(rest); i++ {
			switch rest[i] {
			case '\\':
				i++
			case '\'':
				return i + 1
			}
		}
		return len(rest)
	}
	return until(rest, open)
}

func until(rest, end string) int {
	if at := strings.Index(rest, end); at >= 0 {
		return at + len(end)
	}
	return len(rest)
}

// comment ends where as many have ended as have begun.
func comment(rest string) int {
	depth := 1
	for i := 0; i+1 < len(rest); i++ {
		switch rest[i : i+2] {
		case "/*":
			depth, i = depth+1, i+1
		case "*/":
			if depth, i = depth-1, i+1; depth == 0 {
				return i + 1
			}
		}
	}
	return len(rest)
}
