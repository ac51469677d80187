package ddl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Swap is a cutover: what the cell column takes over from the plaintext. Source is the plaintext and Target the cell, by
// their names before it.
type Swap struct {
	Column
	Strict bool    // writes that miss the cell fail, which ends with capture
	Plain  string  // name that the plaintext takes, while the cell takes the source's; "" where names stay
	Places []Place // the table and, of a partitioned one, its partitions, from the root downwards
}

// Place is what moves on one relation. Its columns have the table's names.
type Place struct {
	Table         pg.Table
	Default       string // of the plaintext, an expression in SQL; taken off, so that nothing writes plaintext unasked
	NullDefault   bool   // the plaintext's type has a default of its own, which only DEFAULT NULL keeps out
	NotNull       bool   // moves from the plaintext to the cells, here and in everything below
	PlainComment  string // copied to the cell column
	SealedComment string // that the copy replaces
	Grants        []Grant
}

// Grant is a right on the plaintext that the cell column is given too, so that who could read the name can read it.
type Grant struct {
	Privilege string // SELECT, INSERT, UPDATE or REFERENCES
	Grantee   string // "": PUBLIC
	Grantable bool
}

// Step is the cutover, for one transaction under an ACCESS EXCLUSIVE lock. It reads no row: NOT NULL is put on the cells
// by a constraint that is validated later (see [Column.Require]). Reverse capture takes the place of capture. Undone,
// everything is as it was before, and a plaintext that was NOT NULL is read through for that, unless a validated
// constraint spares it.
func (s Swap) Step() Step {
	step := Step{Do: slices.Clone(s.Capture().Undo)}
	for _, p := range s.Places {
		step.Do = append(step.Do, s.moveTo(p)...)
	}
	after := s.Column
	if s.Plain != "" {
		step.Do = append(step.Do, s.rename(s.Source, s.Plain), s.rename(s.Target, s.Source))
		after.Source, after.Target = s.Plain, s.Source
	}
	reverse := after.ReverseCapture()
	step.Do = append(step.Do, reverse.Do...)
	step.Undo = slices.Clone(reverse.Undo)
	if s.Plain != "" {
		step.Undo = append(step.Undo, s.rename(s.Source, s.Target), s.rename(s.Plain, s.Source))
	}
	for _, p := range s.Places {
		step.Undo = append(step.Undo, s.moveBack(p)...)
	}
	step.Undo = append(step.Undo, s.Capture().Do...)
	if s.Strict {
		step.Undo = append(step.Undo, s.Column.Strict().Do...)
	}
	return step
}

func (s Swap) rename(from, to string) string {
	return fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO %s", s.Table.SQL(), pg.Ident(from), pg.Ident(to))
}

// at is the column in one place.
func (s Swap) at(p Place) Column {
	c := s.Column
	c.Table = p.Table
	return c
}

func (s Swap) moveTo(p Place) (list []string) {
	plain := fmt.Sprintf("ALTER TABLE ONLY %s ALTER COLUMN %s ", p.Table.SQL(), pg.Ident(s.Source))
	switch {
	case p.NullDefault:
		list = append(list, plain+"SET DEFAULT NULL")
	case p.Default != "":
		list = append(list, plain+"DROP DEFAULT")
	}
	if p.NotNull {
		list = append(list, s.at(p).Present().Do...)
		list = append(list, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL", p.Table.SQL(), pg.Ident(s.Source)))
	}
	return append(list, s.bestow(p)...)
}

// Bestow gives Target the rights and the comment of each place.
func (s Swap) Bestow() (list []string) {
	for _, p := range s.Places {
		list = append(list, s.bestow(p)...)
	}
	return list
}

func (s Swap) bestow(p Place) (list []string) {
	for _, g := range p.Grants {
		list = append(list, s.grant(p, g))
	}
	if p.PlainComment != "" {
		list = append(list, s.comment(p, p.PlainComment))
	}
	return list
}

func (s Swap) moveBack(p Place) (list []string) {
	plain := fmt.Sprintf("ALTER TABLE ONLY %s ALTER COLUMN %s ", p.Table.SQL(), pg.Ident(s.Source))
	switch {
	case p.Default != "":
		list = append(list, plain+"SET DEFAULT "+p.Default)
	case p.NullDefault:
		list = append(list, plain+"DROP DEFAULT")
	}
	if p.NotNull {
		list = append(list, s.at(p).Require().Undo...)
		list = append(list, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", p.Table.SQL(), pg.Ident(s.Source)))
	}
	for _, g := range p.Grants {
		list = append(list, s.revoke(p, g))
	}
	if p.PlainComment != "" {
		list = append(list, s.comment(p, p.SealedComment))
	}
	return list
}

func (s Swap) comment(p Place, text string) string {
	value := "NULL"
	if text != "" {
		value = strings.TrimSpace(pg.Literal(text))
	}
	return fmt.Sprintf("COMMENT ON COLUMN %s.%s IS %s", p.Table.SQL(), pg.Ident(s.Target), value)
}

func (s Swap) grant(p Place, g Grant) string {
	option := ""
	if g.Grantable {
		option = " WITH GRANT OPTION"
	}
	return fmt.Sprintf("GRANT %s (%s) ON TABLE %s TO %s%s", g.Privilege, pg.Ident(s.Target), p.Table.SQL(), g.grantee(), option)
}

func (s Swap) revoke(p Place, g Grant) string {
	return fmt.Sprintf("REVOKE %s (%s) ON TABLE %s FROM %s", g.Privilege, pg.Ident(s.Target), p.Table.SQL(), g.grantee())
}

func (g Grant) grantee() string {
	if g.Grantee == "" {
		return "PUBLIC"
	}
	return pg.Ident(g.Grantee)
}
