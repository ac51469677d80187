// Command loadtest measures Cipherfleet: the fleet's speed beside the ceiling that the same server has at the same
// moment. It starts private servers of its own and touches nobody else's.
//
// Words: an arm is one way of writing every row of the table; the ceiling is the arm that only writes, a constant of a
// cell's size, over two connections; a round runs every arm once, so that the machine's mood meets all of them. A pair is
// an application that writes both columns, for a few seconds without capture and for as long with it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		os.Exit(app.Report(os.Stderr, err))
	}
}

func run(args []string) error {
	if len(args) == 0 || args[0] != "bench" {
		return &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("say what to do"), Hint: "loadtest bench [--rows N] [--rounds N] [--pairs N] [--seconds N] [--out FILE]"}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	o := benchOptions{}
	flags.IntVar(&o.rows, "rows", 1_000_000, "rows of the table")
	flags.IntVar(&o.rounds, "rounds", 3, "rounds; each runs every arm once")
	flags.IntVar(&o.pairs, "pairs", 5, "pairs of measurements of an application without and with capture")
	flags.IntVar(&o.seconds, "seconds", 3, "seconds of each of those")
	flags.StringVar(&o.out, "out", "", "file for the figures as JSON")
	if err := flags.Parse(args[1:]); err != nil {
		return &app.Fail{Code: app.CodeUsage, Err: err}
	}
	config, err := app.Read[app.Demo]()
	if err != nil {
		return err
	}
	o.bindir = config.PostgresBinDir
	work, _, stop := app.Signals(context.Background(), 0, app.NewLogger(os.Stderr, config.Logging))
	defer stop()
	return bench(work, o)
}
