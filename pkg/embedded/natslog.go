package embedded

import (
	"context"
	"fmt"
	"log/slog"
)

// serverLog passes the NATS server's warnings and errors on and keeps the reason of a start that failed, which the
// server tells to nobody but its log.
type serverLog struct {
	to    *slog.Logger
	fatal error // the first; set while the server starts, on the goroutine that starts it
}

func (l *serverLog) pass(level slog.Level, format string, v []any) {
	if l.to != nil {
		l.to.Log(context.Background(), level, "nats server", "text", fmt.Sprintf(format, v...))
	}
}

// Noticef drops the server's small talk.
func (l *serverLog) Noticef(string, ...any) {}

// Debugf drops.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef drops: it would show messages.
func (l *serverLog) Tracef(string, ...any) {}

// Warnf passes a warning on.
func (l *serverLog) Warnf(format string, v ...any) { l.pass(slog.LevelWarn, format, v) }

// Errorf passes an error on.
func (l *serverLog) Errorf(format string, v ...any) { l.pass(slog.LevelError, format, v) }

// Fatalf keeps the first reason; the server goes on without what failed.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.pass(slog.LevelError, format, v)
	if l.fatal == nil {
		l.fatal = fmt.Errorf(format, v...)
	}
}
