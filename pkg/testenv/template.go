package testenv

import (
	"context"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// installed returns the database with schema cipherfleet that Database clones, making it for the first who asks.
func (s *server) installed(ctx context.Context) (string, error) {
	s.templating.Lock()
	defer s.templating.Unlock()
	if s.template != "" {
		return s.template, nil
	}
	name, url, err := s.create(ctx, "template0")
	if err != nil {
		return "", err
	}
	if err := install(ctx, url); err != nil {
		return "", errors.Join(err, s.drop(ctx, name))
	}
	s.template = name
	return name, nil
}

// install leaves no connection open: a database in use cannot be cloned.
func install(ctx context.Context, url string) error {
	db, err := pg.Open(ctx, url, pg.Options{MaxConns: 1})
	if err != nil {
		return fmt.Errorf("connect to the template database: %w", err)
	}
	defer db.Close()
	return lifecycle.Install(ctx, db)
}
