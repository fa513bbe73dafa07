package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sigild/sigild/cmd/internal/ask/asktest"
	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// landlockABI asks this host's kernel; 0 when it has no Landlock.
func landlockABI() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// needLandlock fails where nothing could be seen.
func needLandlock(t *testing.T, version int) {
	t.Helper()
	if abi := landlockABI(); abi < version {
		t.Fatalf("this kernel offers Landlock ABI %d, the test needs %d: run it on a newer one", abi, version)
	}
}

// outside is a file with its folder that no configuration names.
func outside(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// tries has the running daemon's module try something, on a thread that C
// started and on one of the daemon's own, while the daemon signs.
func (h *faultHost) tries(c *ipc.Client, wallet ipc.Hex, what, argument string, want error) {
	h.t.Helper()
	if got := h.token.Try(what, argument); !errors.Is(got, want) {
		h.t.Errorf("a thread of the module: %s %s: %v, want %v", what, argument, got, want)
	}
	if _, err := tryPIN(h.t, c, wallet, rightPIN); err != nil {
		h.t.Fatal(err)
	}
	if got, was := h.token.TriedByCall(); !was || !errors.Is(got, want) {
		h.t.Errorf("a call of the module: %s %s: %v (%t), want %v", what, argument, got, was, want)
	}
}

// A module that was broken into reaches nothing but what the configuration
// names, also after devices came back and the configuration was reloaded; and
// what the daemon needs it still reaches.
func TestConfined(t *testing.T) {
	needLandlock(t, 1)
	lines := make(chan string, 1000)
	h := newFaultHost(t, watched(lines))
	start(t, h.Host)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	file := outside(t)
	refused := func() {
		t.Helper()
		for _, try := range [][2]string{{"read", file}, {"create", file}, {"create", filepath.Join(filepath.Dir(file), "new")},
			{"read", "/root"}, {"read", "/var/log"}, {"create", "/etc/cron.d/new"}, {"create", h.Dir + "/../new"}, {"run", "/bin/true"}} {
			h.tries(c, w.WalletID, try[0], try[1], syscall.EACCES)
		}
		h.tries(c, w.WalletID, "read", h.ConfigPath(), nil)
		h.tries(c, w.WalletID, "create", h.Database()+".new", nil)
		h.tries(c, w.WalletID, "read", "/usr/lib/os-release", nil)
	}
	refused()
	s, err := c.Status(testContext(t))
	if err != nil || s.Landlock.ABI != landlockABI() || !slices.Contains(s.Landlock.Restricts, "files") {
		t.Errorf("the status says %+v, %v", s.Landlock, err)
	}
	for _, recovery := range []func(){
		func() { h.token.Vanish(); h.token.Return(1) },
		h.token.LoseSessions,
		func() { h.stopTPM(); h.startTPM() },
		func() {
			hangUp(t, h.Host, lines, map[string]string{"log": "level = \"debug\""}, "configuration reloaded", "log.level")
		},
	} {
		recovery()
		await(t, "service is back", func() bool { _, err := tryPIN(t, c, w.WalletID, rightPIN); return err == nil })
	}
	refused()
	create(t, c, "2") // KMS, the TPM and the token give randomness
	stop(t, h.Host)
}

// Many calls at one time run on many threads, each of which is confined.
func TestEveryThreadIsConfined(t *testing.T) {
	needLandlock(t, 1)
	h := newFaultHost(t)
	start(t, h.Host)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	file := outside(t)
	done := make(chan error)
	for range 8 {
		go func() {
			other := dial(t, h.Socket)
			for range 6 {
				if _, err := tryPIN(t, other, w.WalletID, rightPIN); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 40 {
		h.tries(c, w.WalletID, "read", file, syscall.EACCES)
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", h.PID()))
	if err != nil || len(threads) < 4 {
		t.Errorf("%d threads, %v: too few to show anything", len(threads), err)
	}
}

// Without Landlock the same module reads the file, and the status says so.
func TestUnconfined(t *testing.T) {
	h := newFaultHost(t, withConfig(map[string]string{"landlock": "enable = false"}))
	start(t, h.Host)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	h.tries(c, w.WalletID, "read", outside(t), nil)
	s, err := c.Status(testContext(t))
	if err != nil || s.Landlock.ABI != 0 || len(s.Landlock.Restricts) != 0 || !strings.Contains(strings.Join(s.Notes, "\n"), "landlock.enable") {
		t.Errorf("the status says %+v, %q, %v", s.Landlock, s.Notes, err)
	}
}

// Without KMS no TCP port can be reached but those that the configuration names.
func TestConfinedPorts(t *testing.T) {
	needLandlock(t, 4)
	open, closed := listenTCP(t), listenTCP(t)
	h := newFaultHost(t, func(o *daemontest.Options) { o.WithoutKMS = true },
		withConfig(map[string]string{"entropy": `drop = ["kms"]`}))
	h.Config["kms"] = ""
	h.Config["landlock"] = fmt.Sprintf("write = [%q]\ntcp_connect = [%s]", filepath.Dir(h.Module), open)
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	start(t, h.Host)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	h.tries(c, w.WalletID, "connect", open, nil)
	h.tries(c, w.WalletID, "connect", closed, syscall.EACCES)
	if s, err := c.Status(testContext(t)); err != nil || !slices.Contains(s.Landlock.Restricts, "tcp") {
		t.Errorf("the status says %+v, %v", s.Landlock, err)
	}
}

func listenTCP(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// The terminal that the token's PIN is typed on stays within reach.
func TestPINIsTypedUnderLandlock(t *testing.T) {
	needLandlock(t, 5)
	m := newDevices(t, daemontest.Options{Config: map[string]string{"token": `pin = "prompt"`}})
	if _, err := m.Provision(m.ctx); err != nil {
		t.Fatal(err)
	}
	term := asktest.Start(t, m.Command(m.ctx, "run"))
	term.Expect("User PIN of the token: ")
	term.Send(string(m.TokenPIN()) + "\r")
	term.Expect("msg=ready")
	if s, err := m.dialWhenThere().Status(m.ctx); err != nil || !slices.Contains(s.Landlock.Restricts, "deviceControl") {
		t.Errorf("the status says %+v, %v", s, err)
	}
	term.Send("\x03")
	code, shown := term.Wait()
	if code != 0 {
		t.Errorf("exit code %d:\n%s", code, shown)
	}
	mustNotLeak(t, shown, m.TokenPIN())
}

// A path that is not there is no path to grant: somebody mistyped it.
func TestConfinementNamesWhatIsMissing(t *testing.T) {
	needLandlock(t, 1)
	h := newHost(t)
	provision(t, h)
	h.Config["landlock"] = `read = ["/nowhere/vendor.conf"]`
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	code, said := refusedStart(t, h)
	if code != daemon.ExitConfig {
		t.Errorf("exit code %d", code)
	}
	mustContain(t, said, "landlock.read", "/nowhere/vendor.conf")
}
