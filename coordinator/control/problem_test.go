package control

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
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
