package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/embedded"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

type benchOptions struct {
	rows, rounds   int
	pairs, seconds int
	out, bindir    string
}

// arm is one way of writing every row; it returns how long that took.
type arm struct {
	name string
	run  func(ctx context.Context, b *stand) (time.Duration, error)
}

// figure is what an arm reached: medians over the rounds.
type figure struct {
	Name          string  `json:"name"`
	Rows          int     `json:"rows"`
	Seconds       float64 `json:"seconds"`
	RowsPerSecond float64 `json:"rows_per_second"`
	Ratio         float64 `json:"ratio_to_ceiling"`
	Min           float64 `json:"rows_per_second_min"`
	Max           float64 `json:"rows_per_second_max"`
	perMillion
}

// report is build/bench.json.
type report struct {
	Machine   string       `json:"machine"`
	Postgres  string       `json:"postgres"`
	Rounds    int          `json:"rounds"`
	WorkerRSS int64        `json:"worker_rss_bytes"` // the most that any worker held
	Arms      []figure     `json:"arms"`
	Dual      []dualFigure `json:"dual_writing"` // null: it was not measured
	DualCost  *dualCost    `json:"dual_writing_processor"`
}

// stand is what every arm runs on.
type stand struct {
	rows      int
	dir       string
	postgres  *embedded.Postgres
	db        *pg.DB
	workerRSS int64
	programs  time.Duration // of the processor, that programs of fleets took so far
}

func bench(ctx context.Context, o benchOptions) (err error) {
	b := &stand{rows: o.rows}
	if b.dir, err = os.MkdirTemp("", "cipherfleet-bench-"); err != nil {
		return fmt.Errorf("make room for the bench: %w", err)
	}
	defer os.RemoveAll(b.dir) //nolint:errcheck // temporary
	if b.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{BinDir: o.bindir, Durable: true}); err != nil {
		return err
	}
	defer b.postgres.Stop() //nolint:errcheck // it is temporary
	if b.db, err = pg.Open(ctx, b.postgres.URL("postgres"), pg.Options{AppName: "loadtest", Abroad: true}); err != nil {
		return err
	}
	defer b.db.Close()
	arms := []arm{{"ceiling", ceiling}, {"fleet-2w-bigint", fleet}}
	times, took := make(map[string][]time.Duration), make(map[string][]spent)
	for round := range o.rounds {
		for _, a := range arms {
			elapsed, cpu, err := b.measure(ctx, a)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", a.name, round+1, err)
			}
			fmt.Fprintf(os.Stderr, "round %d  %-16s %8.2f s  %9.0f rows/s  processor: server %6.2f s, programs %6.2f s\n", round+1, a.name,
				elapsed.Seconds(), float64(o.rows)/elapsed.Seconds(), cpu.server.Seconds(), cpu.programs.Seconds())
			times[a.name], took[a.name] = append(times[a.name], elapsed), append(took[a.name], cpu)
		}
	}
	dual, cost, err := b.dual(ctx, o)
	if errors.Is(err, errNoPgbench) {
		fmt.Fprintln(os.Stderr, "what capture costs an application is not measured:", err)
	} else if err != nil {
		return err
	}
	figures := make([]figure, len(arms))
	for i, a := range arms {
		figures[i] = figureOf(a.name, o.rows, times[a.name], took[a.name])
	}
	return b.publish(o, figures, dual, cost)
}

// measure prepares a fresh table and runs one arm on it.
func (b *stand) measure(ctx context.Context, a arm) (elapsed time.Duration, cpu spent, err error) {
	if err := b.seed(ctx); err != nil {
		return 0, cpu, fmt.Errorf("seed the table: %w", err)
	}
	before, programs := time.Duration(0), b.programs
	if before, err = b.serverTime(ctx); err != nil {
		return 0, cpu, err
	}
	if elapsed, err = a.run(ctx, b); err != nil {
		return 0, cpu, err
	}
	after, err := b.serverTime(ctx)
	return elapsed, spent{after - before, b.programs - programs}, err
}

// publish prints the table and writes the file.
func (b *stand) publish(o benchOptions, arms []figure, dual []dualFigure, cost *dualCost) error {
	r := report{Machine: fmt.Sprintf("%s/%s, %d CPUs, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
		Postgres: fmt.Sprintf("%d", b.postgres.Major()), Rounds: o.rounds, WorkerRSS: b.workerRSS, Arms: arms, Dual: dual, DualCost: cost}
	for i := range r.Arms {
		r.Arms[i].Ratio = r.Arms[i].RowsPerSecond / r.Arms[0].RowsPerSecond
	}
	fmt.Printf("%-16s %10s %9s %12s %12s %12s %7s %28s\n", "arm", "rows", "seconds", "rows/s", "min", "max", "ratio", "processor per million rows")
	for _, f := range r.Arms {
		fmt.Printf("%-16s %10d %9.2f %12.0f %12.0f %12.0f %7.2f   %5.2f s server, %5.2f s ours\n", f.Name, f.Rows, f.Seconds, f.RowsPerSecond, f.Min, f.Max, f.Ratio, f.Server, f.Programs)
	}
	fmt.Printf("worker memory: at most %d MiB resident\n", b.workerRSS>>20)
	for _, f := range dual {
		fmt.Printf("an application that writes both columns, %s commits: %.0f transactions/s without capture, %.0f with it: slower by %.1f %%\n",
			f.Commits, f.Bare, f.Captured, 100*f.Slower)
	}
	if cost != nil {
		fmt.Printf("of the server's processor each of its statements takes %.1f µs without capture, %.1f µs with it: %.1f %% more\n", cost.Bare, cost.Captured, 100*cost.More)
	}
	if o.out == "" {
		return nil
	}
	body, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(o.out, append(body, '\n'), 0o644)
}

func figureOf(name string, rows int, times []time.Duration, took []spent) figure {
	slices.Sort(times)
	rate := func(d time.Duration) float64 { return float64(rows) / d.Seconds() }
	median := times[len(times)/2]
	return figure{Name: name, Rows: rows, Seconds: median.Seconds(), RowsPerSecond: rate(median),
		Min: rate(times[len(times)-1]), Max: rate(times[0]), perMillion: perMillionOf(rows, took)}
}
