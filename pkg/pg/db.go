package pg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Querier runs statements: a [DB], a [Conn] or a [Tx]. Every server error it returns is an [*Error].
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Options of [Open]. The zero value works.
type Options struct {
	AppName  string          // application_name; defaults to "cipherfleet"
	MaxConns int32           // defaults to pgx's own: the greater of 4 and the number of CPUs
	Tracer   pgx.QueryTracer // optional
	Abroad   bool            // names without a schema mean what they mean to the role, as in an application's session; see [Home]
}

// DB is a pool of connections to one database. Safe for concurrent use.
type DB struct {
	pool   *pgxpool.Pool
	tracer pgx.QueryTracer
	keeps  bool // statements may stay prepared
	pooled bool
	abroad bool
}

// Open prepares a pool and proves that the database answers. Behind a pooler that keeps no session for a connection, no
// statement stays prepared, unless the URL names a default_query_exec_mode of its own.
func Open(ctx context.Context, url string, o Options) (*DB, error) {
	db, err := Later(ctx, url, o)
	if err != nil {
		return nil, err
	}
	shared, err := pooled(ctx, db.pool)
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("reach Postgres: %w", Safe(err))
	}
	if shared && db.keeps && !strings.Contains(url, "default_query_exec_mode") {
		config := db.pool.Config()
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		db.Close()
		if db, err = newDB(ctx, config, o); err != nil {
			return nil, err
		}
	}
	db.pooled = shared
	return db, nil
}

// Later prepares a pool that connects when it is first used.
func Later(ctx context.Context, url string, o Options) (*DB, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("parse the database URL: it is not a URL or key=value string that Postgres understands")
	}
	if o.AppName == "" {
		o.AppName = "cipherfleet"
	}
	if o.MaxConns > 0 {
		config.MaxConns = o.MaxConns
	}
	config.ConnConfig.RuntimeParams["application_name"] = o.AppName
	config.ConnConfig.RuntimeParams["client_encoding"] = "UTF8" // every statement, also outside of pinned transactions; poolers keep it
	config.ConnConfig.Tracer = o.Tracer
	config.ConnConfig.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {} // a notice may quote values
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	return newDB(ctx, config, o)
}

func newDB(ctx context.Context, config *pgxpool.Config, o Options) (*DB, error) {
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the pool: %w", Safe(err))
	}
	return &DB{pool: pool, tracer: o.Tracer, keeps: config.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement, abroad: o.Abroad}, nil
}

// Close waits until every connection is back and closes them.
func (db *DB) Close() { db.pool.Close() }

// Ping makes one round trip.
func (db *DB) Ping(ctx context.Context) error { return Safe(db.pool.Ping(ctx)) }

// Exec runs one statement at [Home], in a transaction of its own.
func (db *DB) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if db.abroad {
		tag, err := db.pool.Exec(ctx, sql, args...)
		return tag, Safe(err)
	}
	tx, err := db.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: beginAny})
	if err != nil {
		return pgconn.CommandTag{}, Safe(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit it does nothing
	tag, err := tx.Exec(ctx, sql, args...)
	if err != nil {
		return tag, Safe(err)
	}
	return tag, Safe(tx.Commit(ctx))
}

// Query runs one statement at [Home], in a transaction of its own that ends with its rows; the caller closes them.
func (db *DB) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if db.abroad {
		rows, err := db.pool.Query(ctx, sql, args...)
		return safeRows{rows}, Safe(err)
	}
	return db.queryHome(ctx, sql, args)
}

// QueryRow runs one statement for its first row, as [DB.Query] does.
func (db *DB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if db.abroad {
		return safeRow{db.pool.QueryRow(ctx, sql, args...)}
	}
	rows, err := db.queryHome(ctx, sql, args)
	return onlyRow{rows, err}
}

// Begin starts a read-write transaction at READ COMMITTED and at [Home], whatever the defaults of role and database are.
func (db *DB) Begin(ctx context.Context) (Tx, error) {
	tx, err := db.pool.BeginTx(ctx, writing(db.abroad))
	return Tx{tx}, unwritable(Safe(err))
}

