package client

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Again says whether a statement that failed with err is worth another try: it was made for where a column stood, and
// the column has moved. The client has looked anew then. In a transaction it is the whole transaction that is tried
// again.
func (c *Client) Again(ctx context.Context, err error) bool {
	if !moved(err) {
		return false
	}
	return errors.Join(c.chain.Refresh(ctx), c.look(ctx, nil)) == nil
}

const mostTries = 4 // of one operation: each column may move while it is tried again, and each connection keeps its plans

// Do runs f, and runs it again when a column moved under it: a cutover, a rollback, a drop, a scheme that was retired.
// What f does is done once: give it one statement, or a transaction of its own from beginning to end.
func (c *Client) Do(ctx context.Context, f func(context.Context) error) error {
	err := f(ctx)
	for range mostTries - 1 {
		if err == nil || !c.Again(ctx, err) {
			return err
		}
		err = f(ctx)
	}
	return err
}

// moved says that a name or a type is not what it was, or that one of our own constraints refused a form of value that
// was right before. None of these leaves anything written.
func moved(err error) bool {
	if errors.Is(err, ErrNoColumns) { // they may have another name, or another scheme others
		return true
	}
	const undefinedColumn, mismatch, changedPlan, check = "42703", "42804", "0A000", "23514"
	switch pg.Code(err) {
	case undefinedColumn, mismatch, changedPlan:
		return true
	case check:
		return strings.HasPrefix(constraint(err), "cipherfleet_")
	}
	return false
}

func constraint(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.ConstraintName
	}
	var safe *pg.Error
	if errors.As(err, &safe) {
		return safe.Constraint
	}
	return ""
}
