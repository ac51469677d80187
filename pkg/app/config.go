package app

import (
	"errors"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
)

// The tags of a variable: env is its name and envDefault its default; default describes one that is found at the
// start; accepts is a range "least..most" or a choice "a|b"; means is for the table in docs/configuration.md.
// The name of a field is unique among all of them.

// Database is where the data is.
type Database struct {
	DatabaseURL URL `env:"DATABASE_URL" means:"Postgres, as a URL or keywords; the commands say so when they need it, and neither the demo nor a test ever reads it"`
}

// NATS is where the queue is.
type NATS struct {
	NATSURL       URL    `env:"NATS_URL" means:"NATS, several servers of one cluster separated by commas; without it backfill does everything in one process, serve wants --embedded, and a worker does not start"`
	NATSCreds     string `env:"CIPHERFLEET_NATS_CREDS" means:"file with NATS credentials (.creds)"`
	NATSTokenFile string `env:"CIPHERFLEET_NATS_TOKEN_FILE" means:"file with a NATS token, read again at every connect"`
	NATSCA        string `env:"CIPHERFLEET_NATS_CA" means:"file with the certificate authorities of NATS (PEM)"`
}

// Logging is what is written to standard error, and how.
type Logging struct {
	LogLevel  string `env:"CIPHERFLEET_LOG_LEVEL" envDefault:"info" accepts:"debug|info|warn|error" means:"least level that is logged"`
	LogFormat string `env:"CIPHERFLEET_LOG_FORMAT" envDefault:"json" accepts:"json|text" means:"form of the log on standard error"`
}

// Tracing is where traces go. These are the variables that decide whether there are any; the further OTEL_ variables
// (sampler, headers, timeouts, certificates, resource) mean what OpenTelemetry says.
type Tracing struct {
	TracesEndpoint string `env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" means:"full URL for traces, instead of the next one"`
	OTLPEndpoint   string `env:"OTEL_EXPORTER_OTLP_ENDPOINT" means:"base URL of an OTLP receiver; no endpoint, no traces"`
	TracesProtocol string `env:"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" accepts:"http/protobuf|grpc" means:"protocol for traces, instead of the next one"`
	OTLPProtocol   string `env:"OTEL_EXPORTER_OTLP_PROTOCOL" envDefault:"http/protobuf" accepts:"http/protobuf|grpc" means:"protocol of the receiver"`
	TracesExporter string `env:"OTEL_TRACES_EXPORTER" envDefault:"otlp" accepts:"otlp|none" means:"none switches traces off"`
	SDKDisabled    string `env:"OTEL_SDK_DISABLED" envDefault:"false" accepts:"true|false" means:"true switches traces off"`
}

// Proxy is where an encrypting proxy stands.
type Proxy struct {
	ProxyURL URL `env:"CIPHERFLEET_PROXY_URL" means:"encrypting proxy in front of the same database: columns of transform proxy are written through it, and after the cutover of an eql_v2_encrypted column it is told to reload"`
}

// Fleet is what both programs agree on.
type Fleet struct {
	KEK         string `env:"CIPHERFLEET_KEK" default:"the manifest's" accepts:"file:PATH or vault://HOST:PORT/MOUNT/KEY" means:"URI of the key-encryption key; further kinds in docs/keys.md. Of several, with commas between them, the first wraps and each unwraps. A worker reads no manifest: without this its key is cipherfleet.kek.json in the present folder"`
	ForeignKeys string `env:"CIPHERFLEET_FOREIGN_KEYS" accepts:"file:PATH" means:"file with the keys of other systems whose values are re-encrypted, which nobody but its owner may read; docs/foreign.md describes it"`
	Vault
	Lease time.Duration `env:"CIPHERFLEET_LEASE" envDefault:"10s" accepts:"1s..10m" means:"how long a range is a worker's without a sign of life; renewed by each chunk and at every third of it"`
	Drain time.Duration `env:"CIPHERFLEET_DRAIN" envDefault:"25s" accepts:"1s..1h" means:"how long the work in hand may take after the first signal"`

	kinds []kms.Kind // of key-encryption keys that the program is linked with
}

// Binaries is where the programs of Postgres are.
type Binaries struct {
	PostgresBinDir string `env:"CIPHERFLEET_PG_BINDIR" default:"found" means:"folder with initdb and postgres, for private servers"`
}

// DefaultManifest is the manifest that nobody has to name.
const DefaultManifest = "cipherfleet.yaml"

