package testenv

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// readEnvironment is what the tests take from outside: servers that run already, and where Postgres's programs are.
func readEnvironment() (app.Test, error) {
	config, err := app.Read[app.Test]()
	if err == nil {
		err = config.Validate()
	}
	return config, err
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
