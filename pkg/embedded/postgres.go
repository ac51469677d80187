package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const superuser = "postgres"

// PostgresOptions describes a private cluster; the zero value is a fast one in a temporary folder.
type PostgresOptions struct {
	BinDir   string            // folder of initdb and postgres; empty: FindBinDir
	Dir      string            // home of the cluster, made or used again; empty: temporary, removed by Stop
	Template string            // home of a stopped cluster to copy instead of running initdb; may be empty
	Port     int               // 0: a free one
	Settings map[string]string // configuration parameters that win over ours
	Durable  bool              // keep what was committed across a crash, like a real server; else as fast as possible
}

// Postgres is a private server. Its methods may be called from several goroutines.
type Postgres struct {
	options   PostgresOptions
	cluster   *cluster
	port      int
	password  string
	temporary bool

	mu     sync.Mutex
	server *postmaster // nil: not running
}

// StartPostgres starts a private server and returns when it accepts connections. ctx bounds the start, not the
// server's life; the caller stops it. On failure nothing runs and no temporary folder stays.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	p := &Postgres{options: o, port: o.Port}
	if err := p.open(ctx); err != nil {
		return nil, errors.Join(err, p.removeTemporary())
	}
	if err := p.startSomewhere(ctx); err != nil {
		return nil, errors.Join(err, p.removeTemporary())
	}
	return p, nil
}

// CreateCluster makes a stopped cluster in dir, to be named as a Template later.
func CreateCluster(ctx context.Context, bindir, dir string) error {
	_, err := openCluster(ctx, bindir, dir, "")
	return err
}

func (p *Postgres) open(ctx context.Context) (err error) {
	home := p.options.Dir
	if home == "" {
		if home, err = os.MkdirTemp("", "cipherfleet-postgres-"); err != nil {
			return fmt.Errorf("make temporary folder for Postgres: %w", err)
		}
		p.temporary = true
	}
	if home, err = filepath.Abs(home); err != nil {
		return fmt.Errorf("resolve folder for Postgres: %w", err)
	}
	p.cluster = &cluster{home: home} // known to removeTemporary even when opening fails
	opened, err := openCluster(ctx, p.options.BinDir, home, p.options.Template)
	if err != nil {
		return err
	}
	p.cluster = opened
	p.password, err = keepSecret(opened.passwordFile(), "")
	return err
}

// startSomewhere starts on the given port or on free ones: another process may take a port between our look at it
// and the server's.
func (p *Postgres) startSomewhere(ctx context.Context) (err error) {
	if p.options.Port != 0 {
		return p.start(ctx)
	}
	for range portAttempts {
		if p.port, err = freePort(); err != nil {
			return err
		}
		if err = p.start(ctx); err == nil || !portTaken(err) {
			return err
		}
	}
	return err
}

func (p *Postgres) start(ctx context.Context) error {
	if err := p.cluster.configure(settings(p.options, p.port)); err != nil {
		return err
	}
	server, err := launch(p.cluster)
	if err != nil {
		return err
	}
	if err := server.ready(ctx, p.cluster); err != nil {
		return errors.Join(err, server.kill())
	}
	p.server = server
	return nil
}

// URL is how any process on this machine connects to a database of the cluster, as superuser. It holds the password.
func (p *Postgres) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(superuser, p.password), Host: hostPort(p.port), Path: "/" + database}
	u.RawQuery = "sslmode=disable"
	return u.String()
}

// Major is the server's major version, such as 15.
func (p *Postgres) Major() int { return p.cluster.major }

// Dir is the cluster's home.
func (p *Postgres) Dir() string { return p.cluster.home }

// Kill ends the server like a crash: SIGKILL to each of its processes. The folder stays, for Restart.
func (p *Postgres) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server == nil {
		return nil
	}
	err := p.server.kill()
	p.server = nil
	return err
}

// Restart starts the server again on its port, after Kill or, in order, while it runs. It returns when the server
// has recovered and accepts connections.
func (p *Postgres) Restart(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.shutDown(syscall.SIGINT); err != nil {
		return err
	}
	return p.start(ctx)
}

// Stop ends the server and waits for it; open sessions are broken off. A temporary cluster is removed. Stopping
// twice is no error.
func (p *Postgres) Stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	how := syscall.SIGINT // fast shutdown
	if p.temporary {
		how = syscall.SIGQUIT // immediate: nobody will read these files again
	}
	return errors.Join(p.shutDown(how), p.removeTemporary())
}

const stopTimeout = 30 * time.Second

func (p *Postgres) shutDown(how syscall.Signal) error {
	if p.server == nil {
		return nil
	}
	defer func() { p.server = nil }()
	if err := p.server.signal(how); err != nil {
		return fmt.Errorf("stop Postgres: %w", err)
	}
	select {
	case <-p.server.ended:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("stop Postgres: still running after %s, killed", stopTimeout), p.server.kill())
	}
}

func (p *Postgres) removeTemporary() error {
	if !p.temporary {
		return nil
	}
	if err := os.RemoveAll(p.cluster.home); err != nil {
		return fmt.Errorf("remove temporary cluster: %w", err)
	}
	return nil
}
