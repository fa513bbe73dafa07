package entropy

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"time"
)

// KMSConfig configures [NewKMS]. Only Region is required. Credentials cannot be
// given: they are this host's own, found by the SDK's default chain.
type KMSConfig struct {
	// Region is the AWS region, such as "eu-central-1".
	Region string

	// Endpoint replaces the region's public endpoint, for instance by that of
	// a VPC: "https://host[:port]". With AllowPlaintext it may also be
	// "http://127.0.0.1:port", "http://[::1]:port" or "unix:///absolute/path".
	// An endpoint in the environment or in ~/.aws is refused, not used.
	Endpoint string

	// AllowPlaintext permits an endpoint without TLS on this host. Whatever
	// listens there chooses the KMS part of the randomness.
	AllowPlaintext bool

	// Timeout bounds one attempt, from connecting to the last byte of the
	// answer: 10 ms to 30 s, default 4 s. With the other defaults a read ends
	// within 17 s, which is inside the mixer's 20 s.
	Timeout time.Duration

	// MaxAttempts is the first attempt and its retries: 1 to 10, default 4.
	MaxAttempts int

	// BaseBackoff is the longest wait before the first retry, default 100 ms.
	// It doubles with each retry up to MaxBackoff, default 2 s; each wait is
	// chosen at random between zero and that.
	BaseBackoff, MaxBackoff time.Duration
}

// regionForm keeps what becomes part of a host name to what AWS uses.
const regionForm = `^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`

// endpoint is a checked KMSConfig.Endpoint.
type endpoint struct {
	url    string // for the SDK; "" means AWS's own
	socket string // absolute path, "" unless a Unix socket
}

// withDefaults fills in what is zero and refuses what is out of bounds.
func (c KMSConfig) withDefaults() (KMSConfig, error) {
	c.Timeout = cmp.Or(c.Timeout, 4*time.Second)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 4)
	c.BaseBackoff = cmp.Or(c.BaseBackoff, 100*time.Millisecond)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, 2*time.Second)
	switch ok, err := regexp.MatchString(regionForm, c.Region); {
	case err != nil || !ok:
		return c, fmt.Errorf("kms: region %q: give an AWS region such as eu-central-1", c.Region)
	case c.Timeout < 10*time.Millisecond || c.Timeout > 30*time.Second:
		return c, fmt.Errorf("kms: timeout %s: set 10ms to 30s", c.Timeout)
	case c.MaxAttempts < 1 || c.MaxAttempts > 10:
		return c, fmt.Errorf("kms: %d attempts: set 1 to 10", c.MaxAttempts)
	case c.BaseBackoff < 0 || c.BaseBackoff > c.MaxBackoff || c.MaxBackoff > time.Minute:
		return c, fmt.Errorf("kms: back-off %s to %s: set base <= max <= 1m", c.BaseBackoff, c.MaxBackoff)
	}
	return c, nil
}

// parseEndpoint checks that the endpoint is protected by TLS, or never leaves
// this host and was explicitly allowed.
func (c KMSConfig) parseEndpoint() (endpoint, error) {
	if c.Endpoint == "" {
		return endpoint{}, nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return endpoint{}, errors.New("kms: endpoint is not a URL; give https://host[:port]")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return endpoint{}, errors.New("kms: endpoint must be https://host[:port] and nothing more")
	}
	if u.Scheme == "https" {
		return bareHost(u)
	}
	if !c.AllowPlaintext {
		return endpoint{}, errors.New("kms: endpoint is not https; use https, or allow a plaintext endpoint on this host explicitly")
	}
	return localEndpoint(u)
}

// localEndpoint accepts a loopback address or a Unix socket. A host name is
// refused even if it is "localhost": who resolves it decides where it leads.
func localEndpoint(u *url.URL) (endpoint, error) {
	switch u.Scheme {
	case "http":
		if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
			return endpoint{}, errors.New("kms: a plaintext endpoint must be a loopback address such as http://127.0.0.1:8080")
		}
		return bareHost(u)
	case "unix":
		if u.Host != "" || !filepath.IsAbs(u.Path) || filepath.Clean(u.Path) != u.Path {
			return endpoint{}, errors.New("kms: a socket endpoint must be unix:///absolute/path")
		}
		return endpoint{url: "http://kms.localhost", socket: u.Path}, nil
	default:
		return endpoint{}, fmt.Errorf("kms: endpoint scheme %q: use https", u.Scheme)
	}
}

// bareHost refuses a path and an empty host.
func bareHost(u *url.URL) (endpoint, error) {
	if u.Hostname() == "" || (u.Path != "" && u.Path != "/") {
		return endpoint{}, errors.New("kms: endpoint must be scheme://host[:port] and nothing more")
	}
	return endpoint{url: u.Scheme + "://" + u.Host}, nil
}
