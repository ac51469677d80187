package chaos

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// index has the index filled and built. The worker that is in the middle of that is killed, and started again.
func (w *rotation) index(ctx context.Context) {
	w.t.Helper()
	built := make(chan error, 1)
	go func() {
		built <- w.command(ctx, "index", "build", "people.email", emailIndex, "--chunk-rows", "25", "--user-triggers", "fire")
	}()
	struck := w.atWork(`SELECT count(*) > 0 FROM cipherfleet.jobs WHERE state = 'running' AND spec->'columns'->0->'index' IS NOT NULL`)
	struck.kill()
	w.note("%s is killed while it makes tokens: %d rows have none", struck.name, testenv.One[int](w.t, w.db, untokenedSQL(w.cells)))
	rest(ctx, between(w.r, 0, 500*time.Millisecond))
	w.must(struck.start())
	w.must(<-built)
}

func untokenedSQL(cells string) string {
	return "SELECT count(*) FROM people WHERE (" + emailIndex + " IS NULL) <> (" + cells + " IS NULL)"
}

// everyRowIsFound: some customers left rows without their token. When the fleet has made them, each row has that of its
// value; and whoever asks finds the rows of the oracle, and no others.
func (w *rotation) everyRowIsFound(ctx context.Context) {
	w.t.Helper()
	if n := testenv.One[int64](w.t, w.db, `SELECT last_value FROM cipherfleet.token_1_missed WHERE is_called`); n == 0 {
		w.t.Error("nobody left a row without its token")
	}
	w.note("%d rows have no token", testenv.One[int](w.t, w.db, untokenedSQL(w.cells)))
	w.must(w.command(ctx, "index", "build", "people.email", emailIndex))
	w.everyTokenIsRight(ctx)
	w.lookupsFindTheOracle(ctx)
}

// everyTokenIsRight makes the token of each row again, with keys loaded anew, of the value that it has by the record.
func (w *rotation) everyTokenIsRight(ctx context.Context) {
	w.t.Helper()
	keys, err := lifecycle.LoadKeys(ctx, w.db.DB, w.kek)
	w.must(err)
	indexes, err := lifecycle.Indexes(ctx, w.db.DB, w.column)
	w.must(err)
	w.must(keys.AddIndex(ctx, w.kek, indexes[0]))
	blinder, err := keys.Keyring.Blinder(indexes[0].ID)
	w.must(err)
	wrong, checked := 0, 0
	for id, r := range w.tokened(ctx) {
		opened, _, err := keys.Keyring.Open(nil, cell.Address{Column: w.column, Key: address([]any{id})}, r.cell)
		w.must(err)
		version, err := recognize(w.plan.seed, id, string(opened))
		w.must(err)
		again, err := blinder.Token(nil, []byte(portrait(w.plan.seed, id, version)))
		w.must(err)
		if checked++; !bytes.Equal(again, r.token) {
			if wrong++; wrong <= 5 {
				w.t.Errorf("row %d, version %d, has another token than that of its value (none: %t)", id, version, r.token == nil)
			}
		}
	}
	w.note("%d of %d rows have the token of their value", checked-wrong, checked)
	if checked < founders {
		w.t.Errorf("%d rows were compared", checked)
	}
}

type tokened struct{ cell, token []byte }

func (w *rotation) tokened(ctx context.Context) map[int64]tokened {
	w.t.Helper()
	all := map[int64]tokened{}
	rows, err := w.db.Query(ctx, "SELECT id, "+w.cells+", "+emailIndex+" FROM people")
	w.must(err)
	var id int64
	var r tokened
	_, err = pgx.ForEachRow(rows, []any{&id, &r.cell, &r.token}, func() error {
		all[id] = tokened{bytes.Clone(r.cell), bytes.Clone(r.token)}
		return nil
	})
	w.must(err)
	return all
}

// lookupsFindTheOracle asks for what is there, some at a time, and for what is there no more; and tries to write a value twice.
func (w *rotation) lookupsFindTheOracle(ctx context.Context) {
	w.t.Helper()
	pool, err := pgxpool.New(ctx, w.postgres.URL("postgres"))
	w.must(err)
	defer pool.Close()
	c, err := client.Open(ctx, pool, client.Config{KEK: w.kek, Name: "oracle"})
	w.must(err)
	defer c.Close(ctx) //nolint:errcheck // its lease ends by itself
	people, err := c.Table(ctx, "public.people", "email")
	w.must(err)
	present := w.versions(ctx, people, pool)
	var values, gone []string
	var ids []int64
	for id, version := range present {
		ids, values = append(ids, id), append(values, portrait(w.plan.seed, id, version))
		for v := range version {
			gone = append(gone, portrait(w.plan.seed, id, v))
		}
	}
	const some = 50
	at := 0
	for list := range slices.Chunk(values, some) {
		w.finds(ctx, people, pool, list, ids[at:at+len(list)])
		at += len(list)
	}
	for list := range slices.Chunk(gone, 10*some) {
		w.finds(ctx, people, pool, list, nil)
	}
	w.note("%d values are found where they are, and %d older ones nowhere", len(values), len(gone))
	_, err = pool.Exec(ctx, `INSERT INTO people (id, {email ...}) VALUES ($1, {email $2 key $1})`, people, int64(-1), values[0])
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) || refusal.Code != "23505" {
		w.t.Errorf("a value is written twice: %v", err)
	}
}

func (w *rotation) versions(ctx context.Context, people client.Columns, pool *pgxpool.Pool) map[int64]int {
	w.t.Helper()
	present := map[int64]int{}
	rows, err := people.Query(ctx, pool, `SELECT id, {email} FROM people`)
	w.must(err)
	var id int64
	var value string
	_, err = pgx.ForEachRow(rows, []any{&id, &value}, func() (err error) {
		present[id], err = recognize(w.plan.seed, id, value)
		return err
	})
	w.must(err)
	return present
}

// finds compares what is found by values with the rows that have them.
func (w *rotation) finds(ctx context.Context, people client.Columns, pool *pgxpool.Pool, values []string, want []int64) {
	w.t.Helper()
	rows, err := people.Query(ctx, pool, `SELECT id FROM people WHERE {email by `+emailIndex+` $1}`, values)
	w.must(err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	w.must(err)
	if !slices.Equal(slices.Sorted(slices.Values(found)), slices.Sorted(slices.Values(want))) {
		w.t.Errorf("by %d values %d rows are found, of %d", len(values), len(found), len(want))
	}
}
