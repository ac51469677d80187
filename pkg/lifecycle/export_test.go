package lifecycle

import (
	"context"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// InstallLock is the advisory lock that installs wait for.
const InstallLock int64 = installing

// InstallWith is Install by a program that knows more versions, or fewer.
func InstallWith(ctx context.Context, db *pg.DB, change func(texts []string) []string) error {
	texts, err := versions()
	if err != nil {
		return err
	}
	return install(ctx, db, change(texts))
}
