package manifest_test

import (
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/manifest"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "17": 17, "17B": 17, "3kB": 3000, "4MiB": 4 << 20, "4 MiB": 4 << 20, "1GiB": 1 << 30, "2GB": 2e9, "5MB": 5e6, "1KiB": 1024} {
		if have, err := manifest.ParseSize(text); err != nil || have != want {
			t.Errorf("%s: have %d, %v, want %d", text, have, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "1mib", "9223372036854775807KiB", "1e3", "0x10", "1 000", "4 MiB "} {
		if have, err := manifest.ParseSize(text); err == nil {
			t.Errorf("%q: have %d, want an error", text, have)
		}
	}
	for size, want := range map[int64]string{0: "0B", 1: "1B", 1024: "1KiB", 1025: "1025B", 4 << 20: "4MiB", 1 << 30: "1GiB", 3 << 29: "1536MiB"} {
		if have := manifest.FormatSize(size); have != want {
			t.Errorf("%d: have %s, want %s", size, have, want)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"0": 0, "250ms": 250 * time.Millisecond, "24h": 24 * time.Hour, "1h30m": 90 * time.Minute} {
		if have, err := manifest.ParseDuration(text); err != nil || have != want {
			t.Errorf("%s: have %s, %v, want %s", text, have, err, want)
		}
	}
	for _, text := range []string{"", "10", "1d", "soon"} {
		if have, err := manifest.ParseDuration(text); err == nil {
			t.Errorf("%q: have %s, want an error", text, have)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", time.Second: "1s", time.Minute: "1m", 24 * time.Hour: "24h", 90 * time.Minute: "1h30m", time.Hour + time.Second: "1h0m1s", 250 * time.Millisecond: "250ms"} {
		if have := manifest.FormatDuration(d); have != want {
			t.Errorf("%d: have %s, want %s", d, have, want)
		}
	}
}
