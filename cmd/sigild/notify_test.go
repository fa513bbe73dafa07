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
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); {
		for _, a := range m.next(time.Second) {
			if strings.HasPrefix(a, prefix) {
				return a
			}
		}
	}
	m.t.Fatalf("the service manager was never told %q", prefix)
	return ""
}

// starves reads until no sign of life came for a whole interval.
func (m *manager) starves() {
	m.t.Helper()
	last := time.Now()
	for until := last.Add(30 * time.Second); time.Now().Before(until); {
		if slices.Contains(m.next(watchdog-time.Since(last)), "WATCHDOG=1") {
			last = time.Now()
		}
		if time.Since(last) >= watchdog {
			return
		}
	}
	m.t.Fatal("the watchdog was fed all the time")
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
	manager.await("READY=1")
	manager.await("WATCHDOG=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	manager.await("STOPPING=1")
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

// A restart would not mend a device that answers with errors.
func TestDegradedKeepsTheWatchdogFed(t *testing.T) {
	m, manager, faults := newWatched(t)
	m.start()
	manager.await("READY=1")
	faults.Fail("C_Sign", 0x30) // CKR_DEVICE_ERROR
	if status := manager.await("STATUS=degraded"); !strings.Contains(status, "token") {
		t.Errorf("%s does not name the token", status)
	}
	for range 8 { // two intervals
		manager.await("WATCHDOG=1")
	}
	faults.Clear("C_Sign")
	manager.await("STATUS=ready")
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
	manager.await("STATUS=degraded")
	manager.starves()
	faults.Clear("C_Sign")
	manager.await("WATCHDOG=1")
	m.stop()
}
