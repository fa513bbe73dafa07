package config

import (
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"
)

// Metrics is where a monitoring system reads. It is never the relays' socket.
type Metrics struct {
	Listen string `toml:"listen"` // "unix:/absolute/path", "tcp:127.0.0.1:9464", "tcp:[::1]:9464"; empty: nowhere
	Mode   string `toml:"mode"`   // of the Unix socket, octal
	Group  string `toml:"group"`  // of the Unix socket; empty: the daemon's own
}

// Address splits metrics.listen into what net.Listen takes; both are empty when
// there is nothing to listen on.
func (m Metrics) Address() (network, address string) {
	network, address, _ = strings.Cut(m.Listen, ":")
	return network, address
}

// FileMode is the socket's mode.
func (m Metrics) FileMode() fs.FileMode { return Socket{Mode: m.Mode}.FileMode() }

func (m Metrics) check() error {
	n, err := strconv.ParseUint(m.Mode, 8, 32)
	if err != nil || n&^0o666 != 0 || n&0o600 != 0o600 {
		return fmt.Errorf("metrics.mode: %q is not a mode such as 0660", m.Mode)
	}
	network, address := m.Address()
	switch network {
	case "":
		return nil
	case "unix":
		return absolute("metrics.listen", address)
	case "tcp":
		return loopback(address)
	}
	return fmt.Errorf(`metrics.listen: %q is not "unix:/absolute/path" or "tcp:127.0.0.1:PORT"`, m.Listen)
}

// loopback refuses an address that other hosts can reach, and names, which
// could come to mean one.
func loopback(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	ip := net.ParseIP(host)
	if err != nil || ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("metrics.listen: %q is not a loopback address with a port, such as 127.0.0.1:9464; "+
			"for other hosts put an exporter with authentication in front", address)
	}
	return nil
}

func (c *Config) checkMetricsPath() error {
	network, address := c.Metrics.Address()
	if network == "unix" && (address == c.Socket.Path || address == c.Store.Path || address == c.Audit.Path) {
		return fmt.Errorf("metrics.listen: %q is taken by another key", address)
	}
	return nil
}
