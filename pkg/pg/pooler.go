package pg

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Pooled says that a pooler hands each transaction whatever session is free: locks and settings of a session are
// somebody else's then. Statements do not stay prepared on such a pool.
func (db *DB) Pooled() bool { return db.pooled }

const rounds = 10 // of looking for a session that two connections have

// pooled proves that the database answers, and finds out whether connections have sessions of their own. Who speaks to
// the server itself knows its session's process id; a pooler makes one up. It may yet keep a session for each
// connection: that it does not shows when two of them are answered by one.
func pooled(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	first, err := pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer first.Release()
	own, err := session(ctx, first.Conn())
	if err != nil || own == first.Conn().PgConn().PID() {
		return false, err
	}
	second, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	if err != nil {
		return false, err
	}
	defer second.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has nothing to lose
	for range rounds {
		for _, conn := range []*pgx.Conn{second, first.Conn()} {
			id, err := session(ctx, conn)
			if err != nil || (id == own) == (conn == second) {
				return err == nil, err
			}
		}
	}
	return false, nil
}

// session is the process id of the session that answers, asked for in a way that leaves nothing prepared.
func session(ctx context.Context, conn *pgx.Conn) (uint32, error) {
	results, err := conn.PgConn().Exec(ctx, "SELECT pg_catalog.pg_backend_pid()").ReadAll()
	if err != nil {
		return 0, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return 0, &pgconn.PgError{Code: "08P01"} // protocol violation
	}
	id, err := strconv.ParseUint(string(results[0].Rows[0][0]), 10, 32)
	return uint32(id), err
}
