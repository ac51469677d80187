package app_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/app"
)

func TestTheDefaultsAreValid(t *testing.T) {
	t.Parallel()
	coordinator, err := app.Parse[app.Coordinator]([]string{"HOME=/home/ada"})
	if err != nil {
		t.Fatal(err)
	}
	if err := coordinator.Validate(); err != nil {
		t.Error(err)
	}
	if coordinator.Lease != 10*time.Second || coordinator.AckWait != 15*time.Second || coordinator.Reconcile != 2*time.Second ||
		coordinator.StateDir != "/home/ada/.local/state/cipherfleet" || coordinator.Listen != "127.0.0.1:8080" || coordinator.NATSSync != "always" {
		t.Errorf("the coordinator's are %+v", coordinator)
	}
	worker, err := app.Parse[app.Worker]([]string{"DATABASE_URL=postgres://h/d", "NATS_URL=nats://h"})
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Validate(); err != nil {
		t.Error(err)
	}
	if worker.Slots < 1 || worker.WorkerID == "" || worker.WorkerListen != "127.0.0.1:8081" || worker.Drain != 25*time.Second {
		t.Errorf("the worker's are %+v", worker)
	}
	demo, err := app.Parse[app.Demo](nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Validate(); err != nil || demo.DemoRows != 200_000 || demo.DemoInstall != "no" {
		t.Errorf("the demo's are %+v, %v", demo, err)
	}
}

func TestTwoWorkersHaveTwoNames(t *testing.T) {
	t.Parallel()
	one, err := app.Parse[app.Worker](nil)
	if err != nil {
		t.Fatal(err)
	}
	two, err := app.Parse[app.Worker](nil)
	if err != nil {
		t.Fatal(err)
	}
	if one.WorkerID == two.WorkerID {
		t.Errorf("both are %s", one.WorkerID)
	}
}

func TestAnEmptyVariableCountsAsNotSet(t *testing.T) {
	t.Parallel()
	worker, err := app.Parse[app.Worker]([]string{"CIPHERFLEET_SLOTS=", "CIPHERFLEET_LEASE=", "CIPHERFLEET_LOG_LEVEL=", "OTEL_EXPORTER_OTLP_PROTOCOL="})
	if err != nil {
		t.Fatal(err)
	}
	if worker.Slots < 1 || worker.Lease != 10*time.Second || worker.LogLevel != "info" || worker.OTLPProtocol != "http/protobuf" {
		t.Errorf("read %+v", worker)
	}
}

func TestTheStateFolderFollowsXDG(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ variables, wanted string }{
		{"HOME=/h XDG_STATE_HOME=/x", "/x/cipherfleet"},
		{"HOME=/h XDG_STATE_HOME=relative", "/h/.local/state/cipherfleet"},
		{"HOME=/h XDG_STATE_HOME=/x CIPHERFLEET_STATE_DIR=/mine", "/mine"},
	} {
		coordinator, err := app.Parse[app.Coordinator](strings.Fields(test.variables))
		if err != nil || coordinator.StateDir != test.wanted {
			t.Errorf("%s: %s, %v", test.variables, coordinator.StateDir, err)
		}
	}
	_, err := app.Parse[app.Coordinator](nil)
	isVariable(t, err, "CIPHERFLEET_STATE_DIR", "")
}

func isVariable(t *testing.T, err error, name, was string) {
	t.Helper()
	var wrong *app.VariableError
	if !errors.As(err, &wrong) {
		t.Errorf("%s: error is %v", name, err)
		return
	}
	if wrong.Name != name || wrong.Was != was || wrong.Accepted == "" {
		t.Errorf("error is %+v, not of %s being %q", *wrong, name, was)
	}
	if code, _ := app.Explain(err); code != app.CodeUsage {
		t.Errorf("%s: exit code is %d", name, code)
	}
}

// read parses and validates a configuration with one variable changed.
func read[C app.Config](variable string) error {
	config, err := app.Parse[C]([]string{"HOME=/h", "DATABASE_URL=postgres://h/d", "NATS_URL=nats://h:4222", variable})
	if err != nil {
		return err
	}
	return config.Validate()
}

