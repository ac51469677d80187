package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// watchStatus shows the status until the first signal.
func watchStatus(ctx context.Context, s *station, request status.Request, every time.Duration, show func(status.Report) error) error {
	_, drain, stop := app.Signals(ctx, time.Minute, app.NewLogger(io.Discard, s.config.Logging))
	defer stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		report, err := status.Read(drain, s.db, request)
		if drain.Err() != nil {
			return nil
		}
		if err == nil {
			err = show(report)
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-drain.Done():
			return nil
		}
	}
}

const redraw = "\x1b[H\x1b[2J" // home, and nothing below; what was on the terminal before stays in its scrollback

// watcher draws in place on a terminal; elsewhere each column is a line each time.
func watcher(w io.Writer) func(status.Report) error {
	file, isFile := w.(*os.File)
	if isFile && term.IsTerminal(int(file.Fd())) {
		return func(s status.Report) error {
			if _, err := fmt.Fprintf(w, "%s%s\n\n", redraw, s.At.UTC().Format(time.RFC3339)); err != nil {
				return err
			}
			return page.Status(w, s)
		}
	}
	return func(s status.Report) error {
		var b strings.Builder
		for _, c := range s.Columns {
			b.WriteString(page.Watched(s.At, c) + "\n")
		}
		_, err := io.WriteString(w, b.String())
		return err
	}
}