// InTx runs f in a transaction of [DB.Begin] and commits it; an error or a panic of f rolls back.
func (db *DB) InTx(ctx context.Context, f func(Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit it does nothing
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// InReadTx runs f, which only reads, in a transaction at [Home] that works on a standby, too. Nothing is committed.
func (db *DB) InReadTx(ctx context.Context, f func(Tx) error) error {
	tx, err := db.beginReading(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", Safe(err))
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it only reads
	return f(Tx{tx})
}

// Acquire takes one connection out of the pool until [Conn.Release].
func (db *DB) Acquire(ctx context.Context) (*Conn, error) {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("acquire a connection: %w", Safe(err))
	}
	return &Conn{conn: conn, tracer: db.tracer, keeps: db.keeps, abroad: db.abroad}, nil
}

// Conn is one connection of a pool, for session state and the raw protocol. What it runs outside of a transaction is
// not at [Home].
type Conn struct {
	conn   *pgxpool.Conn
	tracer pgx.QueryTracer
	keeps  bool
	abroad bool
}

// Release gives the connection back; a broken one, or one inside a transaction, is closed instead.
func (c *Conn) Release() { c.conn.Release() }

// Discard closes the connection instead of giving it back.
func (c *Conn) Discard(ctx context.Context) {
	raw := c.conn.Hijack()
	raw.Close(ctx) //nolint:errcheck // it is thrown away
}

// Raw is the protocol connection below; errors it returns must pass through [Safe].
func (c *Conn) Raw() *pgconn.PgConn { return c.conn.Conn().PgConn() }

// Exec runs one statement.
func (c *Conn) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := c.conn.Exec(ctx, sql, args...)
	return tag, Safe(err)
}

// Query runs one statement and returns its rows; the caller closes them.
func (c *Conn) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := c.conn.Query(ctx, sql, args...)
	return safeRows{rows}, Safe(err)
}

// QueryRow runs one statement for its first row.
func (c *Conn) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return safeRow{c.conn.QueryRow(ctx, sql, args...)}
}

// Notified waits for a notification on a channel that this connection listens to; the end of ctx leaves the
// connection usable.
func (c *Conn) Notified(ctx context.Context) error {
	_, err := c.conn.Conn().WaitForNotification(ctx)
	return Safe(err)
}

// Begin starts a transaction of [DB.Begin]'s kind on this connection.
func (c *Conn) Begin(ctx context.Context) (Tx, error) {
	tx, err := c.conn.BeginTx(ctx, writing(c.abroad))
	return Tx{tx}, unwritable(Safe(err))
}

// BeginAbroad is [Conn.Begin] for statements that fire a user's triggers: see [Abroad].
func (c *Conn) BeginAbroad(ctx context.Context) (Tx, error) {
	tx, err := c.conn.BeginTx(ctx, writing(true))
	return Tx{tx}, unwritable(Safe(err))
}

// Tx is a transaction whose errors are safe. It is a [pgx.Tx].
type Tx struct{ pgx.Tx }

// Exec runs one statement.
func (t Tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := t.Tx.Exec(ctx, sql, args...)
	return tag, Safe(err)
}

// Query runs one statement and returns its rows; the caller closes them.
func (t Tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := t.Tx.Query(ctx, sql, args...)
	return safeRows{rows}, Safe(err)
}

// QueryRow runs one statement for its first row.
func (t Tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return safeRow{t.Tx.QueryRow(ctx, sql, args...)}
}

// CopyFrom streams rows into a table.
func (t Tx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	n, err := t.Tx.CopyFrom(ctx, table, columns, source)
	return n, Safe(err)
}

// Commit ends the transaction.
func (t Tx) Commit(ctx context.Context) error { return Safe(t.Tx.Commit(ctx)) }

type safeRows struct{ pgx.Rows }

func (r safeRows) Err() error             { return Safe(r.Rows.Err()) }
func (r safeRows) Scan(dest ...any) error { return Safe(r.Rows.Scan(dest...)) }
func (r safeRows) Values() ([]any, error) { v, err := r.Rows.Values(); return v, Safe(err) }

type safeRow struct{ pgx.Row }

func (r safeRow) Scan(dest ...any) error { return Safe(r.Row.Scan(dest...)) }
