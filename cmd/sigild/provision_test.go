package main

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/seal"
)

// command runs `sigild ARGS` and returns its exit code and what it said.
func command(t testing.TB, h *daemontest.Host, stdin string, args ...string) (code int, said string) {
	t.Helper()
	cmd := h.Command(testContext(t), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// provisionWith runs `sigild provision`, with the PIN on standard input, the
// code going to codeFile, and watch called with each line that it says.
func provisionWith(t testing.TB, h *daemontest.Host, codeFile *os.File, watch func(line string, kill func() error)) (code int, said string) {
	t.Helper()
	cmd := h.Command(testContext(t), "provision", "--pin-fd", "0", "--code-fd", "3")
	cmd.Stdin = bytes.NewReader(append(h.TokenPIN(), '\n'))
	cmd.ExtraFiles = []*os.File{codeFile}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(&all, lines.Text())
		watch(lines.Text(), cmd.Process.Kill)
	}
	_ = cmd.Wait() // its exit code is what counts
	return cmd.ProcessState.ExitCode(), all.String()
}

// devNull takes a recovery code that nobody will need.
func devNull(t testing.TB) *os.File {
	t.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestRunBeforeProvisionIsRefused(t *testing.T) {
	h := newHost(t)
	code, said := refusedStart(t, h)
	if code != daemon.ExitConfig {
		t.Errorf("exit code %d", code)
	}
	mustContain(t, said, "not provisioned", "sigild provision")
	if _, err := os.Stat(h.Database()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("run made a database: %v", err)
	}
}

func TestSecondProvisionIsRefusedAndChangesNothing(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	if code, said := provisionWith(t, h, devNull(t), func(string, func() error) {}); code == 0 || !strings.Contains(said, "in use") {
		t.Errorf("beside a running daemon: exit code %d: %s", code, said)
	}
	stop(t, h)
	before := dump(t, h)
	code, said := provisionWith(t, h, devNull(t), func(string, func() error) {})
	if code != daemon.ExitConfig {
		t.Errorf("exit code %d", code)
	}
	mustContain(t, said, "provisioned already")
	if after := dump(t, h); !maps.Equal(before, after) {
		t.Error("a refused provisioning changed what the database holds")
	}
	start(t, h)
	signAll(t, c, w, 0)
}

func TestBadCommandLinesAndConfigurations(t *testing.T) {
	h := newHost(t, withConfig(map[string]string{"limits": "no_such_limit = 1"}))
	for _, args := range [][]string{{"run", "--no-such-flag"}, {"provision", "--pin-fd", "x"},
		{"provision", "--shares", "3"}, {"provision", "--threshold", "2"}, {"provision", "--shares", "2", "--threshold", "3"},
		{"recover", "--shares", "3", "--threshold", "2"}} {
		if code, said := command(t, h, "", args...); code != 2 {
			t.Errorf("%v: exit code %d: %s", args, code, said)
		}
	}
	for _, args := range [][]string{{"run"}, {"check-config"}, {"provision", "--pin-fd", "0"}} {
		code, said := command(t, h, "x\n", args...)
		if code != daemon.ExitConfig {
			t.Errorf("%v: exit code %d", args, code)
		}
		mustContain(t, said, "no_such_limit")
	}
}

func TestProvisionRefusesAWeakTokenPIN(t *testing.T) {
	h := newHost(t)
	code, said := command(t, h, "123456\n", "provision", "--pin-fd", "0")
	if code == 0 {
		t.Error("a PIN of six digits is accepted for the token")
	}
	mustContain(t, said, "128 random bits")
	mustNotLeak(t, said, []byte("123456"))
	provision(t, h) // nothing was spoilt
}

// TestProvisionGoesOnAfterAnInterruption kills one provisioning after each line
// that it says, and each time finds the daemon unprovisioned and the next run
// going on with the same installation.
func TestProvisionGoesOnAfterAnInterruption(t *testing.T) {
	h := newHost(t)
	var installation string
	for _, moment := range []string{"installation ", "token: ", "token keys: ", "TPM: ", "recovery code: "} {
		killed := false
		_, said := provisionWith(t, h, fullPipe(t), func(line string, kill func() error) {
			if strings.HasPrefix(line, moment) {
				killed = kill() == nil
			}
		})
		first, _, _ := strings.Cut(said, "\n")
		if !killed || strings.Contains(said, "\nprovisioned") || (installation != "" && first != installation) {
			t.Fatalf("killed at %q: %v, said:\n%s\nwant the %s", moment, killed, said, installation)
		}
		installation = first
		if code, said := refusedStart(t, h); code != daemon.ExitConfig {
			t.Fatalf("after a kill at %q run ended with %d: %s", moment, code, said)
		}
	}
	provision(t, h)
	start(t, h)
	c := dial(t, h.Socket)
	signAll(t, c, create(t, c, "1"), 0)
}

// TestProvisionNeedsTheCodeToBeTaken has nobody take the recovery code: the
// reader has gone, or the process is killed while it waits for the reader.
func TestProvisionNeedsTheCodeToBeTaken(t *testing.T) {
	h := newHost(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := read.Close(); err != nil {
		t.Fatal(err)
	}
	code, said := provisionWith(t, h, write, func(string, func() error) {})
	if code != daemon.ExitFailed || write.Close() != nil {
		t.Errorf("exit code %d", code)
	}
	mustContain(t, said, "recovery code was not shown")
	killWhileShowingCode(t, h)
	if code, said := refusedStart(t, h); code != daemon.ExitConfig {
		t.Fatalf("run ended with %d: %s", code, said)
	}
	code2 := provision(t, h)
	start(t, h)
	checkRecoveryCode(t, h, code2)
}

// killWhileShowingCode kills provisioning while it gives the code to a pipe that
// nobody empties.
func killWhileShowingCode(t *testing.T, h *daemontest.Host) {
	t.Helper()
	killed := false
	_, said := provisionWith(t, h, fullPipe(t), func(line string, kill func() error) {
		if strings.HasPrefix(line, "recovery code: ") {
			killed = kill() == nil
		}
	})
	if !killed {
		t.Fatalf("provisioning said:\n%s", said)
	}
}

// fullPipe is a pipe that takes nothing more: whoever writes to it waits, so that
// provisioning cannot be complete.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = read.Close(), write.Close() })
	size, err := unix.FcntlInt(write.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := write.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	return write
}

func TestRecoveryCodeOpensTheHostKeysValue(t *testing.T) {
	h := newHost(t)
	code := provision(t, h)
	if !regexp.MustCompile(`^([0-9A-HJKMNP-TV-Z]{4}-){8}[0-9A-HJKMNP-TV-Z]{4}$`).Match(code) {
		t.Errorf("not a recovery code of nine groups: %q", code)
	}
	start(t, h)
	checkRecoveryCode(t, h, code)
}

// checkRecoveryCode stops sigild and compares what the code opens with what the
// TPM computes.
func checkRecoveryCode(t *testing.T, h *daemontest.Host, code []byte) {
	t.Helper()
	stop(t, h)
	v := openVault(t, h)
	secret, err := seal.OpenHost(code, v.doc.ID, 1, v.doc.HostKeys[0].Recovery)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(secret.TokenPIN, h.TokenPIN()) {
		t.Error("the recovery code gives another token PIN")
	}
	mac := hmac.New(sha256.New, secret.Host)
	mac.Write([]byte("a message"))
	var got [32]byte
	err = v.factors.Host(testContext(t), []byte("a message"), &got)
	if err != nil || !bytes.Equal(got[:], mac.Sum(nil)) {
		t.Errorf("the TPM computes with another key than the recovery code opens (error %v)", err)
	}
	other := seal.NewRecoveryCode()
	if _, err := seal.OpenHost(other, v.doc.ID, 1, v.doc.HostKeys[0].Recovery); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("another recovery code: %v", err)
	}
}
