package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// application writes to the table as long as it runs: its old version all the time, its new one beside it as soon as
// there is a key to seal with.
type application struct {
	db      *pg.DB
	rows    int64 // ids up to this one exist, but for those deleted
	old     atomic.Int64
	sealing atomic.Int64
	slowest atomic.Int64 // nanoseconds
	closing chan struct{}
	running errgroup.Group
}

const pace = 8 * time.Millisecond // between two writes of one version

// run lets one version write, one statement after the other, until the application is told to stop. What it counts
// are the writes that were committed; the first that is refused ends the demo.
func (a *application) run(ctx context.Context, fail context.CancelCauseFunc, count *atomic.Int64, write func(context.Context) error) {
	a.running.Go(func() error {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-a.closing:
				return nil
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			begun := time.Now()
			if err := write(ctx); err != nil && ctx.Err() == nil {
				fail(fmt.Errorf("the application was refused a write: %w", err))
				return err
			}
			count.Add(1)
			a.slower(time.Since(begun))
		}
	})
}

func (a *application) slower(took time.Duration) {
	for {
		slowest := a.slowest.Load()
		if int64(took) <= slowest || a.slowest.CompareAndSwap(slowest, int64(took)) {
			return
		}
	}
}

// stop lets each version finish the write in hand. Stopping twice is no error.
func (a *application) stop() {
	select {
	case <-a.closing:
	default:
		close(a.closing)
	}
	a.running.Wait() //nolint:errcheck // whoever was refused has told
}

func (a *application) writes() int64 { return a.old.Load() + a.sealing.Load() }

// What the old version does: it has never heard of a column email_encrypted.
const (
	oldUpdateSQL = `UPDATE public.users SET email = $2, updated_at = now() WHERE id = $1`
	oldTouchSQL  = `UPDATE public.users SET newsletter = NOT newsletter, updated_at = now() WHERE id = $1`
	oldInsertSQL = `INSERT INTO public.users (name, email, country, newsletter) VALUES ('New Customer', $1, 'SE', true)`
	oldDeleteSQL = `DELETE FROM public.users WHERE id = $1`
)

// writeOld does what fits the dice: half the writes give somebody a new e-mail.
func (a *application) writeOld(ctx context.Context) (err error) {
	id := 1 + rand.Int64N(a.rows)
	switch dice := rand.IntN(20); {
	case dice < 10:
		_, err = a.db.Exec(ctx, oldUpdateSQL, id, address("moved"))
	case dice < 16:
		_, err = a.db.Exec(ctx, oldTouchSQL, id)
	case dice < 19:
		_, err = a.db.Exec(ctx, oldInsertSQL, address("new"))
	case id > protected:
		_, err = a.db.Exec(ctx, oldDeleteSQL, id)
	}
	return err
}

const protected = 800 // rows at the beginning that are not deleted, because the sample is taken from them

func address(who string) string { return fmt.Sprintf("%s.%08x@example.net", who, rand.Uint32()) }

// What the new version does, in a transaction that says so: otherwise its cells would be taken for leftovers.
const (
	newWriterSQL = `SELECT set_config('` + ddl.WriterSetting + `', '` + ddl.WriterClient + `', true)`
	newUpdateSQL = `UPDATE public.users SET email = $2, email_encrypted = $3, updated_at = now() WHERE id = $1`
	newIDSQL     = `SELECT nextval(pg_get_serial_sequence('public.users', 'id'))`
	newInsertSQL = `INSERT INTO public.users (id, name, email, email_encrypted, country, newsletter) VALUES ($1, 'New Customer', $2, $3, 'SE', true)`
)

func (a *application) writeNew(seal *sealer) func(context.Context) error {
	return func(ctx context.Context) error {
		id, statement := 1+rand.Int64N(a.rows), newUpdateSQL
		if rand.IntN(4) == 0 {
			statement = newInsertSQL
			if err := a.db.QueryRow(ctx, newIDSQL).Scan(&id); err != nil {
				return err
			}
		}
		email := address("sealed")
		sealed, err := seal.seal(id, email)
		if err != nil {
			return err
		}
		return a.db.InTx(ctx, func(tx pg.Tx) error {
			if _, err := tx.Exec(ctx, newWriterSQL); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, statement, id, email, sealed)
			return err
		})
	}
}

// sealer is what an application needs to read and write cells of users.email by itself.
type sealer struct {
	keyring *cell.Keyring
	scheme  cell.Scheme
}

// openSealer loads the key that the coordinator has made for a column.
func (s *stage) openSealer(ctx context.Context, column uint32) (*sealer, error) {
	keys, err := lifecycle.LoadKeys(ctx, s.db, s.kek, column)
	if err != nil {
		return nil, err
	}
	return &sealer{keyring: keys.Keyring, scheme: keys.Active[column]}, nil
}

// at is the cell's place: the column and the row's key.
func (s *sealer) at(id int64) cell.Address {
	return cell.Address{Column: s.scheme.Column, Key: cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), id)}
}

func (s *sealer) seal(id int64, email string) ([]byte, error) {
	plain, err := s.scheme.Codec.Encode(nil, []byte(email))
	if err != nil {
		return nil, err
	}
	return s.keyring.Seal(nil, s.scheme, s.at(id), plain)
}

// open returns what a cell holds; nil for a NULL.
func (s *sealer) open(id int64, sealed []byte) (*string, error) {
	if sealed == nil {
		return nil, nil
	}
	plain, _, err := s.keyring.Open(nil, s.at(id), sealed)
	email := string(plain)
	return &email, err
}
