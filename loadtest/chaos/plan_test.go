package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// plan is what a seed decides.
type plan struct {
	seed      uint64
	layout    layout
	rows      int64  // at the beginning
	dated     bool   // a second column, of type timestamptz, is encrypted in the same pass
	prepare   bool   // the job adds the targets; else they are there before
	meddling  bool   // a trigger of the user's changes the source on some writes
	isolation string // the database's default; "" is Postgres's own, read committed
	hostile   bool   // further defaults that change what values look like
	chunk     int    // most rows of a chunk: small, so that the storm meets the job and not its end
	workers   int
	slots     int
	embedded  bool // NATS runs inside the coordinator and dies with it
	standby   bool // a second coordinator waits to lead
	faults    []fault
}

// chance is a source of randomness for one purpose; purposes do not disturb each other.
func chance(seed, purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, purpose)) }

// What chance is for.
const (
	forPlan uint64 = iota
	forStorm
	forOperator
	forHot
	forLocks
	forCrowd
	forWriters // and one more for each writer
)

// newPlan spreads the great choices over neighbouring seeds, so that a few seeds meet all of them.
func newPlan(seed uint64) plan {
	r := chance(seed, forPlan)
	all := layouts()
	p := plan{
		seed: seed, layout: all[seed%uint64(len(all))], hostile: seed%3 == 0, dated: seed%3 != 1,
		prepare: r.IntN(2) == 0, meddling: r.IntN(3) > 0, standby: r.IntN(2) == 0, embedded: seed%5 == 3,
		rows: 25_000 + r.Int64N(25_000), chunk: 20 + r.IntN(60), workers: 2 + r.IntN(2), slots: 1 + r.IntN(2),
	}
	p.standby = p.standby && !p.embedded
	if seed%3 == 2 {
		p.isolation = "repeatable read"
	} else if seed%7 == 0 {
		p.isolation = "serializable"
	}
	p.faults = storm(r)
	return p
}

func (p plan) String() string {
	names := make([]string, len(p.faults))
	for i, f := range p.faults {
		names[i] = f.name
	}
	return fmt.Sprintf("seed %d: %s, %d rows, dated %t, prepare %t, meddling trigger %t, default isolation %q, hostile defaults %t, chunks of %d, %d workers of %d slots, NATS embedded %t, standby %t; %s",
		p.seed, p.layout.name, p.rows, p.dated, p.prepare, p.meddling, p.isolation, p.hostile, p.chunk, p.workers, p.slots, p.embedded, p.standby, strings.Join(names, ", "))
}

// between is a random duration.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)+1))
}
