package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// A coordinator whose key does not open the column's keys says so to whoever asks, and shows neither key nor cause.
func TestAKeyThatDoesNotFitIsAProblemOfTheCoordinator(t *testing.T) {
	t.Parallel()
	for class, code := range map[cell.KEKClass]string{cell.KEKCorrupt: messages.CodeRefused, cell.KEKDestroyed: messages.CodeRefused,
		cell.KEKDenied: messages.CodeDenied, cell.KEKUnavailable: messages.CodeUnavailable} {
		cause := &cell.KEKError{Class: class, URI: "file:/secret/place", Err: errors.New("inner")}
		var told bus.Told
		if err := problem(fmt.Errorf("prove key: %w", cause)); !errors.As(err, &told) || !errors.Is(err, cause) {
			t.Fatalf("%s: nothing to tell but %v", class, err)
		}
		got := told.Problem()
		if got.Code != code || !strings.Contains(got.Message, string(class)) || !strings.Contains(got.Hint, "cipherfleet key ls") {
			t.Errorf("%s: %+v", class, got)
		}
		if body := string(got.Marshal()); strings.Contains(body, "secret") || strings.Contains(body, "inner") {
			t.Errorf("%s: the answer holds %s", class, body)
		}
	}
}

// Who asks while Postgres is away is told to repeat the request, and not what the coordinator's database said.
func TestATroubleThatPassesIsTold(t *testing.T) {
	t.Parallel()
	for code, again := range map[string]bool{"57P01": true, "55P03": true, "40001": true, "42601": false, "23514": false} {
		cause := fmt.Errorf("read the list of secrets: %w", &pg.Error{Code: code})
		_, err := answering(func(context.Context, int) (int, error) { return 0, cause })(t.Context(), 0)
		var told bus.Told
		if !errors.Is(err, cause) || errors.As(err, &told) != again {
			t.Errorf("%s: %v", code, err)
		}
		if again && (told.Problem().Code != messages.CodeUnavailable || strings.Contains(string(told.Problem().Marshal()), "secret")) {
			t.Errorf("%s: %+v", code, told.Problem())
		}
	}
}
