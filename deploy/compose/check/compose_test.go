package check

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/nats-io/nats-server/v2/server"
)

const root = "../../.."

func load(t *testing.T, environment ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithWorkingDirectory(root), cli.WithName("cipherfleet"), cli.WithEnv(environment))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(context.Background())
}

func loaded(t *testing.T) *types.Project {
	t.Helper()
	project, err := load(t, "POSTGRES_PASSWORD=p1", "NATS_TOKEN=n1")
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestTheStackIsComplete(t *testing.T) {
	t.Parallel()
	project := loaded(t)
	want := []string{"coordinator", "jaeger", "nats", "postgres", "setup", "worker"}
	if got := project.ServiceNames(); !slices.Equal(got, want) {
		t.Errorf("the services are %v", got)
	}
	for _, name := range []string{"coordinator", "nats", "postgres", "worker"} {
		if project.Services[name].HealthCheck == nil {
			t.Errorf("%s has no health check", name)
		}
	}
	worker := project.Services["worker"]
	if worker.ContainerName != "" || len(worker.Ports) > 0 {
		t.Error("the worker cannot be scaled: it has a name or a port of its own")
	}
}

func TestTheStackHasNoSecretOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, given := range [][]string{nil, {"POSTGRES_PASSWORD=p1"}, {"NATS_TOKEN=n1"}} {
		if _, err := load(t, given...); err == nil || !strings.Contains(err.Error(), "make up") {
			t.Errorf("with %v it loads: %v", given, err)
		}
	}
	programs := []string{"coordinator", "setup", "worker"}
	for _, name := range programs {
		environment := loaded(t).Services[name].Environment
		for variable, part := range map[string]string{"DATABASE_URL": ":p1@postgres:", "NATS_URL": "//n1@nats:"} {
			if value := environment[variable]; value == nil || !strings.Contains(*value, part) {
				t.Errorf("%s of %s does not carry the given secret", variable, name)
			}
		}
	}
}

func TestProgramsHaveNoPrivileges(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"coordinator", "setup", "worker"} {
		service := loaded(t).Services[name]
		if service.User != "65532:65532" || !service.ReadOnly || !slices.Contains(service.CapDrop, "ALL") {
			t.Errorf("%s runs as %q, read only %v, without %v", name, service.User, service.ReadOnly, service.CapDrop)
		}
	}
}

func TestNothingIsPublishedBeyondLoopback(t *testing.T) {
	t.Parallel()
	for name, service := range loaded(t).Services {
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on %q", name, port.Published, port.HostIP)
			}
		}
	}
}

func TestServicesWaitForWhatTheyNeed(t *testing.T) {
	t.Parallel()
	project := loaded(t)
	want := map[string]map[string]string{
		"setup":       {"postgres": types.ServiceConditionHealthy},
		"coordinator": {"setup": types.ServiceConditionCompletedSuccessfully, "nats": types.ServiceConditionHealthy},
		"worker":      {"coordinator": types.ServiceConditionHealthy},
	}
	for name, needs := range want {
		for needed, condition := range needs {
			if got := project.Services[name].DependsOn[needed].Condition; got != condition {
				t.Errorf("%s waits for %s until %q, want %q", name, needed, got, condition)
			}
		}
	}
}

func TestNATSIsDurable(t *testing.T) {
	t.Setenv("NATS_TOKEN", "n1")
	options, err := server.ProcessConfigFile("../nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !options.JetStream || !options.SyncAlways || options.Authorization != "n1" || options.StoreDir != "/data" {
		t.Errorf("JetStream %v, sync always %v, token taken %v, store %s",
			options.JetStream, options.SyncAlways, options.Authorization == "n1", options.StoreDir)
	}
	if options.HTTPHost != "127.0.0.1" || options.HTTPPort != 8222 {
		t.Errorf("monitoring on %s:%d", options.HTTPHost, options.HTTPPort)
	}
}

func TestSecretsAreRandomAndKept(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), ".env")
	write := func() string {
		if out, err := exec.Command("../env.sh", file).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	first := write()
	if !regexp.MustCompile(`^POSTGRES_PASSWORD=p[0-9a-f]{48}\nNATS_TOKEN=n[0-9a-f]{48}\n$`).MatchString(first) {
		t.Errorf("wrote %d bytes of another shape", len(first))
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	if write() != first {
		t.Error("a second run changed the secrets")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if write() == first {
		t.Error("the secrets are not random")
	}
}

func TestTheImageIsStaticAndUnprivileged(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages := regexp.MustCompile(`(?m)^FROM `).Split(string(content), -1)
	if len(stages) != 3 {
		t.Fatalf("the Dockerfile has %d stages, want two", len(stages)-1)
	}
	build, final := stages[1], stages[2]
	for _, program := range []string{"-o /out/cipherfleet ./coordinator", "-o /out/cipherfleet-worker ./worker"} {
		if !regexp.MustCompile(`CGO_ENABLED=0 go build .*` + regexp.QuoteMeta(program)).MatchString(build) {
			t.Errorf("the first stage does not build %q statically", program)
		}
	}
	if !strings.Contains(final, "\nUSER 65532:65532\n") || strings.Contains(final, "COPY . ") {
		t.Error("the last stage runs as root or carries the sources")
	}
	ignored, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Split(string(ignored), "\n"), ".env") {
		t.Error("the secrets would be sent to the builder")
	}
}
