package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/embedded"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// server is the Postgres of a suite: a private one, or somebody's.
type server struct {
	url      string             // of any database on it
	private  *embedded.Postgres // nil: somebody's
	home     *home              // of the private one
	admin    *pg.DB
	strategy string // how CREATE DATABASE copies a template

	templating sync.Mutex
	template   string // empty until the first test wants it
}

func startServer(ctx context.Context, from app.Test) (*server, error) {
	s := &server{url: from.TestDatabaseURL.Raw()}
	if s.url == "" {
		if err := s.startPrivate(ctx, from.PostgresBinDir); err != nil {
			return nil, err
		}
	}
	if err := s.connect(ctx); err != nil {
		return nil, errors.Join(err, s.stop(ctx))
	}
	return s, nil
}

func (s *server) startPrivate(ctx context.Context, bindir string) error {
	removeAbandonedHomes(os.TempDir())
	template, err := cachedCluster(ctx, bindir)
	if err != nil {
		return err
	}
	if s.home, err = newHome(); err != nil {
		return err
	}
	s.private, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{BinDir: bindir, Dir: s.home.cluster(), Template: template})
	if err != nil {
		return errors.Join(err, s.home.remove())
	}
	s.url = s.private.URL("postgres")
	return nil
}

func (s *server) connect(ctx context.Context) (err error) {
	if s.private == nil {
		if _, err := withDatabase(s.url, "postgres"); err != nil {
			return err
		}
	}
	if s.admin, err = pg.Open(ctx, s.url, pg.Options{AppName: "cipherfleet-test", MaxConns: 4, Abroad: true}); err != nil {
		return fmt.Errorf("connect to the test server: %w", err)
	}
	var version int
	if err := s.admin.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return fmt.Errorf("ask the test server its version: %w", err)
	}
	if version >= 150000 {
		s.strategy = " STRATEGY file_copy" // two to ten times faster than writing every block to the log
	}
	return nil
}

// create makes a database, a copy of template, and returns its name and URL.
func (s *server) create(ctx context.Context, template string) (name, url string, err error) {
	name = "cipherfleet_test_" + strings.ToLower(rand.Text()[:12])
	sql := "CREATE DATABASE " + pg.Ident(name) + " TEMPLATE " + pg.Ident(template) + s.strategy
	if template == "template0" {
		sql += " ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'" // the same on every machine
	}
	if _, err := s.admin.Exec(ctx, sql); err != nil {
		return "", "", fmt.Errorf("create a test database: %w", err)
	}
	url, err = withDatabase(s.url, name)
	return name, url, err
}

func (s *server) drop(ctx context.Context, name string) error {
	if _, err := s.admin.Exec(ctx, "DROP DATABASE IF EXISTS "+pg.Ident(name)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop a test database: %w", err)
	}
	return nil
}

// stop ends a private server; on somebody's it removes what the suite made.
func (s *server) stop(ctx context.Context) error {
	var err error
	if s.admin != nil {
		if s.private == nil && s.template != "" {
			err = s.drop(ctx, s.template)
		}
		s.admin.Close()
	}
	if s.private != nil {
		err = errors.Join(err, s.private.Stop(), s.home.remove())
	}
	return err
}
