package app_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

func postgres(code string) error { return pg.Safe(&pgconn.PgError{Code: code}) }

func TestEachErrorHasItsExitCode(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("what"), 1},
		{&app.VariableError{Name: "X"}, 2},
		{bus.ErrSettings, 2},
		{&messages.Problem{Code: messages.CodeInvalid}, 2},
		{&messages.Problem{Code: messages.CodeNotFound}, 4},
		{&messages.Problem{Code: messages.CodeConflict}, 4},
		{&messages.Problem{Code: messages.CodeRefused}, 4},
		{&messages.Problem{Code: messages.CodeWaiting}, 3},
		{&messages.Problem{Code: messages.CodeBusy}, 6},
		{&messages.Problem{Code: messages.CodeUnavailable}, 6},
		{&messages.Problem{Code: messages.CodeDenied}, 7},
		{&messages.Problem{Code: messages.CodeInternal}, 1},
		{bus.ErrForeignQueue, 4},
		{postgres("25006"), 4},
		{&cell.KEKError{Class: cell.KEKCorrupt, Err: errors.New("x")}, 4},
		{bus.ErrUnreachable, 6},
		{bus.ErrFull, 6},
		{bus.ErrNoJetStream, 6},
		{bus.ErrNoQueue, 6},
		{bus.ErrNoCoordinator, 6},
		{postgres("57P03"), 6},
		{postgres("53300"), 6},
		{postgres("55P03"), 6},
		{&cell.KEKError{Class: cell.KEKUnavailable, Err: errors.New("x")}, 6},
		{context.DeadlineExceeded, 6},
		{bus.ErrDenied, 7},
		{postgres("42501"), 7},
		{postgres("28P01"), 7},
		{&cell.KEKError{Class: cell.KEKDenied, Err: errors.New("x")}, 7},
		{app.ErrDraining, 75},
		{app.ErrDrainTime, 75},
		{app.ErrInterrupted, 130},
		{&app.Fail{Code: app.CodeUnproven, Err: bus.ErrFull}, 5},
	} {
		err := test.err
		if err != nil {
			err = fmt.Errorf("do something: %w", err)
		}
		if code, _ := app.Explain(err); code != test.code {
			t.Errorf("%v: exit code is %d, not %d", err, code, test.code)
		}
	}
}

func TestAReportHasErrorAndHint(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		wanted string
	}{
		{nil, ""},
		{errors.New("read range 7: broken"), "error: read range 7: broken\n"},
		{&app.Fail{Code: 4, Err: errors.New("no such column"), Hint: "look again"}, "error: no such column\nhint: look again\n"},
		{&messages.Problem{Code: messages.CodeInvalid, Field: "table", Message: "is missing", Hint: "name it"}, "error: table: is missing\nhint: name it\n"},
		{&cell.KEKError{Class: cell.KEKCorrupt, URI: "file:k", Hint: "chmod 600 k", Err: errors.New("open")}, "error: key-encryption key file:k is corrupt: open\nhint: chmod 600 k\n"},
		{fmt.Errorf("connect: %w", bus.ErrUnreachable), "error: connect: NATS cannot be reached\nhint: is NATS running, and is NATS_URL right?\n"},
	} {
		var b strings.Builder
		code := app.Report(&b, test.err)
		if b.String() != test.wanted {
			t.Errorf("report is %q, not %q", b.String(), test.wanted)
		}
		if wanted, _ := app.Explain(test.err); code != wanted {
			t.Errorf("exit code is %d, not %d", code, wanted)
		}
	}
}
