package app

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/google/uuid"
)

// Config is one of the configurations of this package.
type Config interface {
	Coordinator | Worker | Demo | Test
	Validate() error
}

// VariableError says which variable is wrong, what it was, and what is accepted. Was never shows a secret, and is
// empty when the variable is missing.
type VariableError struct{ Name, Was, Accepted string }

// Error names the variable.
func (e *VariableError) Error() string {
	if e.Was == "" {
		return fmt.Sprintf("%s is not set; accepted is %s", e.Name, e.Accepted)
	}
	return fmt.Sprintf("%s was %q; accepted is %s", e.Name, e.Was, e.Accepted)
}

// Read reads a configuration from the environment of this process. Its error joins one *VariableError for each
// variable that is wrong. Validate is left to the caller, after flags.
func Read[C Config]() (C, error) { return Parse[C](os.Environ()) }

// Parse reads a configuration from variables in the form NAME=value. A variable that is empty counts as not set.
func Parse[C Config](variables []string) (C, error) {
	var config C
	environment := env.ToMap(variables)
	err := env.ParseWithOptions(&config, env.Options{Environment: environment})
	if err != nil {
		return config, explain(config, environment, err)
	}
	switch c := any(&config).(type) {
	case *Coordinator:
		for name, value := range environment {
			if value != "" {
				c.given = append(c.given, name)
			}
		}
		err = c.complete(environment)
	case *Worker:
		err = c.complete(environment)
	}
	return config, err
}

func (c *Coordinator) complete(environment map[string]string) error {
	if c.StateDir != "" {
		return nil
	}
	state := environment["XDG_STATE_HOME"]
	if !filepath.IsAbs(state) { // the XDG specification has relative ones ignored
		state = filepath.Join(environment["HOME"], ".local", "state")
	}
	if !filepath.IsAbs(state) {
		return &VariableError{Name: "CIPHERFLEET_STATE_DIR", Accepted: "a folder, since there is neither XDG_STATE_HOME nor HOME"}
	}
	c.StateDir = filepath.Join(state, "cipherfleet")
	return nil
}

func (w *Worker) complete(environment map[string]string) error {
	if environment["CIPHERFLEET_SLOTS"] == "" {
		w.Slots = runtime.GOMAXPROCS(0)
	}
	if w.WorkerID != "" {
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name this worker: %w", err)
	}
	w.WorkerID = fmt.Sprintf("%s-%d-%s", host, os.Getpid(), uuid.NewString()[:8])
	return nil
}

// explain replaces the parser's errors, which name fields and may quote secrets.
func explain(config any, environment map[string]string, err error) error {
	var all env.AggregateError
	if !errors.As(err, &all) {
		return err
	}
	variables := map[string]variable{}
	for _, v := range variablesOf(config) {
		variables[v.field] = v
	}
	wrong := make([]error, len(all.Errors))
	for i, one := range all.Errors {
		wrong[i] = one
		var parse env.ParseError
		if errors.As(one, &parse) {
			v := variables[parse.Name]
			wrong[i] = &VariableError{Name: v.Name, Was: environment[v.Name], Accepted: v.Accepted}
		}
	}
	return errors.Join(wrong...)
}

// checkVariables checks ranges and choices.
func checkVariables(config any) error {
	var wrong []error
	for _, v := range variablesOf(config) {
		if !v.accepts() {
			wrong = append(wrong, &VariableError{Name: v.Name, Was: fmt.Sprint(v.value.Interface()), Accepted: v.Accepted})
		}
	}
	return errors.Join(wrong...)
}

func (v variable) accepts() bool {
	if v.value.Kind() == reflect.String && v.value.Len() == 0 {
		return true
	}
	if u, ok := v.value.Interface().(URL); ok {
		return u.check(v.Name)
	}
	least, most, isRange := strings.Cut(v.rule, "..")
	switch {
	case isRange && v.value.Type() == reflect.TypeFor[time.Duration]():
		from, _ := time.ParseDuration(least)
		to, _ := time.ParseDuration(most)
		return v.value.Int() >= int64(from) && v.value.Int() <= int64(to)
	case isRange:
		from, _ := strconv.ParseInt(least, 10, 64)
		to, _ := strconv.ParseInt(most, 10, 64)
		return v.value.Int() >= from && v.value.Int() <= to
	case strings.Contains(v.rule, "|"):
		return slices.Contains(strings.Split(v.rule, "|"), v.value.String())
	}
	return true
}

func checkAddress(name, address string) error {
	if address == "off" {
		return nil
	}
	if _, port, err := net.SplitHostPort(address); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err == nil {
			return nil
		}
	}
	return &VariableError{Name: name, Was: address, Accepted: "host:port, or off"}
}

func checkLonger(name string, value time.Duration, other string, than time.Duration) error {
	if value > than {
		return nil
	}
	return &VariableError{Name: name, Was: value.String(), Accepted: fmt.Sprintf("longer than %s, which is %s", other, than)}
}

func checkAtMost(name string, value time.Duration, other string, most time.Duration) error {
	if value <= most {
		return nil
	}
	return &VariableError{Name: name, Was: value.String(), Accepted: fmt.Sprintf("at most %s, which is %s", other, most)}
}
