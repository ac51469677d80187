package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/embedded"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// openDatabase finds or starts the server and makes a database of the demo's own on it, to be dropped at the end.
func (s *stage) openDatabase(ctx context.Context, config app.Demo) (what string, err error) {
	server, name := config.DemoDatabaseURL.Raw(), "cipherfleet_demo_"+strings.ToLower(rand.Text()[:6])
	where := "the given server"
	if server == "" {
		private, err := s.startPostgres(ctx, config)
		if err != nil {
			return "", err
		}
		server, where = private.URL("postgres"), "a private server"
	}
	if s.url, err = withDatabase(server, name); err != nil {
		return "", err
	}
	if err := s.createDatabase(ctx, server, name, config.DemoDatabaseURL != ""); err != nil {
		return "", err
	}
	if s.db, err = pg.Open(ctx, s.url, pg.Options{AppName: "cipherfleet-demo", MaxConns: demoConns, Abroad: true}); err != nil {
		return "", err
	}
	s.closing(func() error { s.db.Close(); return nil })
	version, err := pg.InspectServer(ctx, s.db)
	return fmt.Sprintf("Postgres %d on %s, database %s", version.Major(), where, name), err
}

const demoConns = 4

// startPostgres starts a server that keeps its promises like one in production: every commit is flushed.
func (s *stage) startPostgres(ctx context.Context, config app.Demo) (*embedded.Postgres, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	server, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{BinDir: config.PostgresBinDir, Durable: true})
	if errors.Is(err, embedded.ErrNoPostgres) {
		return nil, &app.Fail{Code: app.CodeUnavailable, Err: err, Hint: "or name a server with DEMO_DATABASE_URL; `make demo` finds, installs or downloads the programs"}
	}
	if err != nil {
		return nil, err
	}
	s.closing(server.Stop)
	return server, nil
}

// createDatabase makes the database on a server; if it is to be dropped, whoever is still connected then is thrown out.
func (s *stage) createDatabase(ctx context.Context, server, name string, drop bool) error {
	if err := s.atServer(ctx, server, "CREATE DATABASE "+pg.Ident(name)); err != nil {
		return fmt.Errorf("create the demo's database: %w", err)
	}
	if !drop {
		return nil
	}
	s.closing(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.atServer(ctx, server, "DROP DATABASE IF EXISTS "+pg.Ident(name)+" WITH (FORCE)"); err != nil {
			return fmt.Errorf("drop the demo's database %s: %w", name, err)
		}
		return nil
	})
	return nil
}

func (s *stage) atServer(ctx context.Context, server, statement string) error {
	db, err := pg.Open(ctx, server, pg.Options{AppName: "cipherfleet-demo", MaxConns: 1, Abroad: true})
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec(ctx, statement)
	return err
}

// withDatabase is the server's address, a URL or keywords, with another database in it.
func withDatabase(server, name string) (string, error) {
	if !strings.Contains(server, "://") {
		return server + " dbname=" + name, nil // the last one counts
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", &app.VariableError{Name: "DEMO_DATABASE_URL", Accepted: "a Postgres URL, as in postgres://user@host:5432/postgres"}
	}
	query := u.Query()
	query.Del("dbname")
	query.Del("database")
	u.Path, u.RawQuery = "/"+name, query.Encode()
	return u.String(), nil
}
