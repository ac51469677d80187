package scheme

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/shred"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Called is err with the name of the column that it is about, where it knows the number alone: a person has the name.
func Called(ctx context.Context, q pg.Querier, err error) error {
	var (
		state    *lifecycle.StateError
		retained *lifecycle.RetainedError
		conflict *lifecycle.SchemeConflictError
		number   *lifecycle.NumberError
		tenant   *shred.NoTenantError
	)
	var column uint32
	var whose *lifecycle.Whose
	switch {
	case errors.As(err, &state):
		column, whose = state.Column, &state.Whose
	case errors.As(err, &retained):
		column, whose = retained.Column, &retained.Whose
	case errors.As(err, &conflict):
		column, whose = conflict.Have.Column, &conflict.Whose
	case errors.As(err, &number):
		column, whose = number.Column, &number.Whose
	case errors.As(err, &tenant):
		column, whose = tenant.Column, &tenant.Whose
	default:
		return err
	}
	if of, unread := lifecycle.ColumnByID(ctx, q, column); unread == nil {
		whose.Call(of)
	}
	return err
}
