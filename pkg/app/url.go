package app

import (
	"log/slog"
	"net/url"
	"strings"
)

// URL is where a server is, and may hold a password: it prints without one.
type URL string

// Raw is the URL as it was given, with the password. It is for connecting only.
func (u URL) Raw() string { return string(u) }

// String is the URL with no password, token or parameter. What cannot be taken apart with certainty is hidden whole.
func (u URL) String() string {
	if u == "" {
		return ""
	}
	if isPostgres(string(u)) { // several hosts are one URL there
		return redact(string(u))
	}
	parts := strings.Split(string(u), ",")
	for i, part := range parts {
		if parts[i] = redact(strings.TrimSpace(part)); parts[i] == hidden {
			return hidden
		}
	}
	return strings.Join(parts, ",")
}

// GoString is String: %#v must not show more.
func (u URL) GoString() string { return u.String() }

// LogValue is String.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText is String.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

const hidden = "(hidden: it may hold a password)"

func redact(one string) string {
	parsed, err := url.Parse(one)
	if err != nil || parsed.Host == "" || strings.Contains(parsed.Path+parsed.RawQuery+parsed.Fragment, "@") {
		return hidden
	}
	user := ""
	if isPostgres(one) && parsed.User.Username() != "" { // elsewhere what stands there alone is a token
		user = parsed.User.Username() + "@"
	}
	return parsed.Scheme + "://" + user + parsed.Host + parsed.Path
}

func isPostgres(text string) bool { return hasScheme(text, "postgres", "postgresql") }

// check reports whether the URL is one of a kind that the variable accepts. It does not try to connect.
func (u URL) check(name string) bool {
	if strings.HasSuffix(name, "NATS_URL") {
		for _, one := range strings.Split(string(u), ",") {
			if !hasScheme(strings.TrimSpace(one), "nats", "tls", "ws", "wss") {
				return false
			}
		}
		return true
	}
	return isPostgres(string(u)) || !strings.Contains(string(u), "://") && strings.Contains(string(u), "=")
}

func hasScheme(text string, schemes ...string) bool {
	for _, scheme := range schemes {
		if strings.HasPrefix(text, scheme+"://") {
			_, err := url.Parse(text)
			return err == nil
		}
	}
	return false
}
