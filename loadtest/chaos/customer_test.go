package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/client"
)

// customer is an application with a client, in a process of its own: this test's binary, started again. It writes rows
// that are its own and reads everybody's, and keeps a record of both: what it is about to write, before it does, and
// what became of that, afterwards.
type customer struct {
	Seed        uint64
	Number      int // rows of the beginning are a customer's by the remainder of their number
	Name        string
	URL, KEK    string
	Poll, Lease time.Duration
	Migrate     float64
	Rows        int64  // of the beginning
	Cells       string // the column of the cells
	Search      bool   // the column gets a blind index
	Bound       bool   // rows have a firm, which their cells come to be bound to
	Nulls       bool   // some values are NULL, and some are empty

	chance   *rand.Rand
	pool     *pgxpool.Pool
	client   *client.Client
	people   client.Columns
	versions map[int64]int
	drawn    int64  // rows added
	old      []byte // a cell as it was when the customer came, of row oldRow
	tokens   searching
	firms    map[int64]int32 // of rows that only it writes
}

const customers = 4

// What a customer does with a row, as its record says.
const (
	intent  = "intent"  // it is about to write
	acked   = "acked"   // the write was acknowledged
	refused = "refused" // the client wrote nothing, because its lease had run out
	looked  = "looked"  // the row was read
)

// recordSQL is where it is kept. Nothing in it is ever changed.
const recordSQL = `CREATE TABLE chaos.record (customer int NOT NULL, id bigint NOT NULL, version int NOT NULL, act text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX ON chaos.record (id, version);
CREATE TABLE chaos.farewell (customer int NOT NULL, old text NOT NULL)`

// portrait is the value of a version of a row: whoever knows the seed knows it.
func portrait(seed uint64, id int64, version int) string {
	r := chance(seed, uint64(id)<<16+uint64(version))
	return fmt.Sprintf("%s row %d version %d %016x%s", plainMark, id, version, r.Uint64(), strings.Repeat("é", r.IntN(60)))
}

// recognize is the version of a value that was written to a row by a customer.
func recognize(seed uint64, id int64, value string) (version int, err error) {
	var row int64
	if _, err := fmt.Sscanf(value, plainMark+" row %d version %d", &row, &version); err != nil || row != id || value != portrait(seed, id, version) {
		return 0, fmt.Errorf("row %d holds what nobody wrote into it", id)
	}
	return version, nil
}

// beCustomer is what this test's binary does when it is one.
func beCustomer(file string) int {
	content, err := os.ReadFile(file)
	c := &customer{versions: map[int64]int{}, firms: map[int64]int32{}}
	if err == nil {
		err = json.Unmarshal(content, c)
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		err = c.live(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// live goes on until the first error, or until ctx ends.
func (c *customer) live(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	if err := c.open(work); err != nil {
		return err
	}
	defer c.pool.Close()
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(work, seedTime) // it may be stopped for long in the middle
		err := c.deed(once)
		cancel()
		if err != nil {
			return errors.Join(err, c.client.Close(work))
		}
		rest(ctx, between(c.chance, time.Millisecond, 12*time.Millisecond))
	}
	return errors.Join(c.leave(work), c.client.Close(work))
}

func (c *customer) open(ctx context.Context) error {
	c.chance = chance(c.Seed, forWriters+uint64(c.Number))
	kek, err := kms.Open(ctx, c.KEK, "")
	if err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return err
	}
	config.ConnConfig.RuntimeParams["application_name"] = c.Name
	if c.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	if c.client, err = client.Open(ctx, c.pool, client.Config{KEK: kek, Name: c.Name, Poll: c.Poll, Lease: c.Lease, Migrate: c.Migrate}); err != nil {
		return err
	}
	if c.people, err = c.client.Table(ctx, "public.people", "email"); err != nil {
		return err
	}
	return c.pool.QueryRow(ctx, "SELECT "+c.Cells+" FROM people WHERE id = $1", c.own(0)).Scan(&c.old)
}

// own is the n-th of the rows of the beginning that are the customer's.
func (c *customer) own(n int64) int64 { return int64(c.Number) + customers*(n+1) }

// deed is one thing that the customer does.
func (c *customer) deed(ctx context.Context) error {
	r := c.chance
	switch k := r.IntN(100); {
	case k < 45:
		id := c.own(r.Int64N(c.Rows/customers - 1))
		if c.Search && c.Number == scribbler && k%2 == 0 {
			return c.write(ctx, []int64{id}, false, c.scribble)
		}
		if c.Bound && k < 15 {
			return c.move(ctx, id)
		}
		return c.write(ctx, []int64{id}, true, func(ctx context.Context, id int64, value any) error {
			tag, err := c.pool.Exec(ctx, c.says().update, c.with(id, value)...)
			if err == nil && tag.RowsAffected() != 1 {
				err = fmt.Errorf("an update of %d rows", tag.RowsAffected())
			}
			return err
		})
	case k < 55:
		return c.write(ctx, c.fresh(1), true, func(ctx context.Context, id int64, value any) error {
			_, err := c.pool.Exec(ctx, c.says().insert, c.with(id, value)...)
			return err
		})
	case k < 60:
		return c.copy(ctx, c.fresh(2+r.IntN(10)))
	case k < 70 && c.Search:
		id := c.own(r.Int64N(c.Rows/customers - 1))
		if c.drawn > 0 && r.IntN(3) == 0 {
			id = c.added(r.Int64N(c.drawn))
		}
		return c.lookUp(ctx, id)
	case k < 90:
		id := 1 + r.Int64N(c.Rows)
		if c.drawn > 0 && r.IntN(3) == 0 {
			id = c.added(r.Int64N(c.drawn))
		}
		return c.read(ctx, id, id)
	}
	from := 1 + r.Int64N(c.Rows-20)
	return c.read(ctx, from, from+19)
}

// fresh are keys of rows to come.
func (c *customer) fresh(n int) []int64 {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = c.added(c.drawn)
		c.drawn++
	}
	return ids
}

