package shape

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

const (
	sampled = 20  // values of a column that are tried before anything begins
	looked  = 200 // that are looked at for some that tell anything

	mostBytes = 8 << 20 // of values of a leaf, and the last one's
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

// opens tries the values of one leaf until one opens to what can be sealed, when they have all been read: a server that
// opens them may take its time, and nobody is to wait for the table meanwhile.
func opens(ctx context.Context, db *pg.DB, query string, opener transform.Opener, failed *UnreadError) (opened bool, err error) {
	values, err := some(ctx, db, query, opener, sampled-failed.Tried)
	for i := 0; i < len(values) && err == nil && !opened; i++ {
		opened, err = failed.try(ctx, opener, values[i])
	}
	return opened, err
}

// some reads a few values that tell anything. They are read as a chunk's are, in the format that openers take, whatever
// way of asking the database's URL chooses.
func some(ctx context.Context, db *pg.DB, query string, opener transform.Opener, most int) (values [][]byte, err error) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	statement, bytes := pg.Statement{SQL: query, Results: []int16{pg.Format(true)}}, 0
	statement.AddText(strconv.Itoa(looked))
	statement.Row = func(wire [][]byte) error {
		if len(values) < most && bytes < mostBytes && opener.Tells(wire[0]) {
			values, bytes = append(values, slices.Clone(wire[0])), bytes+len(wire[0])
		}
		return nil
	}
	if err := conn.Read(ctx, pg.Pinned, statement); err != nil {
		return nil, fmt.Errorf("read a few values: %w", err)
	}
	return values, nil
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
