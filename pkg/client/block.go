package client

import (
	"context"
	"fmt"
	"sync"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Block draws the keys of rows to come from the sequence of an identity or serial column, many at a time: a row-bound
// cell needs its row's key before the row is there. Keys that are drawn and not used are lost, as with any sequence. It
// is safe for concurrent use.
type Block struct {
	client *Client
	table  pg.Table
	column string
	size   int

	mu   sync.Mutex
	keys []int64 // guarded by mu
}

// Block is for one column of a table, drawing size keys at a time. A column that is GENERATED ALWAYS takes such a key
// only from INSERT … OVERRIDING SYSTEM VALUE.
func (c *Client) Block(table, column string, size int) (*Block, error) {
	parsed, err := parseTable(table)
	if err != nil {
		return nil, err
	}
	if size < 1 {
		return nil, fmt.Errorf("a block of %d keys: it takes one at least", size)
	}
	return &Block{client: c, table: parsed, column: column, size: size}, nil
}

const drawSQL = `SELECT pg_catalog.nextval(s.name::pg_catalog.regclass) FROM pg_catalog.pg_get_serial_sequence($1, $2) AS s (name)
 CROSS JOIN pg_catalog.generate_series(1, $3) WHERE s.name IS NOT NULL`

// Next is a key that nobody has used.
func (b *Block) Next(ctx context.Context) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.keys) == 0 {
		keys, err := b.draw(ctx)
		if err != nil {
			return 0, fmt.Errorf("draw keys of %s.%s, which takes USAGE on its sequence: %w", b.table, b.column, err)
		}
		b.keys = keys
	}
	key := b.keys[0]
	b.keys = b.keys[1:]
	return key, nil
}

func (b *Block) draw(ctx context.Context) (keys []int64, err error) {
	rows, err := b.client.db.Query(ctx, drawSQL, b.table.SQL(), b.column, b.size)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var key int64
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if rows.Err() == nil && len(keys) == 0 {
		return nil, fmt.Errorf("the column has no sequence")
	}
	return keys, rows.Err()
}
