package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// mixed is one transaction of one to four deeds.
func (a *application) mixed(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	numbers := make([]int64, 1+r.IntN(4))
	for i := range numbers {
		numbers[i] = 1 + r.Int64N(a.last.Load())
		if r.IntN(40) == 0 {
			numbers[i] = a.hot
		}
	}
	numbers = slices.Compact(a.w.plan.layout.down(numbers))
	deed := a.careless
	if s := a.seal.Load(); s != nil && r.IntN(3) == 0 {
		if _, err := tx.Exec(ctx, "SET LOCAL cipherfleet.writer = 'client'"); err != nil {
			return err
		}
		deed = func(ctx context.Context, tx pgx.Tx, r *rand.Rand, n int64) error { return a.honest(ctx, tx, r, n, s) }
	}
	for _, n := range numbers {
		if err := deed(ctx, tx, r, n); err != nil {
			return err
		}
	}
	return nil
}

// careless writes like an application that never heard of the targets, or that has but does not say so.
func (a *application) careless(ctx context.Context, tx pgx.Tx, r *rand.Rand, n int64) error {
	key := a.w.plan.layout.keyOf(n)
	switch k := r.IntN(100); {
	case k < 40 || n == a.hot:
		return a.update(ctx, tx, r, n)
	case k < 50:
		return a.lie(ctx, tx, r, n)
	case k < 65:
		return both(ctx, tx, a.sql.note, with([]any{"m"}, key), a.sql.mNote, with([]any{"m"}, key))
	case k < 75:
		fresh, v := a.fresh(), a.w.plan.value(r, n, true)
		return both(ctx, tx, a.sql.insert, with(fresh, []any{v.secret, v.born}), a.sql.mInsert, with(fresh, []any{v.secret, v.born}))
	case k < 85:
		return a.clone(ctx, tx, n)
	case k < 92:
		return both(ctx, tx, a.sql.delete, key, a.sql.mDelete, key)
	}
	fresh := a.fresh()
	return both(ctx, tx, a.sql.move, with(fresh, key), a.sql.mMove, with(fresh, key))
}

// honest writes both columns and says so.
func (a *application) honest(ctx context.Context, tx pgx.Tx, r *rand.Rand, n int64, s *sealer) error {
	key, v := a.w.plan.layout.keyOf(n), a.w.plan.value(r, n, false)
	k, place := r.IntN(100), key
	if n == a.hot {
		k = 0
	} else if k >= 60 && k < 85 {
		place = a.fresh()
	}
	values := []any{v.secret, v.born}
	cells, err := s.cells(place, v)
	switch {
	case err != nil:
		return err
	case k < 60:
		return both(ctx, tx, a.sql.write, with(values, cells, key), a.sql.mUpdate, with(values, key))
	case k < 75:
		return both(ctx, tx, a.sql.seal, with(place, values, cells), a.sql.mInsert, with(place, values))
	case k < 85:
		return both(ctx, tx, a.sql.moveBoth, with(values, cells, place, key), a.sql.mMoveBoth, with(values, place, key))
	}
	return both(ctx, tx, a.sql.delete, key, a.sql.mDelete, key)
}

// update changes a row's values and leaves its targets as they are.
func (a *application) update(ctx context.Context, tx pgx.Tx, r *rand.Rand, n int64) error {
	key, v := a.w.plan.layout.keyOf(n), a.w.plan.value(r, n, true)
	args := with([]any{v.secret, v.born}, key)
	return both(ctx, tx, a.sql.update, args, a.sql.mUpdate, args)
}

