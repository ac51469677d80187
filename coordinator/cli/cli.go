// Package cli is the operator's command line: one file per command, each a thin face of the control plane.
//
// A command reads the environment through pkg/app, lets flags override it, does one thing, prints to standard output
// what was asked for and to standard error everything else, and ends with a documented exit code. Errors are one
// paragraph and, where something can be done, a hint.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
)

const long = `Cipherfleet encrypts existing plaintext columns of live Postgres tables in place, without downtime and
without losing a value: in chunks, each committed together with its checkpoint, by as many workers as you like.

Everything it needs is in its environment (docs/configuration.md); flags override it.

Exit codes: 0 done · 1 unexpected · 2 bad flag, environment or manifest · 3 there is work to do, or a gate waits · 4
refused, nothing changed · 5 proof failed · 6 Postgres, NATS or key unavailable · 7 denied · 75 paused, the same command
resumes · 130 second signal`

// Main runs the command line in the environment of this process and returns the exit code. kinds are the kinds of
// key-encryption keys that this program is linked with beside the ones that every program knows.
func Main(args []string, out, errout io.Writer, kinds ...kms.Kind) int {
	if err := app.KeepMemory(); err != nil {
		return app.Report(errout, err)
	}
	return run(context.Background(), args, out, errout, func() (app.Coordinator, error) {
		config, err := app.Read[app.Coordinator]()
		config.Link(kinds...)
		return config, err
	})
}

// settings reads what the environment says; flags may still change it before it is validated.
type settings func() (app.Coordinator, error)

func run(ctx context.Context, args []string, out, errout io.Writer, read settings) int {
	root := &cobra.Command{Use: "cipherfleet", Short: "Move live Postgres data from one form to another", Long: long,
		SilenceErrors: true, SilenceUsage: true, DisableSuggestions: true, SuggestionsMinimumDistance: 2, CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true}}
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errout)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(err, c) })
	root.AddCommand(newAdvance(read), newBackfill(read), newConfig(read), newCutover(read), newDecrypt(read), newDemo(), newDrop(read), newHistory(read), newIndex(read), newInit(read), newInstall(read), newJob(read), newKey(read), newPlan(read), newResidue(read), newRollback(read), newRotate(read), newScheme(read), newServe(read), newStatus(read), newVerify(read), newVersion())
	root.SetHelpCommand(newHelp())
	command, err := root.ExecuteContextC(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command") {
		err = unknown(err, command, args)
	}
	if err == nil {
		return app.CodeDone
	}
	var said exitCode
	if errors.As(err, &said) {
		return int(said)
	}
	return app.Report(errout, err)
}

// newHelp is cobra's own help command, but for a name that no command has: that is an error.
func newHelp() *cobra.Command {
	return &cobra.Command{Use: "help [COMMAND]", Short: "Help about any command", RunE: func(c *cobra.Command, args []string) error {
		found, rest, err := c.Root().Find(args)
		if err != nil || len(rest) > 0 {
			return unknown(fmt.Errorf("there is no command %q", strings.Join(args, " ")), c.Root(), args)
		}
		found.InitDefaultHelpFlag()
		return found.Help()
	}}
}

// usage is an error in how a command was called.
func usage(err error, c *cobra.Command) error {
	return &app.Fail{Code: app.CodeUsage, Err: err, Hint: fmt.Sprintf("see `%s --help`", c.CommandPath())}
}

// unknown is a command that there is none of, with the ones that may have been meant.
func unknown(err error, root *cobra.Command, args []string) error {
	for _, arg := range args {
		if near := root.SuggestionsFor(arg); len(near) > 0 {
			return &app.Fail{Code: app.CodeUsage, Err: err, Hint: fmt.Sprintf("did you mean `%s %s`? see `%s --help`", root.Name(), near[0], root.Name())}
		}
	}
	return usage(err, root)
}

// noArgs refuses arguments, with a hint for those who forgot a flag's name.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(fmt.Errorf("%s takes no arguments, but got %q", c.CommandPath(), args[0]), c)
	}
	return nil
}

// required says which flag is missing.
func required(c *cobra.Command, names ...string) error {
	for _, name := range names {
		if !c.Flags().Changed(name) {
			return usage(errors.New("--"+name+" is missing"), c)
		}
	}
	return nil
}
