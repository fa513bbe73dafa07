package main

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

const (
	rightPIN = "402916"
	wrongPIN = "739105"
)

// cheapPIN is the least that a PIN's stretching may cost.
const cheapPIN = "argon2_memory_kib = 8192\nargon2_time = 1"

// shownLines is how much of sigild's log a test that fails shows.
const shownLines = 40

// patience bounds each test on a loaded machine.
const patience = 3 * time.Minute

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// newHost makes a fresh host, not provisioned yet, that ends with the test. The
// log of its sigild is shown when the test fails.
func newHost(t testing.TB, change ...func(*daemontest.Options)) *daemontest.Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "sigild-") // not t.TempDir: a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	log := new(record)
	o := daemontest.Options{Sigild: []string{self(t)}, Env: playing(), Dir: dir,
		Config: map[string]string{"pin": cheapPIN, "socket": operating()}, Progress: log.add, Log: log.add}
	for _, f := range change {
		f(&o)
	}
	h, err := daemontest.New(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close the host: %v", err)
		}
		if t.Failed() {
			lines := log.all()
			t.Logf("the end of sigild's log:\n%s", strings.Join(lines[max(len(lines)-shownLines, 0):], "\n"))
		}
	})
	return h
}

// withConfig adds lines to sections of the configuration.
func withConfig(sections map[string]string) func(*daemontest.Options) {
	return func(o *daemontest.Options) { maps.Copy(o.Config, sections) }
}

// self is the path of the test program.
func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// record keeps lines that other goroutines write.
type record struct {
	mu    sync.Mutex
	lines []string
}

func (r *record) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

func (r *record) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

// provision provisions the host and returns the recovery code.
func provision(t testing.TB, h *daemontest.Host) []byte {
	t.Helper()
	code, err := h.Provision(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func start(t testing.TB, h *daemontest.Host) {
	t.Helper()
	if err := h.Start(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func stop(t testing.TB, h *daemontest.Host) {
	t.Helper()
	if err := h.Stop(); err != nil {
		t.Fatal(err)
	}
}

func kill(t testing.TB, h *daemontest.Host) {
	t.Helper()
	if err := h.Kill(); err != nil {
		t.Fatal(err)
	}
}

// passTime stops sigild, lets the TPM's clock go on, and starts it again.
func passTime(t testing.TB, h *daemontest.Host, d time.Duration) {
	t.Helper()
	stop(t, h)
	if err := h.TPM.Advance(d); err != nil {
		t.Fatal(err)
	}
	start(t, h)
}

// refusedStart has sigild fail to start and returns its exit code and what it
// said.
func refusedStart(t testing.TB, h *daemontest.Host) (code int, said string) {
	t.Helper()
	err := h.Start(testContext(t))
	var exit *daemontest.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("sigild started, or did not end by itself: %v", err)
	}
	return exit.Code, exit.Log
}

// serving is a fresh host whose sigild runs, and a client of it.
func serving(t testing.TB, change ...func(*daemontest.Options)) (*daemontest.Host, *ipc.Client) {
	t.Helper()
	h := newHost(t, change...)
	provision(t, h)
	start(t, h)
	return h, dial(t, h.Socket)
}

// dial gives a client, which connects anew after a restart of sigild. It sends
// PINs in the clear, as root may; see dialSealed.
func dial(t testing.TB, socket string) *ipc.Client {
	t.Helper()
	c, err := ipc.Dial(testContext(t), socket, ipc.PlainPINs())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // sigild may have gone
	return c
}

// create makes a wallet of the owner "alice" with the right PIN.
func create(t testing.TB, c *ipc.Client, requestID string) ipc.WalletInfo {
	t.Helper()
	r, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: requestID, Owner: "alice", PIN: ipc.Secret(rightPIN)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Existing {
		t.Fatalf("request %q gave a wallet that existed", requestID)
	}
	return r.Wallet
}

// tryPIN signs a message with account 0.
func tryPIN(t testing.TB, c *ipc.Client, wallet ipc.Hex, pin string) (*ipc.SignMessageResult, error) {
	t.Helper()
	return c.SignMessage(testContext(t), ipc.SignMessageParams{WalletID: wallet, Message: ipc.Hex("hello"), PIN: ipc.Secret(pin)})
}

// attemptsLeft asks for a wallet's state without a PIN.
func attemptsLeft(t testing.TB, c *ipc.Client, wallet ipc.Hex) int {
	t.Helper()
	w, err := c.GetWallet(testContext(t), ipc.GetWalletParams{WalletID: wallet})
	if err != nil {
		t.Fatal(err)
	}
	return w.AttemptsLeft
}

// wantReason checks that sigild answered with an error of this reason.
func wantReason(t testing.TB, err error, reason string) *ipc.Error {
	t.Helper()
	var e *ipc.Error
	if !errors.As(err, &e) || e.Reason != reason {
		t.Fatalf("got %v, want an error with reason %q", err, reason)
	}
	return e
}

// mustContain checks what a program said to its operator.
func mustContain(t testing.TB, said string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("%q is not in what sigild said:\n%s", w, said)
		}
	}
}

// mustNotLeak checks that secrets are not in what a program said.
func mustNotLeak(t testing.TB, said string, secrets ...[]byte) {
	t.Helper()
	for _, s := range secrets {
		if bytes.Contains([]byte(said), s) {
			t.Error("a secret is in what sigild said")
		}
	}
}
