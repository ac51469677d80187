package ladder

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// sweeping says that a column which was backfilled is being swept: a moment's work, as a rule, that the fleet begins by
// itself when applications leave rows uncovered. A cutover waits for it. To others it is a refusal.
type sweeping struct {
	job     string
	refusal error
}

func (s *sweeping) Error() string { return s.refusal.Error() }
func (s *sweeping) Unwrap() error { return s.refusal }

// checkSweep is a [*sweeping] while one is under way. A job that somebody paused ends nothing by itself, and one over a
// column that was never backfilled takes its time: those are refused further on.
func (g *Gated) checkSweep(ctx context.Context, q pg.Querier) error {
	if g.State.Backfilled.IsZero() || g.State.Phase != lifecycle.PhaseBackfilling && g.State.Phase != lifecycle.PhaseBackfilled {
		return nil
	}
	job, err := work.LiveOver(ctx, q, g.Relid)
	if errors.Is(err, work.ErrNoJob) || err == nil && job.State == work.Paused {
		return nil
	}
	if err != nil {
		return err
	}
	return &sweeping{job.ID, standing.Occupied("table", job, "a job over "+g.Relation.Table().String()+" has not ended")}
}

// isClash says that something else stood in the way, as far as could be seen.
func isClash(err error) bool {
	var r *standing.Refusal
	return errors.As(err, &r) && r.Kind == messages.CodeConflict
}

// explained is err, or that the column was moved by somebody else meanwhile, which explains any error but a refusal, and
// but the loss of a connection: that may have moved the column itself.
func (l *Ladder) explained(ctx context.Context, s standing.Standing, err error) error {
	var refusal *standing.Refusal
	if err == nil || ctx.Err() != nil || errors.As(err, &refusal) || pg.ClassOf(err) == pg.ClassUnavailable {
		return err
	}
	state, lookErr := lifecycle.Latest(ctx, l.DB, s.Column.Table.String(), s.Source)
	if lookErr != nil && !errors.Is(lookErr, lifecycle.ErrImpossible) || state.Phase == s.State.Phase {
		return err
	}
	return standing.Settled(s, standing.ErrMoved)
}