func TestAWrongVariableIsNamed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, value, was string
		read             func(string) error
	}{
		{"CIPHERFLEET_LEASE", "ten", "ten", read[app.Coordinator]},
		{"CIPHERFLEET_LEASE", "10", "10", read[app.Worker]},
		{"CIPHERFLEET_LEASE", "500ms", "500ms", read[app.Worker]},
		{"CIPHERFLEET_LEASE", "11m", "11m0s", read[app.Worker]},
		{"CIPHERFLEET_DRAIN", "0s", "0s", read[app.Worker]},
		{"CIPHERFLEET_ACK_WAIT", "10s", "10s", read[app.Coordinator]}, // not longer than the lease
		{"CIPHERFLEET_RECONCILE", "11s", "11s", read[app.Coordinator]},
		{"CIPHERFLEET_SLOTS", "many", "many", read[app.Worker]},
		{"CIPHERFLEET_SLOTS", "257", "257", read[app.Worker]},
		{"CIPHERFLEET_SLOTS", "0", "0", read[app.Worker]},
		{"CIPHERFLEET_SLOTS", "-1", "-1", read[app.Worker]},
		{"CIPHERFLEET_LOG_LEVEL", "verbose", "verbose", read[app.Worker]},
		{"CIPHERFLEET_LOG_FORMAT", "json|text", "json|text", read[app.Coordinator]},
		{"CIPHERFLEET_NATS_SYNC", "never", "never", read[app.Coordinator]},
		{"CIPHERFLEET_LISTEN", "8080", "8080", read[app.Coordinator]},
		{"CIPHERFLEET_LISTEN", "localhost:http", "localhost:http", read[app.Coordinator]},
		{"CIPHERFLEET_WORKER_LISTEN", "127.0.0.1:70000", "127.0.0.1:70000", read[app.Worker]},
		{"NATS_URL", "http://h:4222", "http://h:4222", read[app.Worker]},
		{"NATS_URL", "nats://h,kafka://h", "nats://h,kafka://h", read[app.Worker]},
		{"NATS_URL", "", "", read[app.Worker]},
		{"DATABASE_URL", "mysql://ada:secret@h/d", "mysql://h/d", read[app.Coordinator]},
		{"DATABASE_URL", "secret", "(hidden: it may hold a password)", read[app.Worker]},
		{"DATABASE_URL", "", "", read[app.Worker]},
		{"CIPHERFLEET_KEK", "/etc/cipherfleet/kek.json", "/etc/cipherfleet/kek.json", read[app.Worker]},
		{"CIPHERFLEET_KEK", "kek.json", "kek.json", read[app.Coordinator]},
		{"CIPHERFLEET_KEK", "vault:secret/token", "vault:…", read[app.Worker]},
		{"CIPHERFLEET_KEK", "file:", "file:", read[app.Coordinator]},
		{"CIPHERFLEET_KEK", "/c2VjcmV0/secret+c2VjcmV0=", "(hidden: it may hold a secret)", read[app.Worker]},
		{"CIPHERFLEET_KEK", "secret", "(hidden: it may hold a secret)", read[app.Worker]},
		{"CIPHERFLEET_KEK", "Secret:x", "(hidden: it may hold a secret)", read[app.Worker]},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "http/json", read[app.Worker]},
		{"DEMO_ROWS", "lots", "lots", read[app.Demo]},
		{"DEMO_ROWS", "999", "999", read[app.Demo]},
		{"DEMO_INSTALL", "true", "true", read[app.Demo]},
		{"CIPHERFLEET_TEST_DATABASE_URL", "x", "(hidden: it may hold a password)", read[app.Test]},
	} {
		err := test.read(test.name + "=" + test.value)
		isVariable(t, err, test.name, test.was)
		if err != nil && strings.Contains(strings.ReplaceAll(err.Error(), "a secret", ""), "secret") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}

func TestAllWrongVariablesAreNamedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := app.Parse[app.Worker]([]string{"CIPHERFLEET_SLOTS=many", "CIPHERFLEET_LEASE=ten"})
	for _, part := range []string{
		`CIPHERFLEET_SLOTS was "many"; accepted is a whole number from 1 to 256`,
		`CIPHERFLEET_LEASE was "ten"; accepted is a duration from 1s to 10m`,
	} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error is %v", err)
		}
	}
}

func TestAURLPrintsWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	for url, wanted := range map[app.URL]string{
		"":                                 "",
		"postgres://ada:secret@h:5432/d":   "postgres://ada@h:5432/d",
		"postgres://h/d?password=secret":   "postgres://h/d",
		"postgresql://a:se%40cret@h/d":     "postgresql://a@h/d",
		"host=h password=secret":           "(hidden: it may hold a password)",
		"nats://secret@h:4222":             "nats://h:4222",
		"nats://a:secret@h, nats://b:x@i":  "nats://h,nats://i",
		"tls://h:4222":                     "tls://h:4222",
		"postgres://ada:secret@h1,h2:54/d": "postgres://ada@h1,h2:54/d",
		"postgres://h/d?password=a@secret": "(hidden: it may hold a password)",
		"postgres://a:b/c@secret:5/d":      "(hidden: it may hold a password)",
		"nats://a:secret,secret@h":         "(hidden: it may hold a password)",
		"nats://a:12,secret@h":             "(hidden: it may hold a password)",
		"a:secret@h":                       "(hidden: it may hold a password)",
	} {
		for _, printed := range []string{url.String(), fmt.Sprint(url), fmt.Sprintf("%v", struct{ U app.URL }{url}), fmt.Sprintf("%#v", url), fmt.Sprintf("%q", url)} {
			if !strings.Contains(printed, wanted) || strings.Contains(printed, "secret") || strings.Contains(printed, "cret@") {
				t.Errorf("%s is printed, not %s", printed, wanted)
			}
		}
		if url.String() != wanted || url.Raw() != string(url) {
			t.Errorf("%s is printed, and raw is %s", url, url.Raw())
		}
	}
}

func TestTheDemoAndTheTestsReadNoProduction(t *testing.T) {
	t.Parallel()
	for _, variable := range app.Variables() {
		if variable.Name != "DATABASE_URL" && variable.Name != "NATS_URL" {
			continue
		}
		for _, program := range variable.Programs {
			if program == "demo" || program == "tests" {
				t.Errorf("%s reads %s", program, variable.Name)
			}
		}
	}
}

func TestFieldsHaveOneNameEach(t *testing.T) {
	t.Parallel()
	known := map[string]string{}
	var walk func(reflect.Type)
	walk = func(config reflect.Type) {
		for i := range config.NumField() {
			field := config.Field(i)
			if field.Anonymous {
				walk(field.Type)
				continue
			}
			if !field.IsExported() {
				continue
			}
			name, tag := field.Name, field.Tag.Get("env")
			if before, ok := known[name]; ok && before != tag || tag == "" || field.Tag.Get("means") == "" {
				t.Errorf("field %s is %s and %s", name, before, tag)
			}
			known[name] = tag
		}
	}
	for _, config := range []any{app.Coordinator{}, app.Worker{}, app.Demo{}, app.Test{}} {
		walk(reflect.TypeOf(config))
	}
}
