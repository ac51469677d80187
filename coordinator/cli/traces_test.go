package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// Every chunk can be followed: the job has a trace, each task one of its own that is linked to the job's, with a span
// per chunk, its three parts and the SQL below; the checkpoint in the log names the trace. No span holds a value or a key.
func TestAJobCanBeFollowedThroughItsTraces(t *testing.T) {
	t.Parallel()
	const secret, key = "plaintext-that-must-stay", "key-that-must-stay"
	db := testenv.EmptyDatabase(t)
	db.Run(t, fmt.Sprintf(`CREATE TABLE public.users (id text PRIMARY KEY, email text); INSERT INTO public.users SELECT '%s-' || i, '%s-' || i FROM generate_series(1, 2000) i`, key, secret))
	receiver := testenv.OTLP(t)
	s := newShell(t, db.URL).withKey().with("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.URL)
	out := s.must("backfill", "--table", "users", "--column", "email", "--prepare", "--json").out
	var job messages.Job
	if err := json.Unmarshal([]byte(out), &job); err != nil || job.TraceID == "" {
		t.Fatalf("the job %q names no trace: %v", out, err)
	}

	tasks := receiver.Wait(t, time.Minute, 1, func(span testenv.Span) bool { return strings.HasPrefix(span.Name, "process ") })
	for _, name := range []string{"job", "plan", "refill", "step"} {
		if found := receiver.Find(testenv.All(testenv.Named(name), testenv.InTrace(job.TraceID))); len(found) == 0 {
			t.Errorf("the job's trace has no span %q", name)
		}
	}
	task := tasks[0]
	if task.TraceID == job.TraceID || len(task.Links) != 1 || task.Links[0].TraceID != job.TraceID {
		t.Errorf("the task's span is of trace %s with links %v; want a trace of its own, linked to %s", task.TraceID, task.Links, job.TraceID)
	}
	for _, name := range []string{"cipherfleet.job.id", "cipherfleet.table.id", "cipherfleet.range.id", "cipherfleet.attempt", "cipherfleet.lease_epoch"} {
		if task.Attributes[name] == "" {
			t.Errorf("the task's span has no %s", name)
		}
	}
	chunks := receiver.Find(testenv.All(testenv.Named("chunk"), testenv.InTrace(task.TraceID)))
	if len(chunks) == 0 || chunks[0].Parent != task.SpanID || chunks[0].Attributes["cipherfleet.chunk.rows"] == "" {
		t.Fatalf("the task's trace has the chunks %+v", chunks)
	}
	for _, name := range []string{"read", "seal", "write"} {
		parts := receiver.Find(testenv.All(testenv.Named(name), testenv.InTrace(task.TraceID)))
		if len(parts) == 0 || parts[0].Parent != chunks[0].SpanID {
			t.Errorf("the chunk has no part %q below it", name)
		}
	}
	writes := receiver.Find(testenv.All(testenv.Named("write"), testenv.InTrace(task.TraceID)))
	if below := receiver.Find(func(span testenv.Span) bool {
		return span.Parent == writes[0].SpanID && strings.Contains(span.Attributes["db.query.text"], "UPDATE ONLY")
	}); len(below) == 0 {
		t.Error("the SQL of a chunk is not below its write")
	}
	logged := testenv.Column[string](t, db, `SELECT DISTINCT trace_id FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`)
	for _, id := range logged {
		if len(receiver.Find(testenv.All(testenv.Named("chunk"), testenv.InTrace(id)))) == 0 {
			t.Errorf("the log names the trace %s, which has no chunk", id)
		}
	}
	if everything := fmt.Sprintf("%+v", receiver.Spans()); strings.Contains(everything, secret) || strings.Contains(everything, key) {
		t.Error("a span holds a value or a key")
	}
}
