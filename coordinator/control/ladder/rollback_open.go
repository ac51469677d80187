package ladder

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// mostUnderLock is how many cells of a leaf a rollback opens while everybody waits: some ten milliseconds. Where
// applications write all the time, there are always a few between the end of the job and the lock.
const mostUnderLock = 500

// opener opens those cells. The zero opener has no key, and leaves them to the job.
type opener struct {
	keyring *cell.Keyring
	shapes  []*shape.Shape // of the leaves
}

// opener prepares what can be prepared before the lock.
func (l *Ladder) opener(ctx context.Context, p RollbackPlan) (o opener, err error) {
	back, err := p.OriginBack(ctx, l.DB, true)
	if err != nil || l.KEK == nil || p.Origin != nil && back == nil {
		return o, err
	}
	keys, err := lifecycle.LoadKeys(ctx, l.DB, l.KEK, append(back.Of(), p.ID)...)
	if err != nil {
		return o, err
	}
	scheme, has := keys.Active[p.ID]
	if !has {
		return o, nil // the job says what is wrong
	}
	o.keyring = keys.Keyring
	column := reverseColumn(p.Standing, scheme.Number)
	column.Origin = back
	job := work.Job{Relation: p.Relation.OID, Spec: work.Spec{Schema: p.Relation.Schema, Table: p.Relation.Name, Key: p.column.Key,
		Columns: []work.Column{column}, UserTriggers: preflight.TriggersWord(p.skip)}}
	for _, leaf := range p.Relation.Leaves {
		shape, err := shape.Open(ctx, l.DB, job, leaf.OID, o.keyring)
		if err != nil {
			return opener{}, err
		}
		o.shapes = append(o.shapes, shape)
	}
	return o, nil
}

// open opens what is behind, under the caller's lock. errBehind: there is too much, or something that resists; the job
// finds out.
func (o opener) open(ctx context.Context, tx pg.Tx) (rows int64, err error) {
	if o.keyring == nil {
		return 0, errBehind
	}
	for _, shape := range o.shapes {
		n, err := backfill.Within(ctx, tx, shape, o.keyring, mostUnderLock)
		if errors.Is(err, backfill.ErrMany) || backfill.Resists(err) {
			return 0, errBehind
		}
		if err != nil {
			return 0, err
		}
		rows += n
	}
	return rows, nil
}
