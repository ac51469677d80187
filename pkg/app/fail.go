package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// The exit codes of both programs.
const (
	CodeDone        = 0   // done, or nothing to do; a worker that drained
	CodeUnexpected  = 1   // unexpected failure
	CodeUsage       = 2   // bad flag, environment or manifest
	CodeWaiting     = 3   // there is work to do; a gate waits for a person or for time
	CodeRefused     = 4   // refused by a precondition; nothing changed
	CodeUnproven    = 5   // proof failed: mismatch, uncovered, quarantined
	CodeUnavailable = 6   // Postgres, NATS or the key service is unavailable or full
	CodeDenied      = 7   // privileges or authorisation are missing
	CodePaused      = 75  // paused; the same command resumes
	CodeInterrupted = 130 // a second signal
)

// Fail is an error whose maker knows its exit code and what to do about it. Hint may be empty.
type Fail struct {
	Code int
	Err  error
	Hint string
}

// Error is the error without the hint.
func (f *Fail) Error() string { return f.Err.Error() }

// Unwrap returns the error.
func (f *Fail) Unwrap() error { return f.Err }

// Explain finds the exit code of an error and a hint, which may be empty. It is the one table from error to exit
// code, and the first row that fits wins. No error is CodeDone.
func Explain(err error) (code int, hint string) {
	if err == nil {
		return CodeDone, ""
	}
	var fail *Fail
	if errors.As(err, &fail) {
		return fail.Code, fail.Hint
	}
	var problem *messages.Problem
	if errors.As(err, &problem) {
		return problemCode(problem.Code), problem.Hint
	}
	var ready *lifecycle.NotReadyError
	if errors.As(err, &ready) {
		return CodeWaiting, ready.Hint()
	}
	var refusal lifecycle.Refusal
	if errors.As(err, &refusal) {
		return CodeRefused, refusal.Hint()
	}
	for _, row := range table() {
		if !row.fits(err) {
			continue
		}
		var kek *cell.KEKError
		if errors.As(err, &kek) && kek.Hint != "" {
			return row.code, kek.Hint // it knows better
		}
		return row.code, row.hint
	}
	return CodeUnexpected, ""
}

type row struct {
	fits func(error) bool
	code int
	hint string
}

