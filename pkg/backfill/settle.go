package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// history is what happened to a row that was not written at the first try.
type history struct {
	conflicts int // times the application changed it first
	unchanged int // times it was sent, nobody changed it, and still it was not written
	cleared   int // times a trigger changed its source inside our own write

	exposed bool // what the proxy had stored showed it: it is in quarantine
}

const (
	maxConflicts = 3 // then the row is locked before it is read
	maxUnchanged = 2 // then a user's trigger suppresses the write
	maxCleared   = 3 // then a user's trigger never leaves the source alone
	maxRetries   = 8 // serialization failures of one chunk before the range is given back
	carefulPass  = 3 // from this sweep on each row is locked, written and looked at: what is left by then resists
)

// chunk carries one span to the other side: every row of it is written, found covered, quarantined, or left for a
// later pass because somebody holds it; only then is the cursor behind it.
func (w *writer) chunk(ctx context.Context, s span) error {
	w.seen, w.retries = nil, 0
	for _, r := range s.refused {
		if err := w.quarantine(ctx, r, cmp.Or(r.reason, reasonValue)); err != nil {
			return err
		}
	}
	if w.claim.Pass < carefulPass {
		return w.settle(ctx, s)
	}
	for _, r := range s.rows {
		if err := w.one(ctx, r); err != nil {
			return err
		}
	}
	s.rows = nil
	return w.pass(ctx, s)
}

// settle writes a span and deals with whatever kept rows of it from being written.
func (w *writer) settle(ctx context.Context, s span) error {
	if len(s.rows) == 0 {
		return w.pass(ctx, s)
	}
	affected, err := w.write(ctx, s)
	if err == nil {
		if affected == int64(len(s.rows)) {
			return nil
		}
		return w.again(ctx, s, true)
	}
	if errors.Is(err, errAltered) {
		return w.divide(ctx, s, func(ctx context.Context, s span) error {
			return w.quarantine(ctx, s.rows[0], reasonAltered)
		})
	}
	switch pg.ClassOf(err) {
	case pg.ClassConflict:
		if w.retries++; w.retries > maxRetries { // one row that never serializes must not hold up the others
			return w.divide(ctx, s, w.leave)
		}
		if err := pause(ctx, w.retries); err != nil {
			return err
		}
		return w.again(ctx, s, false)
	case pg.ClassLock:
		w.size.shrink()
		s.skipLocked = true
		return w.divide(ctx, s, w.leave)
	case pg.ClassData:
		return w.divide(ctx, s, func(ctx context.Context, s span) error {
			return w.quarantine(ctx, s.rows[0], reasonRefused+pg.Code(err))
		})
	}
	return err
}

// divide settles each half of a span; a span of one row is what single is for, and then it is passed.
func (w *writer) divide(ctx context.Context, s span, single func(context.Context, span) error) error {
	if len(s.rows) == 1 {
		if err := single(ctx, s); err != nil {
			return err
		}
		s.rows = nil
		return w.pass(ctx, s)
	}
	first, second := s.halves()
	if err := w.settle(ctx, first); err != nil {
		return err
	}
	return w.settle(ctx, second)
}

// leave passes over the span's rows: somebody holds them, and a sweep will find them. A lock never quarantines.
func (w *writer) leave(_ context.Context, s span) error {
	w.skipped += int64(len(s.rows))
	return nil
}

// again reads the span's uncovered rows once more and settles them. Committed says whether the write before it was
// committed: only then does an unchanged row say something.
func (w *writer) again(ctx context.Context, s span, committed bool) error {
	sent := make(map[string][4]byte, len(s.rows))
	for _, r := range s.rows {
		sent[r.id()] = r.xmin
	}
	at := s.after
	for {
		b := &batch{}
		if err := w.reader.readJudged(ctx, b, at, s.last, w.size.next()); err != nil {
			return err
		}
		rest, err := w.sort(ctx, b, sent, s.skipLocked, committed)
		if err != nil {
			return err
		}
		rest.end, rest.skipLocked = s.end && b.end, s.skipLocked
		if rest, err = sealOrIsolate(ctx, w.transforms, rest); err != nil {
			return err
		}
		for _, r := range rest.refused {
			if err := w.quarantine(ctx, r, cmp.Or(r.reason, reasonValue)); err != nil {
				return err
			}
		}
		if err := w.settle(ctx, rest); err != nil || b.end {
			return err
		}
		at = b.last
	}
}

// sort decides about every row read again: it is sent again (those are returned), locked and written alone, left for
// later, or quarantined.
func (w *writer) sort(ctx context.Context, b *batch, sent map[string][4]byte, skipLocked, committed bool) (span, error) {
	var keep []int
	for i, r := range b.rows {
		xmin, was := sent[r.id()]
		h := w.history(r.id())
		var err error
		switch {
		case h.exposed:
		case !was:
			keep = append(keep, i)
		case xmin != r.xmin:
			if h.conflicts++; h.conflicts >= maxConflicts {
				err = w.one(ctx, r)
			} else {
				keep = append(keep, i)
			}
		case skipLocked && committed:
			w.skipped++
		case committed:
			if h.unchanged++; h.unchanged >= maxUnchanged {
				err = w.quarantine(ctx, r, reasonSuppressed)
			} else {
				keep = append(keep, i)
			}
		default:
			keep = append(keep, i)
		}
		if err != nil {
			return span{}, err
		}
	}
	return b.subset(keep), nil
}

func (w *writer) history(id string) *history {
	if w.seen == nil {
		w.seen = map[string]*history{}
	}
	h := w.seen[id]
	if h == nil {
		h = &history{}
		w.seen[id] = h
	}
	return h
}

// pause waits a jittered moment that grows with the retries.
func pause(ctx context.Context, retry int) error {
	most := 20 * time.Millisecond << min(retry, 5)
	timer := time.NewTimer(rand.N(most))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait after a serialization failure: %w", ctx.Err())
	case <-timer.C:
		return nil
	}
}
