package embedded

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
)

const loopback = "127.0.0.1"

// Ports below the range from which operating systems take the ports of outgoing connections: nobody can
// accidentally occupy ours between a kill and the restart.
const firstPort, lastPort = 15000, 32000

const portAttempts = 50

// freePort returns a loopback port that nobody listens on at this moment.
func freePort() (int, error) {
	var last error
	for range portAttempts {
		port := firstPort + rand.IntN(lastPort-firstPort)
		listener, err := net.Listen("tcp", hostPort(port))
		if err != nil {
			last = err
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("release port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("find free loopback port: %w", last)
}

func hostPort(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// portTaken reports whether a server could not start because of its port; both servers tell it in words only.
func portTaken(err error) bool {
	return strings.Contains(strings.ToLower(err.Error()), "address already in use")
}
