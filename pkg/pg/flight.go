package pg

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Statement is one statement of a flight, with its parameters and results in raw wire form.
type Statement struct {
	SQL     string
	Params  [][]byte // nil is NULL
	OIDs    []uint32 // the parameters' types; 0 lets the server infer
	Formats []int16  // of the parameters: 0 text, 1 binary
	Results []int16  // wanted formats of the result columns
	Keep    bool     // see [Conn.Flight]

	Row      func(values [][]byte) error // called for each row; the slices live until it returns
	Affected *int64                      // receives the rows affected, if set
}

// Add appends one parameter; value nil is NULL, oid 0 lets the server infer the type.
func (s *Statement) Add(value []byte, oid uint32, format int16) {
	s.Params, s.OIDs, s.Formats = append(s.Params, value), append(s.OIDs, oid), append(s.Formats, format)
}

// Format is the protocol's format code of a parameter or a result.
func Format(isBinary bool) int16 {
	if isBinary {
		return 1
	}
	return 0
}

// AddText appends one parameter in its text form, its type inferred.
func (s *Statement) AddText(value string) { s.Add([]byte(value), 0, 0) }

// Flight sends the statements in one go and waits for all answers: one round trip. The first failure is returned, the
// statements behind it did not run. A transaction that was open stays open, failed or not. A statement is planned for
// its very parameters, unless it says Keep: then the connection keeps it prepared, for the next flight that sends the
// same text, and Postgres may keep its plan. Where the database URL asks for default_query_exec_mode=exec (for the sake
// of a pooler that hands out another session per transaction) nothing is kept.
func (c *Conn) Flight(ctx context.Context, statements ...Statement) error {
	if c.tracer == nil {
		return c.fly(ctx, statements)
	}
	ctx = c.tracer.TraceQueryStart(ctx, c.conn.Conn(), pgx.TraceQueryStartData{SQL: texts(statements)})
	err := c.fly(ctx, statements)
	c.tracer.TraceQueryEnd(ctx, c.conn.Conn(), pgx.TraceQueryEndData{Err: err})
	return err
}

// Read flies one statement that only reads, in a transaction of its own behind settings that stay prepared. No
// transaction stays open behind it.
func (c *Conn) Read(ctx context.Context, settings string, s Statement) error {
	err := c.Flight(ctx, Statement{SQL: "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"}, Statement{SQL: settings, Keep: true}, s, Statement{SQL: "COMMIT"})
	if err != nil {
		_, _ = c.Exec(context.WithoutCancel(ctx), "ROLLBACK") // a dead connection is thrown away by its owner
	}
	return err
}

// texts is what a trace shows of a flight: the statements, without their parameters.
func texts(statements []Statement) string {
	list := make([]string, len(statements))
	for i, s := range statements {
		list[i] = s.SQL
	}
	return strings.Join(list, ";\n")
}

func (c *Conn) fly(ctx context.Context, statements []Statement) error {
	names, err := c.prepare(ctx, statements)
	if err != nil {
		return err
	}
	pipeline := c.Raw().StartPipeline(ctx)
	for i, s := range statements {
		if names[i] != "" {
			pipeline.SendQueryPrepared(names[i], s.Params, s.Formats, s.Results)
			continue
		}
		pipeline.SendQueryParams(s.SQL, s.Params, s.OIDs, s.Formats, s.Results)
	}
	if err := pipeline.Sync(); err != nil {
		pipeline.Close() //nolint:errcheck // the first error is the one that matters
		return Safe(err)
	}
	var first error
	for i := 0; i < len(statements) && first == nil; i++ {
		first = collect(pipeline, statements[i])
	}
	closing := pipeline.Close()
	if first == nil {
		first = closing
	}
	if Code(first) == unknownStatement {
		c.forget()
	}
	return Safe(first)
}

func collect(pipeline *pgconn.Pipeline, s Statement) error {
	answer, err := pipeline.GetResults()
	if err != nil {
		return err
	}
	rows, ok := answer.(*pgconn.ResultReader)
	if !ok {
		return errors.New("read the flight's answers: the server's answer is out of order")
	}
	var refused error
	for rows.NextRow() {
		if s.Row != nil && refused == nil {
			refused = s.Row(rows.Values())
		}
	}
	tag, err := rows.Close()
	if err != nil {
		return err
	}
	if s.Affected != nil {
		*s.Affected = tag.RowsAffected()
	}
	return refused
}
