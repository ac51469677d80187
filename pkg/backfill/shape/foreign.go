package shape

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

const (
	sampled = 20  // values of a column that are tried before anything begins
	looked  = 200 // that are looked at for some that tell anything
)

// UnreadError says that of a few values of a source that somebody else encrypted none opens: the keys are others, or the
// origin is not what was said of it.
type UnreadError struct {
	Tried int
	Err   error // why the last one did not open: a [transform.ErrValue]
}

// Error says how many were tried.
func (e *UnreadError) Error() string {
	return fmt.Sprintf("none of %d that were tried opens with the keys that are here", e.Tried)
}

// Opens is an [*UnreadError] if none of a few values of a column's source opens. One that opens is enough, and so is a
// source that holds none.
func Opens(ctx context.Context, db *pg.DB, relation pg.Relation, c work.Column) error {
	codec, err := c.Origin.Codec()
	if err != nil {
		return err
	}
	opener, failed := c.Origin.Opener(c.Reader, codec), &UnreadError{}
	for _, leaf := range relation.Leaves {
		opened, err := opens(ctx, db, foreignSample(relation, leaf.Table(), c), opener, failed)
		if opened || err != nil {
			return err
		}
		if failed.Tried >= sampled {
			break
		}
	}
	if failed.Tried == 0 {
		return nil
	}
	return failed
}

// opens tries the values of one leaf until one opens to what can be sealed. They are read as a chunk's are, in the format
// that openers take, whatever way of asking the database's URL chooses.
func opens(ctx context.Context, db *pg.DB, query string, opener transform.Opener, failed *UnreadError) (opened bool, err error) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	statement := pg.Statement{SQL: query, Results: []int16{pg.Format(true)}}
	statement.AddText(strconv.Itoa(looked))
	statement.Row = func(wire [][]byte) (err error) {
		if !opened && failed.Tried < sampled && opener.Tells(wire[0]) {
			opened, err = failed.try(ctx, opener, wire[0])
		}
		return err
	}
	if err := conn.Read(ctx, pg.Pinned, statement); err != nil {
		return false, fmt.Errorf("read a few values: %w", err)
	}
	return opened, nil
}

// try opens one value, and counts it if that is its own fault.
func (e *UnreadError) try(ctx context.Context, opener transform.Opener, in []byte) (opened bool, err error) {
	wire, err := opener.Wire(ctx, in)
	if err == nil {
		if _, err = opener.Codec.Encode(nil, wire); err == nil {
			return true, nil
		}
		err = fmt.Errorf("%w: %w", transform.ErrValue, err)
	}
	switch {
	case errors.Is(err, transform.ErrSealedNull):
		return true, nil
	case !errors.Is(err, transform.ErrValue):
		return false, err
	}
	e.Tried, e.Err = e.Tried+1, err
	return false, nil
}

// Readable proves the keys of a job whose sources somebody else encrypted on a few values of each, before anything is
// written: under a wrong key every row would be set aside. It is a [*work.NoForeignKeyError] where none opens.
func Readable(ctx context.Context, db *pg.DB, job work.Job) error {
	for _, c := range job.Spec.Columns {
		if c.Reader == nil || c.Reverse {
			continue
		}
		relation, err := pg.Inspect(ctx, db, job.Spec.Schema, job.Spec.Table)
		var gone *pg.NotFound
		if errors.As(err, &gone) || err == nil && relation.ColumnAt(c.SourceAttnum).Name != c.Source {
			continue // whoever takes its shape says so
		}
		if err == nil {
			err = Opens(ctx, db, relation, c)
		}
		var unread *UnreadError
		if errors.As(err, &unread) {
			return work.Unread(c, unread)
		}
		if err != nil {
			return fmt.Errorf("try the keys of %s: %w", c.LogColumn, err)
		}
	}
	return nil
}
