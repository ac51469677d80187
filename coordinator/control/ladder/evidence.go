package ladder

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// watchedSQL is since when capture has stood, if it ever did: it was installed, or put back by a rollback of a cutover.
const watchedSQL = `SELECT clock_timestamp(),
 (SELECT max(created_at) FROM cipherfleet.events WHERE table_name = $1 AND column_name = $2
  AND (event = 'dual_writing' OR event = 'rolled_back' AND phase = 'backfilled')),
 (SELECT max(at) FROM cipherfleet.missed_writes WHERE column_id = $3)`

// quiet is nil if for as long as soak no write missed the column's target while capture watched, by the server's clock.
// Otherwise it is a [*standing.Refusal] that says how many did, whose they were, and until when to wait.
func (l *Ladder) quiet(ctx context.Context, q pg.Querier, s standing.Standing, soak time.Duration) error {
	name := s.Relation.Table().String() + "." + s.Source
	if !s.Watched() {
		return standing.Refuse("column", "cipherfleet advance --to dual-writing puts its capture back, cipherfleet backfill also covers what was missed meanwhile",
			"writes that miss the target of %s go unnoticed: its capture is missing or not always enabled, or was altered", name)
	}
	var now time.Time
	var installed, last *time.Time
	if err := q.QueryRow(ctx, watchedSQL, s.Column.Table.String(), s.Source, s.ID).Scan(&now, &installed, &last); err != nil {
		return fmt.Errorf("look for missed writes: %w", err)
	}
	switch {
	case installed == nil:
		return standing.Refuse("column", "cipherfleet advance --to dual-writing installs its capture", "the log does not say since when writes to %s are watched", name)
	case last != nil && now.Before(last.Add(soak)):
		missed, err := standing.ReadMissed(ctx, q, s.ID, now.Sub(*last)+soak)
		if err != nil {
			return err
		}
		return standing.Postpone("column", untilHint(last.Add(soak), soak, "have those writers write both columns, in transactions that say so"),
			"writes missed the target of %s: %s", name, writersLine(missed))
	case now.Before(installed.Add(soak)):
		return standing.Postpone("column", untilHint(installed.Add(soak), soak, ""), "writes to %s have been watched for %v only", name, now.Sub(*installed).Round(time.Second))
	}
	return nil
}

func untilHint(until time.Time, soak time.Duration, first string) string {
	wait := fmt.Sprintf("wait until %s: the gate wants %v without a missed write", until.UTC().Format(time.RFC3339), soak)
	if first == "" {
		return wait
	}
	return first + "; then " + wait
}

const mostWritersNamed = 5

// writersLine names who missed how often, for a person.
func writersLine(missed []standing.MissedBy) string {
	var words []string
	for _, m := range missed[:min(len(missed), mostWritersNamed)] {
		words = append(words, fmt.Sprintf("%d by application %q as role %q, the last at %s", m.Writes, m.Application, m.Role, m.Last.UTC().Format(time.RFC3339)))
	}
	if more := len(missed) - mostWritersNamed; more > 0 {
		words = append(words, fmt.Sprintf("and %d others", more))
	}
	return strings.Join(words, "; ")
}
