package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/hint"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Config of [Open]. Only KEK is needed.
type Config struct {
	KEK       cell.KEK         // unwraps the data keys; package kms opens one by its URI
	Name      string           // of the application, as its lease and its connections carry it; empty: "client"
	Poll      time.Duration    // between two looks at the registry, which is the longest a change goes unnoticed; 0: 10 s
	Lease     time.Duration    // how long the client counts as there without renewing; 0: 30 s; at least three times Poll
	Lifetimes cell.Lifetimes   // of keys, without their KEK's word; zero: [cell.DefaultLifetimes]
	Hints     <-chan struct{}  // says "look now", from whatever messaging the application has; may be nil
	Migrate   float64          // rows per second that reading may bring to the newest scheme; 0: none. See [Client]
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil: nothing is logged
}

const (
	defaultPoll  = 10 * time.Second
	defaultLease = 30 * time.Second
	connections  = 4 // listening, polling, learning, migrating
)

func (c Config) withDefaults() (Config, error) {
	if c.KEK == nil {
		return c, errors.New("a client needs a KEK")
	}
	if c.Name == "" {
		c.Name = "client"
	}
	if c.Poll <= 0 {
		c.Poll = defaultPoll
	}
	if c.Lease <= 0 {
		c.Lease = max(defaultLease, 3*c.Poll)
	}
	if c.Lease < 3*c.Poll {
		return c, fmt.Errorf("a lease of %v is too short for a poll every %v: make it three times as long", c.Lease, c.Poll)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Client is an application's view of its encrypted columns, kept up to date in the background. It is safe for
// concurrent use. What is read under an older scheme is left as it is, unless Config.Migrate allows to bring so many rows
// a second to the newest.
type Client struct {
	config Config
	id     string // of its lease
	db     *pg.DB
	chain  *lifecycle.Keychain
	maps   sync.Pool // of *pgtype.Map: a map is for one goroutine
	lazy   *lazy
	parsed templates

	renewing chan struct{} // holds one token: who has it may renew the lease
	looking  chan struct{} // holds one token: who has it may look at the columns
	looked   time.Time     // when the last look began; under looking
	pulse    string        // what that look saw, as a fingerprint; under looking
	mu       sync.Mutex
	columns  Columns // guarded by mu

	leased   atomic.Int64 // until when, in nanoseconds of Unix time by Config.Now; 0: never
	standby  atomic.Bool  // the last renewal found a server that takes no writes
	carried  atomic.Int64 // the revision of the lease
	troubled atomic.Pointer[error]
	bare     sync.Map // ids of columns whose cells were written without tokens, which was said

	end  context.Context
	stop context.CancelFunc
	done sync.WaitGroup
}

// Open loads the registry and its keys, takes a lease, and keeps both up to date until [Client.Close]. It works on up to
// four connections of its own, as the pool's role, and never uses one of the pool. A key service that is out of reach is
// an error; one that refuses a key is not: whoever needs the key finds out.
func Open(ctx context.Context, pool *pgxpool.Pool, config Config) (*Client, error) {
	c, err := prepare(ctx, pool, config)
	if pg.ClassOf(err) == pg.ClassDenied {
		err = fmt.Errorf("docs/client.md lists the rights that the role needs in schema cipherfleet: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open a client: %w", err)
	}
	hints := make(chan struct{}, 1)
	c.start(func() { hint.Listen(c.end, c.db, hints, c.config.Poll, c.config.Log.With("client", c.id)) }, func() { c.run(c.end, hints) }, func() { c.chain.Run(c.end) }, func() { c.lazy.run(c.end) })
	return c, nil
}

// prepare is a client that nothing keeps up to date yet.
func prepare(ctx context.Context, pool *pgxpool.Pool, config Config) (*Client, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	db, err := pg.Like(ctx, pool, pg.Options{AppName: config.Name, MaxConns: connections})
	if err != nil {
		return nil, err
	}
	c := &Client{config: config, id: config.Name + "-" + rand.Text()[:12], db: db, looking: make(chan struct{}, 1), renewing: make(chan struct{}, 1)}
	c.looking <- struct{}{}
	c.renewing <- struct{}{}
	c.maps.New = func() any { return pgtype.NewMap() }
	c.lazy = newLazy(c, config.Migrate)
	c.end, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.chain, err = lifecycle.OpenKeychain(ctx, db, config.KEK, lifecycle.KeychainConfig{
		Lifetimes: config.Lifetimes, Poll: config.Poll, Now: config.Now, Log: config.Log})
	if err == nil {
		err = c.renew(ctx, c.chain.Revision())
	}
	if pg.ClassOf(err) == pg.ClassSchema {
		err = fmt.Errorf("schema cipherfleet is not there, or of another version (cipherfleet install brings it up to date): %w", err)
	}
	if err != nil {
		c.stop()
		db.Close()
		return nil, err
	}
	return c, nil
}

// start runs what works in the background until the client is closed.
func (c *Client) start(all ...func()) {
	for _, run := range all {
		c.done.Go(run)
	}
}

// Close gives the lease up and ends what works in the background. Handles of the client open what was read until then;
// they write nothing any more. Closing again does nothing.
func (c *Client) Close(ctx context.Context) error {
	if c.end.Err() != nil {
		return nil
	}
	c.stop()
	c.done.Wait()
	c.leased.Store(0)
	var err error
	if !c.standby.Load() {
		err = lifecycle.Absent(ctx, c.db, c.id)
	}
	c.db.Close()
	return err
}

// run looks whenever a hint comes, and otherwise polls.
func (c *Client) run(ctx context.Context, hints <-chan struct{}) {
	for {
		timer := time.NewTimer(c.config.Poll)
		given := c.config.Hints
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-hints:
		case _, open := <-given:
			if !open {
				c.config.Hints = nil
			}
		case <-timer.C:
		}
		timer.Stop()
		if err := c.Refresh(ctx); err != nil && ctx.Err() == nil {
			c.config.Log.WarnContext(ctx, "the client is not up to date", "client", c.id, "error", err)
		}
	}
}

// Refresh looks at the registry now, follows every column to where it stands, and renews the lease. It is what happens
// in the background all the time.
func (c *Client) Refresh(ctx context.Context) error {
	select {
	case <-c.renewing: // two at once, and the slower one would bring back a lease of what it knew before
	case <-ctx.Done():
		return fmt.Errorf("refresh a client: %w", ctx.Err())
	}
	defer func() { c.renewing <- struct{}{} }()
	err := c.chain.Refresh(ctx)
	revision := c.chain.Revision() // of before the look: whoever waits for a lease waits for where columns stand, too
	looked := c.look(ctx, nil)
	if looked != nil {
		revision = min(revision, c.carried.Load())
	}
	err = errors.Join(err, looked, c.renew(ctx, revision))
	c.troubled.Store(&err)
	return err
}