func table() []row {
	return []row{
		{is(ErrInterrupted), CodeInterrupted, "the same command resumes"},
		{is(ErrDraining), CodePaused, "the same command resumes"},
		{is(ErrDrainTime), CodePaused, "the same command resumes; CIPHERFLEET_DRAIN gives the work in hand more time"},
		{isVariable, CodeUsage, "docs/configuration.md has the table of all variables"},
		{is(bus.ErrSettings), CodeUsage, "look at NATS_URL and CIPHERFLEET_NATS_CREDS, _NATS_TOKEN_FILE and _NATS_CA"},
		{is(bus.ErrDenied), CodeDenied, "give the right credentials with CIPHERFLEET_NATS_CREDS or CIPHERFLEET_NATS_TOKEN_FILE; docs/protocol.md lists the subjects each role needs"},
		{is(bus.ErrNoJetStream), CodeUnavailable, "start nats-server with -js, or enable JetStream for this account"},
		{is(bus.ErrForeignQueue), CodeRefused, "use a NATS account of its own for each installation, or remove the stream if nobody needs it"},
		{is(bus.ErrFull), CodeUnavailable, "give JetStream more room, or let the workers empty the queue; then run the same command again"},
		{is(bus.ErrNoCoordinator), CodeUnavailable, "start one with `cipherfleet serve`, or unset NATS_URL to let this command do the work itself"},
		{is(bus.ErrNoQueue), CodeUnavailable, "the coordinator makes the queue when it leads; is one running?"},
		{is(bus.ErrUnreachable), CodeUnavailable, "is NATS running, and is NATS_URL right?"},
		{ofKEK(cell.KEKUnknown), CodeUsage, "write file:PATH for the key, in CIPHERFLEET_KEK or in the manifest"},
		{ofKEK(cell.KEKUnavailable), CodeUnavailable, "is the key service reachable, and is CIPHERFLEET_KEK right?"},
		{ofKEK(cell.KEKDenied), CodeDenied, "the key exists, but may not be used by this program"},
		{ofKEK(cell.KEKExposed), CodeRefused, "let nobody but its owner read the key, and consider whether somebody has"},
		{ofKEK(cell.KEKDisabled, cell.KEKDestroyed, cell.KEKCorrupt), CodeRefused, "restore the key that these columns were encrypted under"},
		{is(cell.ErrUnapproved), CodeRefused, "rotate the column to a scheme of XAES-256-GCM first, or run without GODEBUG=fips140=only"},
		{isNewer, CodeRefused, "use the program's version that installed the schema, or a later one"},
		{ofCode("57014"), CodeUnavailable, "statement_timeout of this role or database is too short for it, or somebody cancelled it: statement_timeout=0 in DATABASE_URL lifts the limit for this program alone"},
		{ofCode("57P05", "25P03", "25P04"), CodeUnavailable, "a time limit of this role or database ended the connection, not an outage: idle_session_timeout=0 in DATABASE_URL " +
			"(or idle_in_transaction_session_timeout=0, or transaction_timeout=0) lifts it for this program alone"},
		{ofPostgres(pg.ClassDenied), CodeDenied, "grant what is missing: docs/operations.md lists what each role needs; or use another role in DATABASE_URL"},
		{ofPostgres(pg.ClassReadOnly), CodeRefused, "point DATABASE_URL at the primary: this server is read-only"},
		{ofPostgres(pg.ClassUnavailable), CodeUnavailable, "is Postgres running, and is DATABASE_URL right?"},
		{ofPostgres(pg.ClassLock, pg.ClassConflict), CodeUnavailable, "something else holds a lock; run the same command again"},
		{is(context.Canceled), CodeInterrupted, ""},
		{is(context.DeadlineExceeded), CodeUnavailable, "something did not answer in time; run the same command again"},
		{is(fs.ErrPermission), CodeDenied, ""},
	}
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func isVariable(err error) bool {
	var variable *VariableError
	return errors.As(err, &variable)
}

func isNewer(err error) bool {
	var newer *lifecycle.NewerError
	return errors.As(err, &newer)
}

func ofPostgres(classes ...pg.Class) func(error) bool {
	return func(err error) bool {
		for _, class := range classes {
			if pg.ClassOf(err) == class {
				return true
			}
		}
		return false
	}
}

func ofCode(codes ...string) func(error) bool {
	return func(err error) bool { return slices.Contains(codes, pg.Code(err)) }
}

func ofKEK(classes ...cell.KEKClass) func(error) bool {
	return func(err error) bool {
		for _, class := range classes {
			if cell.KEKClassOf(err) == class {
				return true
			}
		}
		return false
	}
}

// problemCode is the exit code of whoever asked and got this problem.
func problemCode(code string) int {
	switch code {
	case messages.CodeInvalid:
		return CodeUsage
	case messages.CodeDenied:
		return CodeDenied
	case messages.CodeWaiting:
		return CodeWaiting
	case messages.CodeNotFound, messages.CodeConflict, messages.CodeRefused:
		return CodeRefused
	case messages.CodeBusy, messages.CodeUnavailable:
		return CodeUnavailable
	}
	return CodeUnexpected
}

// Report writes the error and the hint for a person, and returns the exit code.
func Report(w io.Writer, err error) int {
	code, hint := Explain(err)
	if err == nil {
		return code
	}
	var b strings.Builder
	fmt.Fprintf(&b, "error: %v\n", err)
	if hint != "" {
		fmt.Fprintf(&b, "hint: %s\n", hint)
	}
	_, _ = io.WriteString(w, b.String()) // there is nobody left to tell
	return code
}
