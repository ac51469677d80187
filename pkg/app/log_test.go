package app_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

func TestARecordHasItsTrace(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	ctx := trace.ContextWithSpanContext(t.Context(), span)
	logger := app.NewLogger(&out, app.Logging{LogLevel: "info", LogFormat: "json"})
	logger.With("worker", "w").InfoContext(ctx, "committed", "rows", 5, "url", app.URL("postgres://a:secret@h/d"))
	var record map[string]any
	if err := json.Unmarshal(out.Bytes(), &record); err != nil {
		t.Fatal(err)
	}
	if record["trace_id"] != span.TraceID().String() || record["span_id"] != span.SpanID().String() || record["worker"] != "w" || record["rows"] != 5.0 {
		t.Errorf("record is %s", out.String())
	}
	if strings.Contains(out.String(), "secret") {
		t.Errorf("record is %s", out.String())
	}
	out.Reset()
	logger.Info("no trace")
	if strings.Contains(out.String(), "trace_id") {
		t.Errorf("record is %s", out.String())
	}
}

func TestTheLogHasLevelAndForm(t *testing.T) {
	t.Parallel()
	for level, wanted := range map[string]int{"debug": 4, "info": 3, "warn": 2, "error": 1} {
		var out bytes.Buffer
		logger := app.NewLogger(&out, app.Logging{LogLevel: level, LogFormat: "text"})
		for _, at := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
			logger.Log(t.Context(), at, "said")
		}
		if got := strings.Count(out.String(), "msg=said"); got != wanted {
			t.Errorf("at %s %d records are written:\n%s", level, got, out.String())
		}
	}
}
