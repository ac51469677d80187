package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

// The one suite of this test binary. There is no place but a package variable that all its tests can reach.
var current suite

// suite starts its server for the first test that asks.
type suite struct {
	mu     sync.Mutex
	begun  bool // Main runs
	server *server
	failed error // why the server could not be started; told to every test
}

// Main runs the tests of a package and then stops the suite's Postgres:
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
//
// It returns the exit code. A binary that is killed leaves no server behind either: the kernel ends it.
func Main(m *testing.M) int {
	current.begin()
	code := m.Run()
	if err := current.end(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return max(code, 1)
	}
	return code
}

func (s *suite) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = true
}

const startTimeout = 5 * time.Minute

// postgres returns the suite's server, starting it when it is the first to ask.
func (s *suite) postgres() (*server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		return nil, errors.New("this package needs: func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }")
	}
	if s.server == nil && s.failed == nil {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		config, err := readEnvironment()
		if err != nil {
			s.failed = err
			return nil, err
		}
		s.server, s.failed = startServer(ctx, config)
	}
	return s.server, s.failed
}

func (s *suite) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return s.server.stop(ctx)
}
