package app

import (
	"os"
	"runtime/debug"
)

// TuneMemory lets the garbage collector run less often than Go's default, as long as the process stays near limit
// bytes: sealing makes much short-lived garbage beside few bytes that live. GOGC and GOMEMLIMIT, if set, win.
func TuneMemory(limit int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}

const garbagePercent = 400
