package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
)

// fill starts jobs over the blind indexes that rows have lost their tokens of since they were filled. While an index goes
// on losing them the pauses between jobs grow, because each walks the table, or at least writes to the log.
func (k *keeper) fill(ctx context.Context) error {
	behind, err := index.Behind(ctx, k.plane.DB)
	if err != nil {
		return fmt.Errorf("look for rows without a token: %w", err)
	}
	for id := range k.fills {
		if _, still := behind[id]; !still {
			k.fills[id].pause = 0
		}
	}
	var trouble error
	for id, request := range behind {
		at := k.fills[id]
		if at == nil {
			at = &pace{}
			k.fills[id] = at
		}
		if time.Now().Before(at.due) {
			continue
		}
		request.RequestID = uuid.NewString()
		_, err := k.plane.start(ctx, request, true)
		var problem *messages.Problem
		if errors.As(err, &problem) { // another job is at work, or the column moves: later
			continue
		}
		at.pause = min(max(2*at.pause, k.plane.CatchUp), longestPause)
		at.due = time.Now().Add(at.pause)
		if err != nil {
			trouble = errors.Join(trouble, fmt.Errorf("fill blind index %d again: %w", id, err))
			continue
		}
		k.plane.Log.InfoContext(ctx, "rows were left without a token since; they get theirs", "index", id)
		trouble = errors.Join(trouble, k.list(ctx, id))
	}
	return trouble
}

// list begins to build the index of the rows that lack a token, of a partitioned table one in each partition, unless a
// build is at work: the next time such rows are filled nobody walks the table for them. Only a blind index that has lost
// tokens gets one.
func (k *keeper) list(ctx context.Context, id uint32) error {
	if !k.built() {
		return nil
	}
	column, steps, err := index.Unlisted(ctx, k.plane.DB, id)
	if err != nil {
		return fmt.Errorf("look for the index of rows without a token: %w", err)
	}
	maps.DeleteFunc(steps, func(name string, _ ddl.Step) bool { return time.Since(k.refused[name]) < indexRetry })
	columns := map[string]uint32{}
	for name := range steps {
		columns[name] = column
	}
	if len(steps) > 0 {
		k.begin(ctx, columns, steps)
	}
	return nil
}
