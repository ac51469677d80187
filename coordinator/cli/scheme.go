package cli

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
)

const schemeLong = `Look after the schemes of a column: the numbered configurations of its cells, each with a key of its own. A scheme never
changes; whoever wants another suite, binding, padding, null policy or key makes the next number, and no application is
restarted:

  new        it can be read, by everybody who is there, and is not written with yet
  activate   cells are sealed with it from now on; those of the schemes before it can be read as before
  rotate     (a command of its own) seals every cell anew under it
  retire     Postgres proves that no cell of an old one is left, and refuses any from then on
  destroy    the keys of a retired one are deleted, once the time for which they are retained is over

shred deletes the keys that one tenant's rows alone are sealed with. Every change is an event: cipherfleet history shows
who made it, and why.

Exit codes: 0 done, or it was already · 2 bad flag, name, environment or manifest · 3 a program that is there cannot
read the scheme yet; nothing changed · 4 refused, nothing changed · 5 retire: cells of the scheme are left; nothing
changed · 6 Postgres or key unavailable · 7 denied`

const schemeExample = `  cipherfleet scheme new users.email
  cipherfleet scheme ls users.email --count
  cipherfleet scheme activate users.email 2
  cipherfleet scheme retire users.email 1 --reason "key rotation of spring"
  cipherfleet scheme destroy users.email 1`

func newScheme(read settings) *cobra.Command {
	c := &cobra.Command{Use: "scheme", Short: "Make, list, activate, retire and destroy the schemes of a column", Long: schemeLong, Example: schemeExample}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.AddCommand(newSchemeNew(read), newSchemeList(read), newSchemeShow(read), newSchemeActivate(read), newSchemeRetire(read), newSchemeDestroy(read), newSchemeShred(read))
	return c
}

// oneScheme is the scheme that a command is about: a column, and a number behind it.
type oneScheme struct {
	column oneColumn
	name   standing.Name
	number uint16
}

func (o *oneScheme) read(c *cobra.Command, args []string) (err error) {
	if len(args) == 0 {
		return usage(errors.New("the number of the scheme is missing"), c)
	}
	last := args[len(args)-1]
	number, err := strconv.ParseUint(last, 10, 16)
	if err != nil || number == 0 {
		return usage(fmt.Errorf("the scheme was %q; accepted is its number, behind the column", last), c)
	}
	o.number = uint16(number)
	o.name, err = o.column.name(c, args[:len(args)-1])
	return err
}

// withRegistry opens what a command on schemes and keys needs; the key only if it is asked for.
func withRegistry(c *cobra.Command, read settings, key bool, reason string, f func(*station, *scheme.Registry) error) error {
	return withStation(c, read, key, func(s *station) error {
		return scheme.Called(c.Context(), s.db, f(s, &scheme.Registry{DB: s.db, KEK: s.kek, Reason: reason}))
	})
}

// withStation opens a station for as long as f takes, with its key if that is asked for.
func withStation(c *cobra.Command, read settings, key bool, f func(*station) error) error {
	s, err := read.open(c)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	if key {
		if err := s.openKey(c.Context()); err != nil {
			return err
		}
	}
	return f(s)
}
