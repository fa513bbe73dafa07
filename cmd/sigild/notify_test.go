package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/hsm/hsmtest"
	"github.com/sigild/sigild/ipc"
)

// watchdog is the interval of these tests; the probes run four times in it.
const watchdog = 2 * time.Second

// manager is a service manager's end of sd_notify(3).
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

// newManager listens, and gives the variables that point a service at it.
func newManager(t *testing.T) (*manager, []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sigild-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &manager{t, conn}, []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=2000000"}
}

// next gives the assignments of the next message, or nothing when none comes
// within the time.
func (m *manager) next(within time.Duration) []string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		m.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Split(string(buf[:n]), "\n")
}

// await reads until an assignment begins like that, and gives it.
func (m *manager) await(prefix string) string {
	m.t.Helper()
	message, n := m.message(prefix, "\x00")
	return message[n]
}

// message reads until an assignment begins like that, and gives the message that
// it came in. It fails when another assignment comes before.
func (m *manager) message(prefix, never string) (message []string, n int) {
	m.t.Helper()
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); {
		message = m.next(time.Second)
		for n, a := range message {
			if strings.HasPrefix(a, never) {
				m.t.Fatalf("the service manager was told %q before %q", a, prefix)
			}
			if strings.HasPrefix(a, prefix) {
				return message, n
			}
		}
	}
	m.t.Fatalf("the service manager was never told %q", prefix)
	return nil, 0
}

// withheld wants READY not to be said in so many rounds.
func (m *manager) withheld(rounds int) {
	m.t.Helper()
	for range rounds {
		m.message("WATCHDOG=1", "READY=1")
	}
}

// starves reads until no sign of life came for a whole interval.
func (m *manager) starves() {
	m.t.Helper()
	if gap := m.longestGap(30*time.Second, watchdog); gap < watchdog {
		m.t.Fatal("the watchdog was fed all the time")
	}
}

// fed wants a sign of life in each interval, for some of them.
func (m *manager) fed(intervals int) {
	m.t.Helper()
	if gap := m.longestGap(time.Duration(intervals)*watchdog, watchdog); gap >= watchdog {
		m.t.Fatalf("no sign of life came for %v", gap)
	}
}

// longestGap is the longest time between two signs of life, from now on for some
// time, or until one is as long as enough.
func (m *manager) longestGap(within, enough time.Duration) (longest time.Duration) {
	m.t.Helper()
	last := time.Now()
	for until := last.Add(within); time.Now().Before(until) && longest < enough; {
		alive := slices.Contains(m.next(enough-time.Since(last)), "WATCHDOG=1")
		longest = max(longest, time.Since(last))
		if alive {
			last = time.Now()
		}
	}
	return longest
}

// feeding reads until the test ends, and says how long the longest time between two
// signs of life was so far.
func (m *manager) feeding() (longest func() time.Duration) {
	var worst atomic.Int64
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for last := time.Now(); ; {
			select {
			case <-stop:
				return
			default:
			}
			fed := slices.Contains(m.next(watchdog/20), "WATCHDOG=1")
			worst.Store(max(worst.Load(), int64(time.Since(last))))
			if fed {
				last = time.Now()
			}
		}
	}()
	m.t.Cleanup(func() { close(stop); <-ended })
	return func() time.Duration { return time.Duration(worst.Load()) }
}

// newWatched is a host on the faulty module, provisioned, whose sigild talks to
// the manager.
func newWatched(t *testing.T) (*measured, *manager, *hsmtest.Faults) {
	t.Helper()
	token := hsmtest.New(t, hsmtest.WithFaults())
	manager, env := newManager(t)
	m := newMeasuredHost(t, daemontest.Options{Module: token.Module, Env: env})
	manager.await("STOPPING=1") // of the run that made the wallet
	return m, manager, token.Faults
}

