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

// String is the URL without its password and parameters.
func (u URL) String() string {
	if u == "" {
		return ""
	}
	parts := strings.Split(string(u), ",")
	for i, part := range parts {
		parts[i] = redact(strings.TrimSpace(part))
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
	scheme, rest, found := strings.Cut(one, "://")
	if !found {
		return hidden
	}
	rest, _, _ = strings.Cut(rest, "?")
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		user, _, _ := strings.Cut(rest[:at], ":")
		rest = user + "@" + rest[at+1:]
		if scheme != "postgres" && scheme != "postgresql" { // elsewhere a lone user may be a token
			rest = rest[strings.LastIndex(rest, "@")+1:]
		}
	}
	return scheme + "://" + rest
}

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
	return hasScheme(string(u), "postgres", "postgresql") || !strings.Contains(string(u), "://") && strings.Contains(string(u), "=")
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