// lie writes both columns without saying so; now and then the cells are of another row.
func (a *application) lie(ctx context.Context, tx pgx.Tx, r *rand.Rand, n int64) error {
	s := a.seal.Load()
	if s == nil {
		return a.update(ctx, tx, r, n)
	}
	key, v := a.w.plan.layout.keyOf(n), a.w.plan.value(r, n, true)
	place := n
	if v.secret != nil && *v.secret != "" { // a source that stays what it was lets a wrong cell pass: that only a verification sees
		place += r.Int64N(2)
	}
	cells, err := s.cells(a.w.plan.layout.keyOf(place), v)
	if err != nil {
		return err
	}
	return both(ctx, tx, a.sql.write, with([]any{v.secret, v.born}, cells, key), a.sql.mUpdate, with([]any{v.secret, v.born}, key))
}

// clone copies a whole row under a new key, its cells as well once there are any.
func (a *application) clone(ctx context.Context, tx pgx.Tx, n int64) error {
	sql := a.sql.clone
	if a.seal.Load() != nil {
		sql = a.sql.cloneCells
	}
	fresh := a.fresh()
	var v value
	var note *string
	var version int
	err := tx.QueryRow(ctx, sql, with(fresh, a.w.plan.layout.keyOf(n))...).Scan(&v.secret, &v.born, &note, &version)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return both(ctx, tx, a.sql.mInsert, with(fresh, []any{v.secret, v.born}), "UPDATE chaos.mirror SET note = $1, version = $2 WHERE "+a.w.plan.layout.row(3),
		with([]any{note, version}, fresh))
}

// hold locks some rows for a long time and changes one of them in the end.
func (a *application) hold(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	numbers := make([]int64, 5)
	for i := range numbers {
		numbers[i] = 1 + r.Int64N(a.w.plan.rows)
	}
	for _, n := range a.w.plan.layout.down(numbers) {
		if _, err := tx.Exec(ctx, a.sql.hold, a.w.plan.layout.keyOf(n)...); err != nil {
			return err
		}
	}
	rest(ctx, between(r, 2*time.Second, 3*time.Second))
	return a.update(ctx, tx, r, numbers[0])
}

// frontSQL finds where a range is being worked on.
const frontSQL = `SELECT relid::regclass::text, cursor_key FROM cipherfleet.ranges WHERE state = 'pending' AND lease_until > clock_timestamp() AND cursor_key IS NOT NULL ORDER BY random() LIMIT 1`

// crowd is malice: it changes rows where the fleet is about to write, in the opposite order and with pauses, so that
// each waits for the other again and again. Whoever gives way, it must not be the application.
func (a *application) crowd(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	var leaf string
	var cursor []string
	err := tx.QueryRow(ctx, frontSQL).Scan(&leaf, &cursor)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	keys, err := a.ahead(ctx, tx, leaf, cursor)
	if err != nil {
		return err
	}
	for i := 0; i < len(keys); i += 1 + r.IntN(12) {
		v := a.w.plan.value(r, 0, true)
		args := with([]any{v.secret, v.born}, keys[i])
		if err := both(ctx, tx, a.sql.update, args, a.sql.mUpdate, args); err != nil {
			return err
		}
		rest(ctx, between(r, time.Millisecond, 12*time.Millisecond))
	}
	return nil
}

// ahead are the keys of the rows just behind a cursor, the last one first.
func (a *application) ahead(ctx context.Context, tx pgx.Tx, leaf string, cursor []string) ([][]any, error) {
	l := a.w.plan.layout
	from := make([]string, len(l.key))
	for i, t := range l.types {
		from[i] = fmt.Sprintf("($1::text[])[%d]::%s", i+1, strings.Fields(t)[0])
	}
	rows, err := tx.Query(ctx, fmt.Sprintf("SELECT * FROM (SELECT %[1]s FROM ONLY %[2]s WHERE (%[1]s) > (%[3]s) ORDER BY %[1]s LIMIT 100) ahead ORDER BY (%[1]s) DESC",
		l.keyList(), leaf, strings.Join(from, ", ")), cursor)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
}

// fresh is a key that was never used.
func (a *application) fresh() []any { return a.w.plan.layout.keyOf(a.last.Add(1)) }
