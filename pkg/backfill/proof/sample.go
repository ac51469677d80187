package proof

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const sampleRun = 16 // blocks that are read in one go

// sample reads percent of the leaf's blocks: of every 100/percent runs of neighbouring blocks one, picked at random, and
// at least one of all. So every block is as likely as every other, and every region of the table is looked at.
func (w *walk) sample(ctx context.Context, percent float64) error {
	blocks := int64(0)
	const blocksSQL = `SELECT pg_catalog.pg_relation_size($1::pg_catalog.oid) OPERATOR(pg_catalog./) pg_catalog.current_setting('block_size')::pg_catalog.int8`
	if err := w.conn.QueryRow(ctx, blocksSQL, w.Shape.Leaf).Scan(&blocks); err != nil {
		return err
	}
	runs := (blocks + sampleRun - 1) / sampleRun
	stride := 100 / min(percent, 100)
	for stratum := range int64(math.Ceil(float64(runs) / stride)) {
		first := float64(stratum) * stride
		last := min(first+stride, float64(runs))
		run := min(int64(first+rand.Float64()*(last-first)), runs-1)
		if err := w.run(ctx, uint32(run*sampleRun)); err != nil {
			return err
		}
	}
	return nil
}

// run reads the rows of neighbouring blocks, in the order in which they lie.
func (w *walk) run(ctx context.Context, block uint32) error {
	at, through := place(block), place(block+sampleRun)
	for {
		p, err := w.page(ctx, (*shape.Shape).SampleRunSQL, func(s *pg.Statement) {
			s.Add(at, pgtype.TIDOID, 1)
			s.Add(through, pgtype.TIDOID, 1)
		})
		if err != nil || p.end {
			return err
		}
		at = p.place
	}
}

// place is the wire form of the ctid before the first row of a block.
func place(block uint32) []byte {
	return append(binary.BigEndian.AppendUint32(nil, block), 0, 0)
}
