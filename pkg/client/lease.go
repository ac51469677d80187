package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// renew takes the lease, or renews it, with a revision whose keys are loaded and whose columns were looked at. Counted from before the call, so
// the client believes in its lease for no longer than the server does. A server that takes no writes gives no lease:
// then the client reads.
func (c *Client) renew(ctx context.Context, revision int64) error {
	asked := c.config.Now()
	err := lifecycle.Present(ctx, c.db, lifecycle.Lease{ID: c.id, Kind: lifecycle.LeaseClient, Revision: revision, For: c.config.Lease})
	if pg.ClassOf(err) == pg.ClassReadOnly {
		c.standby.Store(true)
		return nil
	}
	if err != nil {
		return err
	}
	c.standby.Store(false)
	c.carried.Store(revision)
	c.leased.Store(asked.Add(c.config.Lease).UnixNano())
	return nil
}

// mayWrite says whether somebody still waits for this client.
func (c *Client) mayWrite() error {
	if c.config.Now().UnixNano() < c.leased.Load() {
		return nil
	}
	if c.standby.Load() {
		return fmt.Errorf("the server takes no writes: %w", ErrLeaseExpired)
	}
	return ErrLeaseExpired
}

// Report is where a client stands.
type Report struct {
	ID       string    // of its lease in cipherfleet.workers
	Revision int64     // of the registry, whose keys are all loaded; 0: some are missing
	Carried  int64     // the revision that the lease carries
	Leased   time.Time // until when it may write; zero: it has no lease
	Standby  bool      // the server takes no writes, so the client only reads
	Columns  []ColumnReport
	Err      error // of the last look at the registry; nil: it went well
}

// ColumnReport is where one column stands for the client.
type ColumnReport struct {
	Table  pg.Table
	Column string          // as it was asked for
	ID     uint32          // 0: nobody has registered it yet
	Phase  lifecycle.Phase // empty: nothing has happened to it
	Reads  string          // the name under which its truth stands now
	Writes []string        // the names that a write sets now
	Scheme uint16          // that cells are written under; 0: none is active
}

// Report says where the client and its columns stand, without asking anybody.
func (c *Client) Report() Report {
	r := Report{ID: c.id, Revision: c.chain.Revision(), Carried: c.carried.Load(), Standby: c.standby.Load()}
	if at := c.leased.Load(); at != 0 {
		r.Leased = time.Unix(0, at)
	}
	if err := c.troubled.Load(); err != nil {
		r.Err = *err
	}
	for _, column := range c.opened() {
		r.Columns = append(r.Columns, column.Report())
	}
	return r
}

// Ready says whether the client can do its work: nil, or why not. A client that reads from a standby needs no lease. A key
// that its key service refuses makes nobody unready but those who need it: see Report.
func (c *Client) Ready() error {
	switch {
	case c.end.Err() != nil:
		return errors.New("the client is closed")
	case c.standby.Load():
		return nil
	}
	return c.mayWrite()
}
