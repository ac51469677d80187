package embedded

import (
	"maps"
	"strconv"
)

// settings are those of one start: what every private cluster has, what its purpose asks for, what the caller wants.
func settings(o PostgresOptions, port int) map[string]string {
	all := map[string]string{
		"listen_addresses":        loopback,
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": "", // its path would be limited to 107 bytes
		"max_connections":         "200",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"logging_collector":       "off",
		"wal_level":               "logical",
	}
	if !o.Durable {
		maps.Copy(all, fast())
	}
	maps.Copy(all, o.Settings)
	return all
}

// fast gives up all durability and the work that nobody asked for: for tests that never crash the server.
func fast() map[string]string {
	return map[string]string{
		"fsync":              "off",
		"full_page_writes":   "off",
		"synchronous_commit": "off",
		"autovacuum":         "off",
		"shared_buffers":     "64MB",
		"max_wal_size":       "2GB",
	}
}
