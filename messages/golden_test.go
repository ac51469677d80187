package messages_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
)

var update = flag.Bool("update", false, "write the golden files")

const job = "0197a1b2-c3d4-7e5f-8a6b-9c0d1e2f3a4b"

func at() time.Time { return time.Date(2026, 11, 22, 4, 35, 0, 123000000, time.UTC) }

// sample is one message of each kind, with every field set: a field that changes its name or form changes a file
// that programs in other languages rely on.
func samples() map[string]any {
	whole := messages.Job{
		ID: job, RequestID: "nightly-1", Table: "public.users", Columns: []string{"email"}, Kind: messages.KindRotate, State: "running",
		Rows: 150000, Total: 200000, Skipped: 12, Quarantined: 3, Conflicts: 7, RowsPerSecond: 61000.5,
		Ranges: messages.Ranges{Pending: 8, Leased: 2, Done: 30, Split: 1}, Workers: 2, Scheme: 3, HandedBack: []string{"42501"}, StoppedBy: "replication lag",
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", CreatedAt: at(),
	}
	return map[string]any{
		"task": messages.Task{Job: job, Range: 42, Table: messages.TableToken(16385), Epoch: 3},
		"progress": messages.Progress{
			Kind: messages.KindCheckpoint, Job: job, Range: 42, Rows: 500, Skipped: 2, State: "running", Worker: "host-1-a1b2c3d4", At: at(),
		},
		"dead_letter": messages.DeadLetter{
			Job: job, Range: 42, Table: "t16385", Epoch: 3, Attempts: 5, Class: "data", Worker: "host-1-a1b2c3d4", At: at(),
		},
		"start_request": messages.StartRequest{
			RequestID: "nightly-1", Schema: "public", Table: "users", Columns: []messages.ColumnRequest{{Source: "email", Target: "email_encrypted", Type: "jsonb",
				Transform: messages.TransformExternal, External: messages.Encrypter{Subject: "crypto.users", Key: "users/email"}}},
			Key: []string{"id"}, ChunkRows: 5000, Prepare: true, UserTriggers: messages.TriggersFire,
			Direction: messages.DirectionForward, Strict: true, Actor: "ada",
		},
		"start_first_scheme": messages.StartRequest{
			RequestID: "nightly-4", Schema: "public", Table: "users", Columns: []messages.ColumnRequest{{Source: "email", Target: "email_encrypted",
				First: &messages.Scheme{Number: 2, Suite: "xaes-256-gcm", Binding: "none", Padding: new(int), Tenant: "firm", Retain: "720h0m0s"}}},
		},
		"start_rotation": messages.StartRequest{
			RequestID: "nightly-2", Schema: "public", Table: "users", Columns: []messages.ColumnRequest{{Source: "email"}}, Direction: messages.DirectionRotate, Scheme: 3,
		},
		"start_index": messages.StartRequest{
			RequestID: "nightly-3", Schema: "public", Table: "users", Columns: []messages.ColumnRequest{{Source: "email"}}, Direction: messages.DirectionIndex, Index: "email_bidx",
		},
		"job_request":      messages.JobRequest{RequestID: "r-1", Job: job, Actor: "ada"},
		"retry_request":    messages.RetryRequest{RequestID: "r-2", Job: job, Quarantined: true, Actor: "ada"},
		"list_request":     messages.ListRequest{},
		"external_request": messages.ExternalRequest{Table: "public.users", Column: "email", Key: "users/email", Values: []messages.ExternalValue{{ID: 0, Value: "ada@example.org"}}},
		"external_answer":  messages.ExternalAnswer{Results: []messages.ExternalResult{{ID: 0, Value: json.RawMessage(`{"c":"mBbK"}`)}, {ID: 1, Refused: true}}, Error: "the key service is down"},
		"job":              whole,
		"job_list":         messages.JobList{Jobs: []messages.Job{whole}},
		"problem":          &messages.Problem{Code: messages.CodeInvalid, Field: "table", Message: "there is no such table", Hint: "name its schema", Job: job},
	}
}

func marshal(t *testing.T, sample any) []byte {
	t.Helper()
	if problem, ok := sample.(*messages.Problem); ok {
		return problem.Marshal()
	}
	body, err := sample.(interface{ Marshal() ([]byte, error) }).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestBodiesAreWhatTheGoldenFilesSay(t *testing.T) {
	t.Parallel()
	for name, sample := range samples() {
		var indented bytes.Buffer
		if err := json.Indent(&indented, marshal(t, sample), "", "  "); err != nil {
			t.Fatal(err)
		}
		indented.WriteByte('\n')
		file := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(file, indented.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(golden, indented.Bytes()) {
			t.Errorf("%s is\n%s\nand the golden file says\n%s", name, indented.Bytes(), golden)
		}
	}
}

func TestSamplesSetEveryField(t *testing.T) {
	t.Parallel()
	unset := map[string]bool{}
	for _, sample := range samples() {
		value := reflect.Indirect(reflect.ValueOf(sample))
		for i := range value.NumField() {
			field := value.Type().String() + "." + value.Type().Field(i).Name
			before, seen := unset[field]
			unset[field] = value.Field(i).IsZero() && (before || !seen)
		}
	}
	for field := range unset {
		if unset[field] && !strings.HasSuffix(field, ".V") {
			t.Errorf("no golden file shows %s", field)
		}
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	read := map[string]func([]byte) (any, error){
		"task":          func(b []byte) (any, error) { return messages.ParseTask(b) },
		"progress":      func(b []byte) (any, error) { return messages.ParseProgress(b) },
		"dead_letter":   func(b []byte) (any, error) { return messages.ParseDeadLetter(b) },
		"start_request": func(b []byte) (any, error) { return messages.ParseStartRequest(b) },

		"start_first_scheme": func(b []byte) (any, error) { return messages.ParseStartRequest(b) },

		"start_rotation": func(b []byte) (any, error) { return messages.ParseStartRequest(b) },
		"start_index":    func(b []byte) (any, error) { return messages.ParseStartRequest(b) },
		"job_request":    func(b []byte) (any, error) { return messages.ParseJobRequest(b) },
		"retry_request":  func(b []byte) (any, error) { return messages.ParseRetryRequest(b) },
		"list_request":   func(b []byte) (any, error) { return messages.ParseListRequest(b) },
		"job":            func(b []byte) (any, error) { return messages.ParseJob(b) },
		"job_list":       func(b []byte) (any, error) { return messages.ParseJobList(b) },
		"problem":        func(b []byte) (any, error) { return messages.ParseProblem(b) },

		"external_request": func(b []byte) (any, error) { return messages.ParseExternalRequest(b) },
		"external_answer":  func(b []byte) (any, error) { return messages.ParseExternalAnswer(b) },
	}
	for name, sample := range samples() {
		body := marshal(t, sample)
		got, err := read[name](body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again := marshal(t, got); !bytes.Equal(again, body) {
			t.Errorf("%s was %s and is read as %s", name, body, again)
		}
	}
}
