package backfill_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// answering lets f spoil what a right encrypter answered; proven, as a transform of somebody's own has to be, or as the
// engine alone would take it.
func answering(proven bool, f func([]transform.Value)) option {
	return func(k *engine.Kit) {
		k.Wrap = func(inner transform.Transform) transform.Transform {
			spoilt := applied(func(ctx context.Context, values []transform.Value) error {
				err := inner.Apply(ctx, values)
				f(values)
				return err
			})
			if !proven {
				return spoilt
			}
			scheme, _ := k.Keyring.Scheme(k.Columns[0].ID, k.Columns[0].Scheme)
			return must(transform.NewProof(spoilt, k.Keyring, scheme))(k.T)
		}
	}
}

// refusesAll works on a job whose encrypter is wrong: nothing is written, and nobody is shown a value.
func refusesAll(t *testing.T, o option) error {
	t.Helper()
	k := prepare(t, t.Context(), hundredItems, few, o)
	k.Start(t.Context(), 1000)
	err := k.Work(t.Context())
	if err == nil || strings.Contains(err.Error(), "secret 1") {
		t.Errorf("the worker got %v", err)
	}
	if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NOT NULL`); n != 0 || k.written() != 0 {
		t.Errorf("%d rows have a cell, and the log counts %d", n, k.written())
	}
	checkNoValue(t, k)
	return err
}

// checkNoValue: no table of ours holds a value.
func checkNoValue(t *testing.T, k *kit) {
	t.Helper()
	if n := testenv.One[int](t, k.DB, `SELECT (SELECT count(*) FROM cipherfleet.events e WHERE e::text ~ 'secret \d')
 + (SELECT count(*) FROM cipherfleet.quarantine q WHERE q::text ~ 'secret \d') + (SELECT count(*) FROM cipherfleet.ranges r WHERE r::text ~ 'secret \d')`); n != 0 {
		t.Errorf("%d rows of ours show a value", n)
	}
}

func anotherOrder(t *testing.T) {
	t.Parallel()
	err := refusesAll(t, answering(true, func(values []transform.Value) {
		for i := 1; i < len(values); i += 2 {
			values[i-1].Out, values[i].Out = values[i].Out, values[i-1].Out
		}
	}))
	if !errors.Is(err, transform.ErrUnproven) {
		t.Errorf("the worker got %v", err)
	}
}

// envelopeOfPlaintext: the answer has a cell's header and length, so that it passes the CHECK, and holds the plaintext.
func envelopeOfPlaintext(t *testing.T) {
	t.Parallel()
	err := refusesAll(t, answering(true, func(values []transform.Value) {
		for i, v := range values {
			header := cell.Header{Column: v.Address.Column, Scheme: 1, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, KeyID: 1}.Append(nil)
			values[i].Out = append(append(header, v.In...), bytes.Repeat([]byte{0}, cell.Overhead)...)
		}
	}))
	if !errors.Is(err, transform.ErrUnproven) {
		t.Errorf("the worker got %v", err)
	}
}

// passesThrough: Postgres itself refuses what is no cell, whoever believes the encrypter. Each row is set aside, without
// its value, and the job fails.
func passesThrough(t *testing.T) {
	t.Parallel()
	through := func(values []transform.Value) {
		for i, v := range values {
			values[i].Out = v.In
		}
	}
	refusesAll(t, answering(true, through))
	k := prepare(t, t.Context(), hundredItems, answering(false, through))
	k.Start(t.Context(), 1000)
	check(t, k.Work(t.Context()))
	if n := k.Quarantined(t); n != 100 {
		t.Errorf("%d rows are in quarantine", n)
	}
	if job := k.Finish(t.Context()); job.State != work.Failed || k.Sealed(t) != 0 {
		t.Errorf("the job ended %s with %d cells", job.State, k.Sealed(t))
	}
	checkNoValue(t, k)
	if reason := testenv.One[string](t, k.DB, `SELECT DISTINCT reason FROM cipherfleet.quarantine`); reason != "the database refuses the write: SQLSTATE 23514" {
		t.Errorf("the reason is %q", reason)
	}
}

func oneRowTooFew(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var losing atomic.Bool
	losing.Store(true)
	k := prepare(t, ctx, engine.FewItems, func(k *engine.Kit) {
		k.Wrap = func(inner transform.Transform) transform.Transform { return &losingOne{inner, &losing} }
	})
	k.Start(ctx, 1000)
	if err := k.Work(ctx); err == nil {
		t.Error("a value that was not transformed went through")
	}
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NOT NULL`); n != 0 {
		t.Errorf("%d rows of the faulty chunk were written", n)
	}
	losing.Store(false)
	k.Finish(ctx)
	k.Proven(ctx, 50)
}
