// Package chaos proves the first promise: kill anything at any moment, and nothing is lost and nothing is doubled.
//
// Words: a *seed* decides what one run looks like: the table, the database's defaults, the fleet and the faults; only
// the timing is the machine's. A *world* is what runs: a durable Postgres, NATS, coordinators and workers, each a
// process of its own. The *application* changes rows all the while, honestly and not, and keeps a mirror of what it
// committed in the same transactions. The *operator* starts, follows, pauses and resumes jobs. The *storm* is the
// sequence of faults. The *ear* hears every message on NATS. When the storm is over and the fleet has finished, the
// *oracle* judges, from Postgres alone.
//
// A *rotation* is a world with *customers* instead: applications with a client, each a process of its own, which keep
// a record of what they wrote. Its column moves to another scheme, or back to plaintext, while they go on. One that moves to
// another scheme gets a blind index, too, for which a *scribbler* writes cells without their tokens; one
// that comes to be bound to columns has *wanderers*, rows that somebody moves who knows of no cells.
//
//	go test ./loadtest/chaos -seeds 50            # seeds 1 to 50
//	go test ./loadtest/chaos -seed 17 -v          # one seed again, with the course of its storm
package chaos

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

var (
	seeds    = flag.Int("seeds", 3, "how many seeds to run")
	first    = flag.Uint64("first", 1, "the first of them")
	only     = flag.Uint64("seed", 0, "run this seed alone")
	tell     = flag.Bool("tell", false, "show the logs and the ranges of every seed, not only of those that fail")
	natsDir  = flag.String("nats-dir", "", "internal: be a NATS server that keeps its store there")
	natsPort = flag.Int("nats-port", 0, "internal: the port of that server")
	custom   = flag.String("customer", "", "internal: be the customer that this file describes")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *natsDir != "" {
		os.Exit(beNATS(*natsDir, *natsPort))
	}
	if *custom != "" {
		os.Exit(beCustomer(*custom))
	}
	os.Exit(testenv.Main(m))
}

func chosen() []uint64 {
	if *only != 0 {
		return []uint64{*only}
	}
	list := make([]uint64, *seeds)
	for i := range list {
		list[i] = *first + uint64(i)
	}
	return list
}

const seedTime = 5 * time.Minute // a seed takes ten seconds where nobody else works; longer means that the fleet does not finish

func TestNothingIsLostUnderFaults(t *testing.T) {
	t.Parallel()
	programs := testenv.Programs(t)
	for _, seed := range chosen() {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), seedTime)
			defer cancel()
			p := newPlan(seed)
			t.Logf("%v", p)
			w := newWorld(ctx, t, p, programs)
			t.Cleanup(func() {
				if t.Failed() || *tell {
					w.tell()
				}
				if t.Failed() {
					t.Logf("to run it again: go test ./loadtest/chaos -run TestNothingIsLostUnderFaults -seed %d -v", seed)
				}
			})
			w.run(ctx)
		})
	}
}