func TestNotifySocketActivated(t *testing.T) {
	m := newMeasured(t)
	manager, env := newManager(t)
	inner := m.Command(t.Context(), "run")
	args := []string{"-l", m.Socket}
	for _, assignment := range append(inner.Env, env...) {
		args = append(args, "-E", assignment)
	}
	cmd := exec.CommandContext(t.Context(), "systemd-socket-activate", append(args, inner.Args...)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := m.dialWhenThere()
	if _, err := c.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ready, _ := manager.message("READY=1", "STATUS=failing"); !slices.Contains(ready, "STATUS=ready") {
		t.Errorf("READY came with %q", ready)
	}
	manager.await("WATCHDOG=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if stopping, _ := manager.message("STOPPING=1", "READY=1"); len(stopping) != 2 || !strings.HasPrefix(stopping[1], "STATUS=finishing") {
		t.Errorf("STOPPING came with %q", stopping)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("sigild under systemd-socket-activate: %v", err)
	}
	if _, err := os.Lstat(m.Socket); err != nil {
		t.Errorf("the manager's socket: %v, it is not the daemon's to remove", err)
	}
}

// dialWhenThere waits for a socket that another process makes.
func (m *measured) dialWhenThere() *ipc.Client {
	m.t.Helper()
	for turn := time.NewTicker(10 * time.Millisecond); ; {
		c, err := ipc.Dial(m.ctx, m.Socket, ipc.PlainPINs())
		if err == nil {
			m.t.Cleanup(func() { _ = c.Close() })
			turn.Stop()
			return c
		}
		select {
		case <-turn.C:
		case <-m.ctx.Done():
			m.t.Fatal(err)
		}
	}
}

// A restart would not mend a device that answers with errors, or is not there.
func TestDegradedKeepsTheWatchdogFed(t *testing.T) {
	m, manager, faults := newWatched(t)
	m.start()
	manager.await("READY=1")
	for what, fault := range map[string]struct {
		begin, end func()
		status     string
	}{
		"errors": {func() { faults.Fail("C_Sign", pkcs11.CKR_DEVICE_ERROR) }, func() { faults.Clear("C_Sign") }, "STATUS=failing: token"},
		"away":   {faults.Vanish, faults.ClearAll, "STATUS=failing: tokenAway"},
		"TPM":    {m.StopTPM, m.boot, "STATUS=failing: tpmAway"},
	} {
		t.Run(what, func(t *testing.T) {
			manager.t, m.t = t, t
			fault.begin()
			manager.await(fault.status)
			manager.fed(3)
			fault.end()
			manager.await("STATUS=ready")
		})
	}
	manager.t, m.t = t, t
	m.stop()
	manager.await("STOPPING=1")
}

func TestHungCallsStarveTheWatchdog(t *testing.T) {
	m, manager, faults := newWatched(t)
	m.Config["watchdog"] = `device_hang = "1s"`
	if err := m.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	m.start()
	manager.await("READY=1")
	faults.Hang("C_Sign")
	manager.await("STATUS=failing")
	manager.starves()
	faults.Clear("C_Sign")
	manager.await("WATCHDOG=1")
	m.stop()
}

// Wallets' keys are in sessions of their own: when all of these hang nothing is
// served, while the probe's signature still goes through.
func TestHungKeepersStarveTheWatchdog(t *testing.T) {
	m, manager, faults := newWatched(t)
	m.Config["watchdog"] = `device_hang = "1s"`
	m.Config["token"] = "timeout = \"1s\"\nkeepers = 2"
	if err := m.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	m.start()
	manager.await("READY=1")
	faults.Hang("C_UnwrapKey")
	for range 2 {
		wantReason(t, m.sign(testPIN), "timeout")
	}
	manager.await("STATUS=failing: tokenHangs")
	manager.starves()
	faults.Clear("C_UnwrapKey")
	manager.await("STATUS=ready")
	manager.await("WATCHDOG=1")
	m.stop()
}

// A command to the TPM is given up after tpm.timeout and the TPM opened again:
// more a restart could not do, and it would end every unlock.
func TestHungTPMKeepsTheWatchdogFed(t *testing.T) {
	h := newFaultHost(t)
	manager, env := newManager(t)
	h.Env = append(h.Env, env...)
	start(t, h.Host)
	manager.await("READY=1")
	h.hangTPM()
	manager.await("STATUS=failing: tpmAway")
	manager.fed(3)
	h.releaseTPM()
	manager.await("STATUS=ready")
	stop(t, h.Host)
}
