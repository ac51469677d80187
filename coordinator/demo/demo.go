// Package demo plays the main job before a person's eyes, on real servers and with real processes: a table that an
// application writes to is encrypted, a worker is killed half-way, and at the end every row is proven.
//
// The stage is what this happens on: a private Postgres, or a database of its own on a server that was named; a NATS
// in this process; a key; a folder. All of it is gone at the end. The fleet is the processes: a coordinator, two
// workers, and the one that takes the place of the killed one. The application is the traffic; its old version
// knows nothing of the new column, its new version writes both. A standing is what the database says about a job at
// one moment. The screen shows it: lines that stay, and below them, on a terminal, a region that is drawn again and
// again. The figures are what was measured; they are only worth something because the proofs hold.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// Demo is one performance. Every field but Keep is required.
type Demo struct {
	Config  app.Demo
	Program string    // path of the program cipherfleet; cipherfleet-worker stands beside it
	Keep    bool      // when all is proven, leave everything up until ctx ends
	Out     io.Writer // for people; a terminal gets a live display
}

// ErrInterrupted says that the end of its context cut a demo short.
var ErrInterrupted = errors.New("the demo was interrupted")

// Run plays from beginning to end and leaves nothing running, whatever happens. The error is a proof that failed
// ([app.Fail] with CodeUnproven), [ErrInterrupted], or what kept it from playing.
func (d *Demo) Run(audience context.Context) (Figures, error) {
	ctx, fail := context.WithCancelCause(audience)
	defer fail(nil)
	p := &play{Demo: d, screen: newScreen(d.Out, d.Config), fail: fail}
	err := p.run(ctx)
	if err == nil && d.Keep {
		if err = p.keep(ctx); audience.Err() != nil {
			err = nil // that is how it was to end
		}
	} else if err != nil && audience.Err() != nil {
		err = ErrInterrupted
	}
	p.screen.clear()
	if err != nil && !errors.Is(err, ErrInterrupted) {
		if cause := context.Cause(ctx); cause != nil { // what it met is only what the cause has done
			err = cause
		}
		p.fleet.tell(p.screen)
	}
	return p.figures, errors.Join(err, p.close())
}

// play is a demo while it runs.
type play struct {
	*Demo
	screen  *screen
	fail    context.CancelCauseFunc // ends the play from wherever something breaks
	stage   stage
	fleet   fleet
	traffic *application
	figures Figures

	emails int64   // in the table when it was filled
	chosen []int64 // ids of the sample
	job    messages.Job
	asked  time.Time // when it was started
	column uint32
	seal   *sealer
}

// run is the story.
func (p *play) run(ctx context.Context) error {
	p.screen.title("Cipherfleet encrypts a live table, loses a worker half-way, proves every row.")
	steps := []func(context.Context) error{p.findPrograms, p.openServers, p.makeTable, p.startFleet, p.encrypt, p.catchUp, p.prove}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close ends what is still up, the processes first; each gets its time even when the play was cut short.
func (p *play) close() error {
	fleet, stage := p.fleet.stop(), p.stage.close()
	if err := errors.Join(fleet, stage); err != nil {
		return fmt.Errorf("clear the stage: %w", err)
	}
	return nil
}

// eventually asks until the answer is yes.
func eventually(ctx context.Context, what string, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s took longer than %v", what, patience))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if yes, err := holds(); yes || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

const patience = 60 * time.Second // for anything that is started to be ready
