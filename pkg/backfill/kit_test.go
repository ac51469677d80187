package backfill_test

import (
	"context"
	"os"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// kit is the engine's, with what the tests of this room ask of it.
type kit struct{ *engine.Kit }

type option = engine.Option

func prepare(t testing.TB, ctx context.Context, sql string, options ...option) *kit {
	t.Helper()
	return &kit{engine.Prepare(t, ctx, sql, options...)}
}

// making is a kit whose column an expression makes.
func making(t testing.TB, ctx context.Context, sql, source, target string, e ddl.Expression) *kit {
	t.Helper()
	return &kit{engine.Making(t, ctx, sql, source, target, e)}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}
