package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
)

// dualCost is what check and capture cost the server's processor for one statement of that application: medians, in
// turns. It is seen by nothing else that the machine does, so it is the figure to go by on a machine that is shared.
type dualCost struct {
	Bare     float64 `json:"us_without_capture"` // microseconds of the connection's own process
	Captured float64 `json:"us_with_capture"`
	More     float64 `json:"more_by"` // 0.05 is five percent
	Turns    int     `json:"turns"`
}

const (
	turnsPerPair = 4
	warming      = 300  // transactions until caches are full and plans are made
	measured     = 2000 // transactions of a turn
)

// cost measures the turns; nil where the system does not say what a process took.
func (b *stand) cost(ctx context.Context, o benchOptions, c ddl.Column, sealed []byte) (*dualCost, error) {
	taken := map[bool][]float64{}
	for turn := range turnsPerPair * o.pairs {
		for _, captured := range []bool{turn%2 == 1, turn%2 == 0} {
			if err := b.setCapture(ctx, c, captured); err != nil {
				return nil, err
			}
			us, err := b.turn(ctx, sealed)
			if os.IsNotExist(err) {
				return nil, nil
			} else if err != nil {
				return nil, err
			}
			taken[captured] = append(taken[captured], us)
		}
	}
	f := &dualCost{Bare: median(taken[false]), Captured: median(taken[true]), Turns: turnsPerPair * o.pairs}
	f.More = f.Captured/f.Bare - 1
	return f, nil
}

// turn is what one statement took on average, of a connection of its own.
func (b *stand) turn(ctx context.Context, sealed []byte) (us float64, err error) {
	conn, err := pgx.Connect(ctx, b.postgres.URL("postgres"))
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is under way
	if _, err := conn.Exec(ctx, "SET synchronous_commit = off; SET "+ddl.WriterSetting+" = "+ddl.WriterClient); err != nil {
		return 0, err
	}
	var before float64
	for i := range warming + measured {
		if i == warming {
			if before, err = processTime(conn.PgConn().PID()); err != nil {
				return 0, err
			}
		}
		n := int64(i+1) * 7919
		if _, err := conn.Exec(ctx, `UPDATE public.users SET email = $1, email_encrypted = $2 || pg_catalog.int8send($3) WHERE id = $4`,
			fmt.Sprintf("user%d@example.com", n), sealed, n, n%int64(b.rows)+1); err != nil {
			return 0, err
		}
		if _, err := conn.Exec(ctx, `UPDATE public.users SET name = $1 WHERE id = $2`, fmt.Sprintf("User number %d", n), n*31%int64(b.rows)+1); err != nil {
			return 0, err
		}
	}
	after, err := processTime(conn.PgConn().PID())
	return (after - before) / (2 * measured), err
}

// processTime is how long a process has run so far, in microseconds (proc(5), /proc/pid/schedstat).
func processTime(pid uint32) (float64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseFloat(strings.Fields(string(stat))[0], 64)
	return ns / 1000, err
}
