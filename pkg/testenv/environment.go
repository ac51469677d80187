package testenv

import (
	"errors"
	"fmt"
	"net/url"
	"os"
)

// environment is what a suite takes from outside. The product's settings are read by pkg/app; these belong to the
// tests alone.
type environment struct {
	databaseURL string // superuser on a server that runs already; empty: start one
	natsURL     string // server that runs already; empty: start one per test
	binDir      string // Postgres programs; empty: found
}

func readEnvironment() environment {
	return environment{
		databaseURL: os.Getenv("CIPHERFLEET_TEST_DATABASE_URL"),
		natsURL:     os.Getenv("CIPHERFLEET_TEST_NATS_URL"),
		binDir:      os.Getenv("CIPHERFLEET_PG_BINDIR"),
	}
}

// withDatabase is the server's URL with another database in it.
func withDatabase(server, database string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" && u.Query().Get("host") == "" {
		return "", errors.New("CIPHERFLEET_TEST_DATABASE_URL is no URL of the form postgres://user:password@host:port/database")
	}
	u.Path = "/" + database
	if u.User == nil && u.Query().Get("user") == "" {
		return "", fmt.Errorf("CIPHERFLEET_TEST_DATABASE_URL names no user")
	}
	return u.String(), nil
}