// Coordinator configures the program cipherfleet, all of its commands but demo.
type Coordinator struct {
	Database
	Proxy
	NATS
	Logging
	Tracing
	Fleet
	NATSSync  string        `env:"CIPHERFLEET_NATS_SYNC" envDefault:"always" accepts:"always|interval" means:"when the embedded NATS flushes to disk; interval is for benchmarks only"`
	StateDir  string        `env:"CIPHERFLEET_STATE_DIR" default:"$XDG_STATE_HOME/cipherfleet" means:"folder of the embedded NATS: its store, token and lock. It may be lost"`
	Manifest  string        `env:"CIPHERFLEET_MANIFEST" envDefault:"cipherfleet.yaml" means:"the manifest's file; where none is named and none is there, every command but plan goes on without"`
	AckWait   time.Duration `env:"CIPHERFLEET_ACK_WAIT" envDefault:"15s" accepts:"2s..10m" means:"how long a task may go without a sign of life; longer than the lease. Workers give one at every third of it"`
	Reconcile time.Duration `env:"CIPHERFLEET_RECONCILE" envDefault:"2s" accepts:"100ms..1m" means:"how often queue and Postgres are compared; at most the lease"`
	CatchUp   string        `env:"CIPHERFLEET_CATCH_UP" envDefault:"on" accepts:"on|off" means:"off keeps the coordinator from sweeping again what becomes uncovered after a job"`
	Listen    string        `env:"CIPHERFLEET_LISTEN" envDefault:"127.0.0.1:8080" accepts:"host:port or off" means:"address of the coordinator's health"`

	given []string // names of the variables that were set; never their values, which may be secret
}

// Worker configures the program cipherfleet-worker.
type Worker struct {
	Database
	Proxy
	NATS
	Logging
	Tracing
	Fleet
	WorkerID     string `env:"CIPHERFLEET_WORKER_ID" default:"host-pid-random" means:"name of the worker in events and logs"`
	Slots        int    `env:"CIPHERFLEET_SLOTS" default:"GOMAXPROCS" accepts:"1..256" means:"ranges in work at once"`
	WorkerListen string `env:"CIPHERFLEET_WORKER_LISTEN" envDefault:"127.0.0.1:8081" accepts:"host:port or off" means:"address of the worker's health"`
}

// Demo configures the command demo. It has no DATABASE_URL: an exported one of production must not be touched.
type Demo struct {
	Logging
	Tracing
	Binaries
	DemoRows        int    `env:"DEMO_ROWS" envDefault:"200000" accepts:"1000..1000000000" means:"rows of the demo's table"`
	DemoDatabaseURL URL    `env:"DEMO_DATABASE_URL" means:"server to use instead of a private one; the demo makes and drops its own database there"`
	DemoInstall     string `env:"DEMO_INSTALL" envDefault:"no" accepts:"yes|no" means:"yes lets the demo install Postgres with the system's package manager"`
	Terminal        string `env:"TERM" means:"kind of the terminal; dumb gets plain lines"`
	NoColor         string `env:"NO_COLOR" means:"anything keeps the demo's terminal without colours"`
}

// Test configures the tests.
type Test struct {
	Binaries
	TestDatabaseURL URL    `env:"CIPHERFLEET_TEST_DATABASE_URL" means:"server to make test databases in, instead of a private one"`
	TestNATSURL     URL    `env:"CIPHERFLEET_TEST_NATS_URL" means:"NATS to make test streams in, instead of a private one"`
	Node            string `env:"CIPHERFLEET_NODE" default:"found in PATH" means:"program of Node.js, for the test of the encrypter in deploy/examples"`
}

// Validate checks every variable and how they relate. Flags may have changed them since they were read.
func (c Coordinator) Validate() error {
	return errors.Join(checkVariables(c), checkKEK(c.KEK), checkForeignKeys(c.ForeignKeys), checkAddress("CIPHERFLEET_LISTEN", c.Listen),
		checkLonger("CIPHERFLEET_ACK_WAIT", c.AckWait, "CIPHERFLEET_LEASE", c.Lease),
		checkAtMost("CIPHERFLEET_RECONCILE", c.Reconcile, "CIPHERFLEET_LEASE", c.Lease))
}

// Validate checks every variable. A worker is nothing without Postgres and NATS.
func (w Worker) Validate() error {
	return errors.Join(checkVariables(w), checkKEK(w.KEK), checkForeignKeys(w.ForeignKeys), w.Database.need(), w.NATS.need(), checkAddress("CIPHERFLEET_WORKER_LISTEN", w.WorkerListen))
}

// Validate checks every variable.
func (d Demo) Validate() error { return checkVariables(d) }

// Validate checks every variable.
func (t Test) Validate() error { return checkVariables(t) }

func (d Database) need() error {
	if d.DatabaseURL == "" {
		return &VariableError{Name: "DATABASE_URL", Accepted: "a Postgres URL, as in postgres://user@host:5432/database"}
	}
	return nil
}

func (n NATS) need() error {
	if n.NATSURL == "" {
		return &VariableError{Name: "NATS_URL", Accepted: "a NATS URL, as in nats://host:4222"}
	}
	return nil
}
