package transform_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// encrypter answers as a user's own program would; make is what it makes of one value.
func encrypter(requests *[]messages.ExternalRequest, make func(string) string) *transform.External {
	return &transform.External{Table: "public.users", Column: "email", Key: "users/email",
		Ask: func(_ context.Context, r messages.ExternalRequest) (messages.ExternalAnswer, error) {
			*requests = append(*requests, r)
			var a messages.ExternalAnswer
			for _, v := range r.Values {
				a.Results = append(a.Results, messages.ExternalResult{ID: v.ID, Value: json.RawMessage(make(v.Value))})
			}
			return a, nil
		}}
}

func upsideDown(s string) string {
	reversed := []rune(s)
	for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
		reversed[i], reversed[j] = reversed[j], reversed[i]
	}
	text, _ := json.Marshal("sealed:" + string(reversed))
	return string(text)
}

func TestExternalValuesComeBackInTheirRows(t *testing.T) {
	t.Parallel()
	var requests []messages.ExternalRequest
	var values []transform.Value
	for i := range 1203 {
		v := transform.Value{In: []byte(fmt.Sprintf("value %d", i))}
		if i%10 == 0 {
			v.In = nil
		}
		values = append(values, v)
	}
	if err := encrypter(&requests, upsideDown).Apply(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		var want string
		_ = json.Unmarshal([]byte(upsideDown(string(v.In))), &want)
		if v.In == nil && v.Out != nil || v.In != nil && string(v.Out) != want {
			t.Fatalf("value %d came back as something else", i)
		}
	}
	if len(requests) != 3 || requests[0].Table != "public.users" || requests[0].Column != "email" || requests[0].Key != "users/email" {
		t.Errorf("%d requests, want 3 that name the column", len(requests))
	}
}

func TestExternalRequestsAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	var requests []messages.ExternalRequest
	long := strings.Repeat("x", messages.MostExternalBytes/2)
	values := []transform.Value{{In: []byte(long)}, {In: []byte(long)}, {In: []byte("a")}, {In: []byte(long)}}
	if err := encrypter(&requests, func(string) string { return `"sealed"` }).Apply(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	if len(requests) != 2 {
		t.Errorf("%d requests, want 2", len(requests))
	}
	values = []transform.Value{{In: make([]byte, messages.MostExternalBytes+1)}}
	if err := encrypter(&requests, upsideDown).Apply(t.Context(), values); !errors.Is(err, transform.ErrValue) || len(requests) != 2 {
		t.Errorf("a value longer than a message: %v", err)
	}
}

func TestAnEncrypterIsNotBelieved(t *testing.T) {
	t.Parallel()
	const secret = "ada@example.org"
	for name, tc := range map[string]struct {
		spoil func(*messages.ExternalAnswer)
		want  error
	}{
		"one result too few":   {func(a *messages.ExternalAnswer) { a.Results = a.Results[1:] }, nil},
		"one too many":         {func(a *messages.ExternalAnswer) { a.Results = append(a.Results, a.Results[0]) }, nil},
		"none":                 {func(a *messages.ExternalAnswer) { a.Results = nil }, nil},
		"another order":        {func(a *messages.ExternalAnswer) { a.Results[0], a.Results[1] = a.Results[1], a.Results[0] }, nil},
		"no value":             {func(a *messages.ExternalAnswer) { a.Results[1].Value = nil }, nil},
		"null":                 {func(a *messages.ExternalAnswer) { a.Results[1].Value = json.RawMessage("null") }, nil},
		"a value it refuses":   {func(a *messages.ExternalAnswer) { a.Results[1].Refused = true }, transform.ErrValue},
		"the plaintext":        {func(a *messages.ExternalAnswer) { a.Results[1].Value = json.RawMessage(`"` + secret + `"`) }, transform.ErrLeak},
		"the plaintext inside": {func(a *messages.ExternalAnswer) { a.Results[1].Value = json.RawMessage(`"v1:` + secret + `"`) }, transform.ErrLeak},
		"the plaintext in JSON": {func(a *messages.ExternalAnswer) {
			a.Results[1].Value = json.RawMessage(`{"v":2,"i":{},"c":"` + secret + `"}`)
		}, transform.ErrLeak},
		"the plaintext as bytes": {func(a *messages.ExternalAnswer) {
			a.Results[1].Value = json.RawMessage(`"\\x00616461406578616d706c652e6f7267"`)
		}, transform.ErrLeak},
		"a short one as bytes": {func(a *messages.ExternalAnswer) { a.Results[0].Value = json.RawMessage(`"\\x6162"`) }, transform.ErrLeak},
		"escaped in JSON": {func(a *messages.ExternalAnswer) {
			a.Results[1].Value = json.RawMessage(`{"c":["\u0061da@example.org"]}`)
		}, transform.ErrLeak},
		"a short one in JSON":       {func(a *messages.ExternalAnswer) { a.Results[0].Value = json.RawMessage(`{"c":"ab"}`) }, transform.ErrLeak},
		"a payload of its own kind": {func(a *messages.ExternalAnswer) { a.Results[0].Value = json.RawMessage(`{"k":"ab","c":"mB8"}`) }, errFine},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests []messages.ExternalRequest
			x := encrypter(&requests, upsideDown)
			honest := x.Ask
			x.Ask = func(ctx context.Context, r messages.ExternalRequest) (messages.ExternalAnswer, error) {
				a, err := honest(ctx, r)
				tc.spoil(&a)
				return a, err
			}
			err := x.Apply(t.Context(), []transform.Value{{In: []byte("ab")}, {In: []byte(secret)}})
			switch {
			case tc.want == errFine && err == nil:
			case err == nil, tc.want != nil && !errors.Is(err, tc.want), tc.want == nil && !errors.Is(err, transform.ErrAnswer):
				t.Errorf("got %v", err)
			case strings.Contains(err.Error(), secret):
				t.Errorf("the error shows the value: %v", err)
			}
		})
	}
}

var errFine = errors.New("no error at all")
