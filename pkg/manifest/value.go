package manifest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// unit is a suffix of a size and what it multiplies by.
type unit struct {
	suffix string
	bytes  int64
}

func units() []unit {
	return []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}}
}

// ParseSize reads a size in bytes: a whole number, alone or with B, kB, MB, GB, KiB, MiB or GiB behind it.
func ParseSize(s string) (int64, error) {
	number, factor := s, int64(1)
	for _, u := range units() {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			number, factor = strings.TrimRight(rest, " "), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/factor {
		return 0, fmt.Errorf("parse size %q: want a whole number with B, kB, MB, GB, KiB, MiB or GiB behind it", short(s))
	}
	return int64(n) * factor, nil
}

// FormatSize writes a size so that [ParseSize] reads the same number, with the largest binary unit that divides it.
func FormatSize(n int64) string {
	for _, u := range units()[:3] {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// ParseDuration reads a duration such as 250ms, 10s, 24h or 1h30m; a bare 0 needs no unit.
func ParseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("parse duration %q: want a number with ms, s, m or h behind it", short(s))
	}
	return d, nil
}

// FormatDuration writes a duration so that [ParseDuration] reads the same one, without empty parts: 24h, not 24h0m0s.
func FormatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
