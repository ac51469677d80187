package bus

import (
	"context"
	"strings"
	"sync"
	"time"
)

// denials remembers that the server refused a subject. It says so beside the request, which would wait for its end
// of time.
type denials struct {
	mu      sync.Mutex
	last    time.Time
	waiting map[*wait]bool
}

// wait is somebody who waits for an answer on a subject.
type wait struct {
	subject string
	cancel  context.CancelCauseFunc
}

// record notes a refusal and ends the waiting of those it is about.
func (d *denials) record(refusal error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = time.Now()
	for w := range d.waiting {
		if strings.Contains(refusal.Error(), `"`+w.subject+`"`) {
			w.cancel(ErrDenied)
		}
	}
}

// since reports whether anything was refused at or after start.
func (d *denials) since(start time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.last.IsZero() && !d.last.Before(start)
}

// watch returns a context that ends when the subject is refused. Release must be called.
func (d *denials) watch(ctx context.Context, subject string) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &wait{subject: subject, cancel: cancel}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting = map[*wait]bool{}
	}
	d.waiting[w] = true
	return ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.waiting, w)
		cancel(nil)
	}
}
