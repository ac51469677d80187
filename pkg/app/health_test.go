package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

func ask(t *testing.T, url string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestReadyMeansEveryCheckPasses(t *testing.T) {
	t.Parallel()
	var broken error
	var out bytes.Buffer
	health := app.NewHealth(slog.New(slog.NewTextHandler(&out, nil)),
		app.Check{Name: "postgres", Probe: func(context.Context) error { return nil }},
		app.Check{Name: "nats", Probe: func(context.Context) error { return broken }})
	server, err := health.Listen("127.0.0.1:0", http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + server.Address()
	if code, body := ask(t, url+"/readyz"); code != 200 || !strings.Contains(body, `"ready":true`) || !strings.Contains(body, `"nats":"ok"`) {
		t.Errorf("ready is %d, %s", code, body)
	}
	broken = errors.New("secret cause")
	if code, body := ask(t, url+"/readyz"); code != 503 || !strings.Contains(body, `"nats":"failed"`) || !strings.Contains(body, `"postgres":"ok"`) || strings.Contains(body, "secret") {
		t.Errorf("ready is %d, %s", code, body)
	}
	if !strings.Contains(out.String(), "secret cause") || !strings.Contains(out.String(), "check=nats") {
		t.Errorf("the log says %s", out.String())
	}
	if code, _ := ask(t, url+"/healthz"); code != 200 {
		t.Errorf("health is %d", code)
	}
	broken = nil
	health.Drain()
	code, body := ask(t, url+"/readyz")
	var answer struct {
		Ready  bool
		Checks map[string]string
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != 503 || answer.Ready || answer.Checks["draining"] != "failed" {
		t.Errorf("ready is %d, %s, %v", code, body, err)
	}
	if code, _ := ask(t, url+"/healthz"); code != 200 {
		t.Errorf("health is %d", code)
	}
	if code, _ := ask(t, url+"/other"); code != 404 {
		t.Errorf("another path is %d", code)
	}
	if err := server.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAHungCheckIsNotReady(t *testing.T) {
	t.Parallel()
	health := app.NewHealth(silent(), app.Check{Name: "slow", Probe: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}})
	server, err := health.Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	if code, body := ask(t, "http://"+server.Address()+"/readyz"); code != 503 {
		t.Errorf("ready is %d, %s", code, body)
	}
	if err := server.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnAddressInUseIsAUsageError(t *testing.T) {
	t.Parallel()
	first, err := app.NewHealth(silent()).Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = app.NewHealth(silent()).Listen(first.Address(), nil)
	if code, hint := app.Explain(err); code != app.CodeUsage || hint == "" {
		t.Errorf("error is %v, code %d", err, code)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestHealthMayBeOff(t *testing.T) {
	t.Parallel()
	server, err := app.NewHealth(silent()).Listen("off", nil)
	if err != nil || server.Address() != "" {
		t.Errorf("it listens on %q, %v", server.Address(), err)
	}
	if err := server.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
