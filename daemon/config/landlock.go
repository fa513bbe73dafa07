package config

import (
	"errors"
	"slices"
)

// Landlock is what the daemon may still open once it runs, besides what the
// other sections name.
type Landlock struct {
	Enable bool     `toml:"enable"`
	Read   []string `toml:"read"`  // absolute paths of files, or of folders with all below
	Write  []string `toml:"write"` // the same, also written to
	// TCPConnect are the ports that the token's module may connect to where
	// entropy.drop has "kms"; with KMS on no port is closed.
	TCPConnect []int `toml:"tcp_connect"`
}

// WithoutNetwork reports whether the daemon itself needs no TCP connection.
func (c *Config) WithoutNetwork() bool { return slices.Contains(c.Entropy.Drop, "kms") }

func (c *Config) checkLandlock() error {
	l := c.Landlock
	var errs []error
	for key, paths := range map[string][]string{"landlock.read": l.Read, "landlock.write": l.Write} {
		for _, path := range paths {
			errs = append(errs, absolute(key, path))
		}
	}
	for _, port := range l.TCPConnect {
		errs = append(errs, between("landlock.tcp_connect", port, 1, 65535))
	}
	if len(l.TCPConnect) > 0 && !c.WithoutNetwork() {
		errs = append(errs, errors.New(`landlock.tcp_connect: closes no port unless entropy.drop has "kms"`))
	}
	if !l.Enable && (len(l.Read) > 0 || len(l.Write) > 0 || len(l.TCPConnect) > 0) {
		errs = append(errs, errors.New("landlock.read, landlock.write, landlock.tcp_connect: contradict landlock.enable = false"))
	}
	return errors.Join(errs...)
}
