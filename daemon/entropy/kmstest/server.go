package kmstest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/entropy"
)

// Options configure a Server. The zero value is what most tests want.
type Options struct {
	// Region is the AWS region, default "eu-central-1".
	Region string

	// AccessKeyID, SecretAccessKey and SessionToken are the credentials that
	// are accepted; each that is empty is made at random, except that given
	// keys without a token stay without one.
	AccessKeyID, SecretAccessKey, SessionToken string

	// Address is a loopback IP address and port, default "127.0.0.1:0".
	Address string

	// Socket is the path of a Unix socket to listen on instead.
	Socket string

	// Now is the clock of the server, default time.Now. One that is off
	// makes every signature expired or not yet current.
	Now func() time.Time
}

// Stats count what a Server has seen.
type Stats struct {
	Requests          int // all, also the refused ones
	SignatureFailures int // refused because of their signature
	Answered          int // answered with random bytes, good or scripted
}

// Server is a KMS endpoint. It is safe for concurrent use.
type Server struct {
	verifier Verifier
	listener net.Listener
	endpoint string
	http     *http.Server
	stopped  context.Context
	stop     context.CancelFunc
	served   chan struct{}

	mu     sync.Mutex
	stats  Stats
	script []rule
	last   []byte // the last random bytes given out
}

// New starts a Server for one test and closes it at the test's end.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := Start(o)
	if err != nil {
		t.Fatalf("kmstest: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("kmstest: close: %v", err)
		}
	})
	return s
}

// Start starts a Server. The caller closes it.
func Start(o Options) (*Server, error) {
	o = o.withDefaults()
	listener, endpoint, err := o.listen()
	if err != nil {
		return nil, err
	}
	s := &Server{
		verifier: Verifier{
			AccessKeyID: o.AccessKeyID, SecretAccessKey: o.SecretAccessKey, SessionToken: o.SessionToken,
			Region: o.Region, Service: "kms", Now: o.Now,
		},
		listener: listener, endpoint: endpoint, served: make(chan struct{}),
	}
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(listener) // always http.ErrServerClosed after Close
	}()
	return s, nil
}

func (o Options) withDefaults() Options {
	if o.Region == "" {
		o.Region = "eu-central-1"
	}
	if o.AccessKeyID == "" && o.SecretAccessKey == "" && o.SessionToken == "" {
		o.SessionToken = rand.Text() + rand.Text()
	}
	if o.AccessKeyID == "" {
		o.AccessKeyID = "ASIA" + rand.Text()[:16]
	}
	if o.SecretAccessKey == "" {
		o.SecretAccessKey = rand.Text() + rand.Text()
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// listen opens the socket, or a loopback port; nothing else, because the keys
// of a test guard nothing.
func (o Options) listen() (net.Listener, string, error) {
	if o.Socket != "" {
		l, err := net.Listen("unix", o.Socket)
		return l, "unix://" + o.Socket, err
	}
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil {
		return nil, "", fmt.Errorf("address %q: %w", o.Address, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, "", fmt.Errorf("address %q: give a loopback IP address", o.Address)
	}
	l, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, "", err
	}
	return l, "http://" + l.Addr().String(), nil
}

// Close stops the server and every request that hangs.
func (s *Server) Close() error {
	s.stop()
	err := s.http.Close()
	<-s.served
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Endpoint is what a client is given: "http://127.0.0.1:port" or "unix://path".
func (s *Server) Endpoint() string { return s.endpoint }

// Region returns the region that requests must be signed for.
func (s *Server) Region() string { return s.verifier.Region }

// KMSConfig returns a configuration of the KMS source for this server, with
// waits short enough for tests. The credentials come from the environment.
func (s *Server) KMSConfig() entropy.KMSConfig {
	return entropy.KMSConfig{
		Region: s.Region(), Endpoint: s.endpoint, AllowPlaintext: true,
		BaseBackoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond,
	}
}

// Env returns KEY=VALUE lines that give a process the credentials of this
// server and nothing else of the host's: no metadata service, no shared files.
func (s *Server) Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + s.verifier.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + s.verifier.SecretAccessKey,
		"AWS_SESSION_TOKEN=" + s.verifier.SessionToken,
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		"AWS_PROFILE=",
		"AWS_ENDPOINT_URL=",
		"AWS_ENDPOINT_URL_KMS=",
	}
}

// Setenv puts Env into this process for the length of a test.
func (s *Server) Setenv(t testing.TB) {
	t.Helper()
	for _, line := range s.Env() {
		name, value, _ := strings.Cut(line, "=")
		t.Setenv(name, value)
	}
}

// Stats returns what the server has seen so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}
