package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// The styles in which migration tools want their files.
const (
	styleSQL     = "sql"            // a script that keeps its own transaction, and one for the way back
	styleMigrate = "golang-migrate" // NUMBER_name.up.sql and NUMBER_name.down.sql; the whole file is sent at once
	styleGoose   = "goose"          // one file with annotations; the tool keeps the transaction
	styleDrizzle = "drizzle"        // one file cut at breakpoints; the tool keeps the transaction and knows no way back
)

func styles() []string { return []string{styleSQL, styleMigrate, styleGoose, styleDrizzle} }

// migration is SQL for somebody else's tool to run, or a person: statements in order, without semicolons, for one
// transaction each way.
type migration struct {
	name     string   // for files that are still to get one: drop_users_email
	about    []string // what who reviews it should know, a line each
	up, down []string
}

// script is one file of a migration.
type script struct {
	Path string `json:"path,omitempty"`
	Text string `json:"sql,omitempty"`
	down bool
}

// scripts are the files of a migration in a style, the way up first. Paths are left to [place].
func (m migration) scripts(style string) ([]script, error) {
	if err := m.fits(style); err != nil {
		return nil, err
	}
	switch style {
	case styleGoose:
		text := "-- +goose Up\n" + m.comment() + gooseStatements(m.up) + "\n-- +goose Down\n" + gooseStatements(m.down)
		return []script{{Text: text}}, nil
	case styleDrizzle:
		const cut = ";\n--> statement-breakpoint\n"
		return []script{{Text: m.comment() + strings.Join(m.up, cut) + ";\n"}, {Text: m.comment() + transaction(m.down), down: true}}, nil
	}
	return []script{{Text: m.comment() + transaction(m.up)}, {Text: m.comment() + transaction(m.down), down: true}}, nil
}

// comment is the head of a file. Names may hold anything: what could end a comment is taken out of it.
func (m migration) comment() string {
	var b strings.Builder
	for _, line := range m.about {
		b.WriteString("-- " + strings.Map(printable, line) + "\n")
	}
	return b.String()
}

func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}

func transaction(statements []string) string {
	return "BEGIN;\n" + strings.Join(statements, ";\n") + ";\nCOMMIT;\n"
}

// gooseStatements marks each statement: without marks the tool takes every line's last semicolon for an end, be it in
// a name or in a body.
func gooseStatements(statements []string) string {
	var b strings.Builder
	for _, s := range statements {
		b.WriteString("-- +goose StatementBegin\n" + s + ";\n-- +goose StatementEnd\n")
	}
	return b.String()
}

// The tools look for their marks without knowing SQL, even in the middle of a name.
var (
	gooseMark   = regexp.MustCompile(`(?im)^\s*--\s*\+goose`)
	drizzleMark = regexp.MustCompile(`--> statement-breakpoint`)
)

func (m migration) fits(style string) error {
	marks := map[string]*regexp.Regexp{styleGoose: gooseMark, styleDrizzle: drizzleMark}
	mark := marks[style]
	if mark == nil || !slices.ContainsFunc(slices.Concat(m.up, m.down), mark.MatchString) {
		return nil
	}
	return &app.Fail{Code: app.CodeRefused, Err: fmt.Errorf("a name in this migration holds what %s takes for a mark of its own", style),
		Hint: "take --format sql, and run that by hand"}
}