func (c *customer) added(n int64) int64 { return int64(c.Number+1)*1_000_000 + n }

// write has one row written, with its tokens or without, and recorded.
func (c *customer) write(ctx context.Context, ids []int64, tokens bool, how func(ctx context.Context, id int64, value any) error) error {
	return c.recorded(ctx, ids, tokens, func(ctx context.Context) error {
		return how(ctx, ids[0], c.value(ids[0]))
	})
}

// copy adds rows by COPY.
func (c *customer) copy(ctx context.Context, ids []int64) error {
	return c.recorded(ctx, ids, true, func(ctx context.Context) error {
		rows, names := make([][]any, len(ids)), []string{"id", "email", "firm"}
		for i, id := range ids {
			rows[i] = c.with(id, c.value(id))[1:]
		}
		return pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
			_, err := c.people.Copy(ctx, tx, names[:len(rows[0])], pgx.CopyFromRows(rows))
			return err
		})
	})
}

// recorded gives each row its next version and has it written. That the lease has run out is no failure: the
// application is told that nothing was written, and does something else.
func (c *customer) recorded(ctx context.Context, ids []int64, tokens bool, write func(context.Context) error) error {
	for _, id := range ids {
		c.versions[id]++
	}
	if err := c.note(ctx, ids, intent); err != nil {
		return err
	}
	c.tokens.sent(ids, c.versions, tokens && c.Search && c.ready())
	err := c.client.Do(ctx, write)
	switch {
	case err == nil:
		return c.note(ctx, ids, acked)
	case errors.Is(err, client.ErrLeaseExpired):
		c.tokens.sent(ids, c.versions, false)
		return c.note(ctx, ids, refused)
	}
	return fmt.Errorf("write row %d: %w", ids[0], err)
}

func (c *customer) note(ctx context.Context, ids []int64, act string) error {
	versions := make([]int, len(ids))
	for i, id := range ids {
		versions[i] = c.versions[id]
	}
	_, err := c.pool.Exec(ctx, `INSERT INTO chaos.record (customer, id, version, act) SELECT $1, i, v, $4 FROM unnest($2::bigint[], $3::int[]) AS u (i, v)`, c.Number, ids, versions, act)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

const ackedSQL = `SELECT id, max(version) FROM chaos.record WHERE id BETWEEN $1 AND $2 AND act = 'acked' GROUP BY id`

// read reads rows, which hold what was acknowledged before it began to read, or what came later.
func (c *customer) read(ctx context.Context, from, to int64) error {
	least := map[int64]int{}
	var id int64
	var version int
	rows, err := c.pool.Query(ctx, ackedSQL, from, to)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&id, &version}, func() error { least[id] = version; return nil })
	}
	if err != nil {
		return fmt.Errorf("read the record: %w", err)
	}
	have := map[int64]*string{}
	err = c.client.Do(ctx, func(ctx context.Context) error {
		clear(have)
		rows, err := c.people.Query(ctx, c.pool, c.says().read, from, to)
		if err != nil {
			return err
		}
		var value *string
		into := []any{&id, &value}
		if c.Bound {
			into = []any{&id, nil, &value}
		}
		_, err = pgx.ForEachRow(rows, into, func() error { have[id] = value; return nil })
		return err
	})
	if err != nil {
		return fmt.Errorf("read rows %d to %d: %w", from, to, err)
	}
	if c.Nulls {
		return errors.Join(c.compareBlanks(ctx, have, least), c.note(ctx, []int64{from}, looked))
	}
	return errors.Join(c.compare(have, least), c.note(ctx, []int64{from}, looked))
}

func (c *customer) compare(have map[int64]*string, least map[int64]int) error {
	for id, value := range have {
		if value == nil {
			return fmt.Errorf("row %d has no value", id)
		}
		version, err := recognize(c.Seed, id, *value)
		if err != nil {
			return err
		}
		if version < least[id] {
			return fmt.Errorf("row %d: version %d is read after %d was acknowledged", id, version, least[id])
		}
	}
	for id := range least {
		if _, there := have[id]; !there {
			return fmt.Errorf("row %d was acknowledged and is not there", id)
		}
	}
	return nil
}

// leave tells what becomes of a cell that the customer has kept since it came.
func (c *customer) leave(ctx context.Context) error {
	if err := c.client.Refresh(ctx); err != nil {
		return err
	}
	said := "opened"
	if err := client.In[string](c.people[0], c.own(0)).Scan(c.old); errors.Is(err, client.ErrKeyRetired) {
		said = "retired"
	} else if err != nil {
		said = "another error"
	}
	_, err := c.pool.Exec(ctx, `INSERT INTO chaos.farewell (customer, old) VALUES ($1, $2)`, c.Number, said)
	return err
}
