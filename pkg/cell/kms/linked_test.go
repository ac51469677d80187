package kms_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
)

// TestAKindThatIsNotLinkedIsRefusedByName: the URI is known, the program is not the right one.
func TestAKindThatIsNotLinkedIsRefusedByName(t *testing.T) {
	t.Parallel()
	for _, scheme := range kms.Linked() {
		uri := scheme + "://some/secret"
		if !kms.Known(uri) || kms.Known(scheme+":x") {
			t.Errorf("%s: known %v, without slashes %v", scheme, kms.Known(uri), kms.Known(scheme+":x"))
		}
		_, err := kms.OpenWith(t.Context(), uri, kms.Config{Kinds: []kms.Kind{{Scheme: "other"}}})
		var e *cell.KEKError
		if !errors.As(err, &e) || e.Class != cell.KEKUnknown || !strings.Contains(err.Error(), "built without "+scheme) || e.Hint == "" {
			t.Errorf("%s: %v", scheme, err)
		}
		if strings.Contains(err.Error()+e.Hint, "secret") {
			t.Errorf("the URI is shown: %v", err)
		}
	}
}

func TestALinkedKindOpensItsURIsAndNoOther(t *testing.T) {
	t.Parallel()
	_, file := newFile(t)
	asked := ""
	kind := kms.Kind{Scheme: "aws-kms", Open: func(_ context.Context, uri string) (cell.KEK, error) {
		asked = uri
		return file, nil
	}}
	config := kms.Config{Kinds: []kms.Kind{kind}}
	if kek, err := kms.OpenWith(t.Context(), "aws-kms://x", config); err != nil || kek != file || asked != "aws-kms://x" {
		t.Errorf("%v, %q, %v", kek, asked, err)
	}
	if _, err := kms.OpenWith(t.Context(), "gcp-kms://x", config); cell.KEKClassOf(err) != cell.KEKUnknown {
		t.Errorf("another kind: %v", err)
	}
}
