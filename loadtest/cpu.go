package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// spent is the processor's time that an arm took: of the server with all its processes, and of the fleet's programs.
type spent struct{ server, programs time.Duration }

// perMillion are the medians of an arm's rounds, in seconds for each million rows. Where a machine is shared it is what
// two states of the program are compared by: it hardly depends on who else is there. 0 where the system does not tell.
type perMillion struct {
	Server   float64 `json:"server_cpu_seconds_per_million"`
	Programs float64 `json:"programs_cpu_seconds_per_million"`
}

func perMillionOf(rows int, rounds []spent) perMillion {
	middle := func(of func(spent) time.Duration) float64 {
		times := make([]time.Duration, len(rounds))
		for i, s := range rounds {
			times[i] = of(s)
		}
		slices.Sort(times)
		return times[len(times)/2].Seconds() * 1e6 / float64(rows)
	}
	return perMillion{middle(func(s spent) time.Duration { return s.server }), middle(func(s spent) time.Duration { return s.programs })}
}

// serverTime is how long the server's processes had a processor so far, those that have ended among them.
func (b *stand) serverTime(ctx context.Context) (time.Duration, error) {
	backend := 0
	if err := b.db.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		return 0, err
	}
	one, err := statOf(strconv.Itoa(backend))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // no Linux
	} else if err != nil {
		return 0, err
	}
	server, err := statOf(strconv.Itoa(one.parent))
	if err != nil {
		return 0, err
	}
	total := server.own + server.children
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, process := range processes {
		if s, err := statOf(filepath.Base(process)); err == nil && s.parent == one.parent { // one that is gone is its parent's by now
			total += s.own
		}
	}
	return total, nil
}

// processStat is of one process: its parent, its own time, and that of its children who ended.
type processStat struct {
	parent        int
	own, children time.Duration
}

const tick = 10 * time.Millisecond // proc(5): USER_HZ is 100 wherever Go runs

// statOf reads /proc/pid/stat (proc(5)); the fields behind the name, which may hold anything, are numbered from 3.
func statOf(pid string) (s processStat, err error) {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return s, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 15 {
		return s, fmt.Errorf("read the times of process %s: %d fields", pid, len(fields))
	}
	var numbers [5]int
	for i, field := range []int{4, 14, 15, 16, 17} { // ppid, utime, stime, cutime, cstime
		if numbers[i], err = strconv.Atoi(fields[field-3]); err != nil {
			return s, fmt.Errorf("read the times of process %s: %w", pid, err)
		}
	}
	return processStat{numbers[0], time.Duration(numbers[1]+numbers[2]) * tick, time.Duration(numbers[3]+numbers[4]) * tick}, nil
}
