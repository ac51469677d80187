package backfill_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// sealUnder puts a cell of a scheme into a row of public.items, as an application does that seals.
func (k *kit) sealUnder(ctx context.Context, number uint16, id int64, value string) {
	k.T.Helper()
	spec := k.Columns[0]
	before := k.Columns[0].Scheme
	k.Columns[0].Scheme = number
	sealed := k.seal(ctx, id, value)
	k.Columns[0].Scheme = before
	check(k.T, k.DB.InTx(ctx, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('cipherfleet.writer', 'client', true)`); err != nil {
			return err
		}
		sets := pg.Ident(spec.Target) + " = $2"
		args := []any{id, sealed}
		if spec.Source != "" {
			sets, args = sets+", "+pg.Ident(spec.Source)+" = $3", append(args, value)
		}
		_, err := tx.Exec(ctx, "UPDATE public.items SET "+sets+" WHERE id = $1", args...)
		return err
	}))
}

// holds is what every cell of the first column holds, by row, and the schemes that seal them.
func (k *kit) holds(ctx context.Context) (values map[int64]string, schemes map[uint16]int) {
	k.T.Helper()
	values, schemes = map[int64]string{}, map[uint16]int{}
	rows := must(k.DB.Query(ctx, "SELECT id, "+pg.Ident(k.Columns[0].Target)+" FROM public.items"))(k.T)
	defer rows.Close()
	keys := must(cell.NewKeyEncoder([]cell.TypeInfo{{OID: 20, Name: "int8", Kind: 'b', Category: 'N'}}))(k.T)
	for rows.Next() {
		var id int64
		var sealed []byte
		check(k.T, rows.Scan(&id, &sealed))
		if sealed == nil {
			continue
		}
		address := must(keys.Append(nil, [][]byte{{byte(id >> 56), byte(id >> 48), byte(id >> 40), byte(id >> 32), byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}}))(k.T)
		plain, header, err := k.Keyring.Open(nil, cell.Address{Column: k.Columns[0].ID, Key: address}, sealed)
		if err != nil {
			k.T.Errorf("row %d: %v", id, err)
			continue
		}
		values[id] = string(plain)
		schemes[header.Scheme]++
	}
	check(k.T, rows.Err())
	return values, schemes
}

// rotated demands that fifty rows hold what they held, all under one scheme.
func (k *kit) rotated(ctx context.Context, number uint16, changed map[int64]string) {
	k.T.Helper()
	values, schemes := k.holds(ctx)
	for id := int64(1); id <= 50; id++ {
		want, ok := changed[id]
		if !ok {
			want = fmt.Sprintf("secret %d", id)
		}
		if values[id] != want {
			k.T.Errorf("row %d holds another value", id)
		}
	}
	if len(schemes) != 1 || schemes[number] != 50 {
		k.T.Errorf("the cells are of %v", schemes)
	}
}

// dropPlaintext takes the plaintext away, as a drop does after a cutover.
func (k *kit) dropPlaintext() {
	k.T.Helper()
	spec := k.Columns[0]
	c := ddl.Column{ID: spec.ID, Table: k.Table, Source: spec.Source, Target: spec.Target, Key: k.Key().Names()}
	for _, statement := range append(c.ReverseCapture().Undo, "ALTER TABLE "+k.Table.SQL()+" DROP COLUMN "+pg.Ident(spec.Source)) {
		k.DB.Run(k.T, statement)
	}
	check(k.T, k.DB.InTx(k.T.Context(), func(tx pg.Tx) error {
		_, err := (&lifecycle.Log{}).Append(k.T.Context(), tx, lifecycle.Event{Table: spec.LogTable, Column: spec.LogColumn, Kind: lifecycle.KindDropped})
		return err
	}))
	k.Columns[0].Source, k.Columns[0].SourceAttnum = "", 0
	k.Relation = k.Inspect(k.T.Context())
}

// A rotation works from dual-writing to the end of the plaintext, leaves the phase where it is, and what stands beside
// the cells as it is.
func TestCellsAreSealedAnewInEveryPhase(t *testing.T) {
	t.Parallel()
	for phase, reach := range map[lifecycle.Phase]func(*kit){
		lifecycle.PhaseDualWriting: func(k *kit) {
			for id := int64(1); id <= 50; id++ {
				k.sealUnder(k.T.Context(), 1, id, fmt.Sprintf("secret %d", id))
			}
		},
		lifecycle.PhaseBackfilling: func(k *kit) {
			k.Start(k.T.Context(), 10)
			check(k.T, k.Work(k.T.Context()))
			must(k.Jobs.Cancel(k.T.Context(), k.Job.ID, ""))(k.T)
		},
		lifecycle.PhaseBackfilled: func(k *kit) { k.Start(k.T.Context(), 10); k.Finish(k.T.Context()) },
		lifecycle.PhaseCutOver:    func(k *kit) { k.Start(k.T.Context(), 10); k.Finish(k.T.Context()); k.CutOver() },
		lifecycle.PhaseDropped: func(k *kit) {
			k.Start(k.T.Context(), 10)
			k.Finish(k.T.Context())
			k.CutOver()
			k.dropPlaintext()
		},
	} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := prepare(t, ctx, engine.FewItems)
			reach(k)
			k.Rotate(ctx, k.Scheme(ctx, 2, nil))
			beside := func() []string {
				if k.Columns[0].Source == "" {
					return nil
				}
				return testenv.Column[string](t, k.DB, "SELECT coalesce("+pg.Ident(k.Columns[0].Source)+", '') FROM public.items ORDER BY id")
			}
			before := beside()
			k.Start(ctx, 10)
			if job := k.Finish(ctx); job.State != work.Done {
				t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
			}
			k.rotated(ctx, 2, nil)
			k.Proven(ctx, 50)
			if !slices.Equal(before, beside()) {
				t.Error("a rotation changed what stands beside the cells")
			}
			state := must(lifecycle.Latest(ctx, k.DB, k.Columns[0].LogTable, k.Columns[0].LogColumn))(t)
			if state.Phase != phase || state.Run.State != lifecycle.RunDone || state.Run.Rows != 50 || state.Run.Job != k.Job.ID {
				t.Errorf("the log folds to %+v", state)
			}
			if idle := must(k.Jobs.Idle(ctx))(t); slices.ContainsFunc(idle, func(j work.Job) bool { return j.ID == k.Job.ID }) {
				t.Error("a coordinator would sweep the rotation again for missed writes")
			}
		})
	}
}

func TestAnyMixOfSchemesBecomesOne(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems)
	k.Start(ctx, 10)
	k.Finish(ctx)
	k.CutOver()
	k.Scheme(ctx, 2, func(s *cell.Scheme) { s.RowBound, s.Padding = false, 64 })
	k.Scheme(ctx, 3, func(s *cell.Scheme) { s.Padding = 32 })
	k.Scheme(ctx, 9, func(s *cell.Scheme) { s.Codec = cell.CodecBytes })
	for id := int64(1); id <= 30; id++ {
		k.sealUnder(ctx, []uint16{2, 3, 9}[id%3], id, fmt.Sprintf("secret %d", id))
	}
	if _, schemes := k.holds(ctx); len(schemes) != 4 {
		t.Fatalf("the cells are of %v", schemes)
	}
	k.Rotate(ctx, k.Scheme(ctx, 10, func(s *cell.Scheme) { s.Padding = 0 }))
	k.Start(ctx, 10)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.rotated(ctx, 10, nil)
}

// The application writes an older scheme's cell, a newer value, NULL, and deletes, between a chunk's read and its write.
func TestAnApplicationsWriteDuringARotationWins(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var k *kit
	done := false
	k = prepare(t, ctx, engine.FewItems, between(func() {
		if done || !k.Columns[0].Rotate {
			return
		}
		done = true
		k.sealUnder(ctx, 1, 5, "newer, under the old scheme")
		k.sealUnder(ctx, 2, 6, "newer, under the new scheme")
		k.DB.Run(t, `UPDATE public.items SET secret = NULL WHERE id = 7; DELETE FROM public.items WHERE id = 8`)
	}))
	k.Start(ctx, 1000)
	k.Finish(ctx)
	k.CutOver()
	k.Rotate(ctx, k.Scheme(ctx, 2, nil))
	k.Start(ctx, 1000)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	values, schemes := k.holds(ctx)
	if values[5] != "newer, under the old scheme" || values[6] != "newer, under the new scheme" {
		t.Errorf("rows hold %q and %q", values[5], values[6])
	}
	if _, there := values[7]; there || len(values) != 48 || len(schemes) != 1 || schemes[2] != 48 {
		t.Errorf("%d rows hold a value, of %v", len(values), schemes)
	}
}

// A cell that does not open is never sealed as if it were data, and never passed over in silence.
func TestACellThatDoesNotOpenIsQuarantinedAndStaysAsItIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems)
	k.Start(ctx, 10)
	k.Finish(ctx)
	k.CutOver()
	k.dropPlaintext()
	damage := map[int64]string{
		3:  `set_byte(secret, length(secret) - 1, 255 - get_byte(secret, length(secret) - 1))`, // a flipped tag
		17: `(SELECT secret FROM public.items WHERE id = 18)`,                                  // another row's
		40: `substr(secret, 1, 6) || '\x0063'::bytea || substr(secret, 9)`,                     // an unknown scheme
		41: `substr(secret, 1, 6) || '\x000101010100'::bytea || substr(secret, 1, 40)`,         // nothing behind its header
	}
	for id, expression := range damage {
		k.DB.Run(t, fmt.Sprintf("UPDATE public.items SET secret = %s WHERE id = %d", expression, id))
	}
	const damagedSQL = `SELECT encode(secret, 'hex') FROM public.items WHERE id IN (3, 17, 40, 41) ORDER BY id`
	before := testenv.Column[string](t, k.DB, damagedSQL)
	k.Rotate(ctx, k.Scheme(ctx, 2, nil))
	k.Start(ctx, 10)
	if job := k.Finish(ctx); job.State != work.Failed || k.Quarantined(t) != 4 {
		t.Fatalf("the job ended %s with %d rows in quarantine", job.State, k.Quarantined(t))
	}
	if !slices.Equal(before, testenv.Column[string](t, k.DB, damagedSQL)) {
		t.Error("a cell that does not open was changed")
	}
	r := k.Verify(ctx)[0]
	if r.Covered != 46 || r.Broken != 4 || r.Schemes[2] != 46 {
		t.Errorf("verification found %+v", r)
	}
}

// The job that made the cells stays in charge of writes that miss them, and makes them of the present scheme.
func TestMissedWritesAreSealedUnderTheSchemeOfAfterARotation(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems)
	k.Start(ctx, 10)
	first := k.Finish(ctx)
	forward := slices.Clone(k.Columns)
	k.Rotate(ctx, k.Scheme(ctx, 2, nil))
	k.Start(ctx, 10)
	rotation := k.Finish(ctx)
	k.DB.Run(t, `UPDATE public.items SET secret = 'missed' WHERE id = 7`)
	if _, err := k.Jobs.CatchUp(ctx, rotation.ID, k.Leaves(), nil); err == nil {
		t.Error("a rotation sweeps for missed writes")
	}
	k.Columns = forward
	keys := must(lifecycle.LoadKeys(ctx, k.DB, k.KEK))(t)
	k.Job = must(k.Jobs.CatchUp(ctx, first.ID, k.Leaves(), nil))(t).Under(keys.Active)
	k.Finish(ctx)
	k.rotated(ctx, 2, map[int64]string{7: "missed"})
}

func TestARotationKeepsTheSchemeItWasAskedFor(t *testing.T) {
	t.Parallel()
	job := work.Job{Spec: work.Spec{Columns: []work.Column{{ID: 7, Scheme: 1}, {ID: 8, Scheme: 1}, {ID: 7, Scheme: 2, Rotate: true}}}}
	now := job.Under(map[uint32]cell.Scheme{7: {Number: 3}}).Spec.Columns
	if now[0].Scheme != 3 || now[1].Scheme != 1 || now[2].Scheme != 2 || job.Spec.Columns[0].Scheme != 1 {
		t.Errorf("the schemes are %+v, of a job with %+v", now, job.Spec.Columns)
	}
}

// Two columns of one row, each under another scheme and moving to another, in one update: neither is opened or sealed
// with what belongs to the other.
func TestTwoColumnsOfARowAreSealedAnewAtOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, people, engine.On(pg.Table{Schema: "public", Name: "people"}, "email", "phone"))
	k.Start(ctx, 700)
	k.Finish(ctx)
	for i, number := range []uint16{5, 3} {
		scheme, _ := k.Keyring.Scheme(k.Columns[i].ID, 1)
		scheme.Number, scheme.KeyID, scheme.RowBound = number, 0, i == 0
		must(lifecycle.ActivateScheme(ctx, k.DB.DB, k.KEK, scheme))(t)
		k.Columns[i].Rotate, k.Columns[i].Scheme, k.Columns[i].Phase = true, number, lifecycle.PhaseBackfilled
	}
	k.Keyring = must(testenv.LoadKeyring(ctx, k.DB, k.KEK))(t)
	k.Start(ctx, 700)
	k.Audit(ctx)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.audit`); n != notNull {
		t.Errorf("%d updates were committed, want one for each of %d rows", n, notNull)
	}
	k.Proven(ctx, 3000)
	for i := range k.Columns { // and each cell still holds its own source's value
		k.Columns[i].Rotate, k.Columns[i].Phase = false, ""
	}
	k.Job.Spec.Columns = k.Columns
	k.Proven(ctx, 3000)
}
