package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/time/rate"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client/exchange"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
)

// lazy brings what was read under an older scheme to the newest, in the background and on a connection of its own.
type lazy struct {
	client  *Client
	limiter *rate.Limiter // nil: switched off
	queue   chan relic
	done    atomic.Int64 // rows it wrote
	lost    atomic.Int64 // rows that somebody else wrote meanwhile
}

// relic is a cell of an older scheme, in the row where it was read.
type relic struct {
	column *Column
	at     *standing
	key    []any // for pgx
	cell   cell.Address
	sealed []byte
	plain  []byte // nil is NULL
}

const mostRelics = 256 // waiting; what is read beyond them is left as it is

func newLazy(c *Client, perSecond float64) *lazy {
	l := &lazy{client: c}
	if perSecond > 0 {
		l.limiter = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
		l.queue = make(chan relic, mostRelics)
	}
	return l
}

// offer takes a row that was just read, if it may be written: outside of an explicit transaction, which may be one that
// only reads; on a server that takes writes; and within the rate. It never waits, and it is nothing to the reader if
// nothing comes of it.
func (l *lazy) offer(rows pgx.Rows, f *field, h cell.Header, a cell.Address, sealed, plain []byte) {
	if l.limiter == nil || f.at.twin != nil || h.Column != f.at.id || f.at.key == nil || slices.Contains(f.key, -1) {
		return
	}
	newest, ok := l.client.chain.Active(f.at.id)
	if !ok || newest.Number <= h.Scheme || newest.Codec != h.Codec || l.client.mayWrite() != nil {
		return
	}
	if conn := rows.Conn(); conn == nil || !mayFollow(conn) || !l.limiter.Allow() {
		return
	}
	r := relic{column: f.column, at: f.at, cell: a, sealed: slices.Clone(sealed), plain: slices.Clone(plain)}
	r.cell = cell.Address{Column: a.Column, Key: slices.Clone(a.Key)}
	var err error
	if r.key, err = f.at.key.Values(rows, f.key); err != nil {
		return
	}
	select {
	case l.queue <- r:
	default:
	}
}

// mayFollow says whether a row that this connection reads may be written by another one: it reads outside of a
// transaction, and neither its server nor its settings speak against writing.
func mayFollow(conn *pgx.Conn) bool {
	const outside = 'I'
	server := conn.PgConn()
	return server.TxStatus() == outside && server.ParameterStatus("in_hot_standby") != "on" && server.ParameterStatus("default_transaction_read_only") != "on"
}

func (l *lazy) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-l.queue:
			if err := l.migrate(ctx, r); err != nil && ctx.Err() == nil {
				l.client.config.Log.DebugContext(ctx, "a row stays under its older scheme", "column", r.at.id, "error", err)
			}
		}
	}
}

// bind finds what the new cell is bound to: the row's key, or columns as they stand in the version of the row that it is
// exchanged in.
func (r *relic) bind(ctx context.Context, c *Client, m *pgtype.Map, scheme cell.Scheme, old *exchange.Relic) (err error) {
	if scheme.Columns == "" {
		r.cell.Key, err = r.at.key.Encode(m, r.key)
		return err
	}
	at := r.at.bound[scheme.Columns]
	if at == nil {
		return fmt.Errorf("scheme %d: %w", scheme.Number, ErrNoColumns)
	}
	return old.Look(ctx, c.db, at.Names(), func(rows pgx.Rows) error {
		part, err := at.Read(nil, rows, at.From(1))
		r.cell.Bound = []cell.Bound{{Columns: scheme.Columns, Key: part}}
		return err
	})
}

// migrate replaces one cell, unless anything of it has changed: whoever wrote meanwhile wins.
func (l *lazy) migrate(ctx context.Context, r relic) error {
	defer clear(r.plain)
	c := l.client
	scheme, ok := c.chain.Active(r.at.id)
	if !ok || r.column.at.Load() != r.at {
		return nil
	}
	m := c.maps.Get().(*pgtype.Map)
	defer c.maps.Put(m)
	h, err := cell.Parse(r.sealed)
	if err != nil {
		return err
	}
	if err := c.mayWrite(); err != nil {
		return err
	}
	old := exchange.Relic{Table: r.at.table, Column: r.at.sealed, Stored: r.at.stored(r.sealed), KeyID: h.KeyID, Match: r.at.key.Matches, Key: r.key,
		Tenant: c.chain.TenantColumn(r.at.id, scheme.Number)}
	if scheme.RowBound {
		err = r.bind(ctx, c, m, scheme, &old)
	}
	var tenant *string
	if err == nil && old.Tenant != "" {
		if tenant, err = old.Chosen(ctx, c.db); err == nil && tenant != nil {
			scheme, err = c.chain.TenantKey(ctx, c.db, scheme, *tenant)
		}
	}
	var sealed []byte
	switch {
	case err != nil || r.plain == nil && !scheme.SealsNulls(): // NULL needs no cell any more
	case r.plain == nil:
		sealed, err = c.chain.Keyring().SealNull(nil, scheme, r.cell)
	default:
		sealed, err = c.chain.Keyring().Seal(nil, scheme, r.cell, r.plain)
	}
	if err == nil { // a plaintext beside the cell stays: the value is the same
		err = old.Replace(ctx, c.db, ddl.WriterSetting, ddl.WriterRotation, r.at.stored(sealed), tenant)
	}
	switch {
	case errors.Is(err, exchange.ErrGone):
		l.lost.Add(1)
		return nil
	case err != nil:
		return fmt.Errorf("replace a cell: %w", err)
	}
	l.done.Add(1)
	return nil
}
