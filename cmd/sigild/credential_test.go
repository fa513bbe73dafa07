package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/daemontest"
)

// withCredential is a host whose token's PIN is a credential that systemd gives
// to the service, and to nobody else.
func withCredential(t *testing.T) (h *daemontest.Host, given []string) {
	t.Helper()
	h = newHost(t, withConfig(map[string]string{"token": `pin = "credential:sigild.token-pin"`}))
	dir := filepath.Join(h.Dir, "credentials")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "sigild.token-pin"), h.TokenPIN(), 0o400)); err != nil {
		t.Fatal(err)
	}
	return h, append(h.Env, "CREDENTIALS_DIRECTORY="+dir)
}

// feeding runs a command with a secret in each descriptor from 3 on.
func feeding(t *testing.T, h *daemontest.Host, secrets [][]byte, args ...string) (code int, said string) {
	t.Helper()
	cmd := h.Command(testContext(t), args...)
	for _, s := range secrets {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer read.Close()
		if _, err := write.Write(append(bytes.Clone(s), '\n')); err != nil {
			t.Fatal(err)
		}
		if err := write.Close(); err != nil {
			t.Fatal(err)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, read)
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func commandSucceeds(t *testing.T, h *daemontest.Host, secrets [][]byte, args ...string) string {
	t.Helper()
	code, said := feeding(t, h, secrets, args...)
	if code != 0 {
		t.Fatalf("sigild %v: exit code %d: %s", args, code, said)
	}
	return said
}

// Commands of an operator run outside the unit, where there is no credential:
// they ask for the PIN, or take it from a descriptor.
func TestCommandsOutsideTheUnit(t *testing.T) {
	h, given := withCredential(t)
	outside := h.Env
	code := provision(t, h) // with --pin-fd
	h.Env = given
	start(t, h)
	w := create(t, dial(t, h.Socket), "1")
	stop(t, h)
	h.Env = outside

	pin := h.TokenPIN()
	if said := commandSucceeds(t, h, [][]byte{pin}, "check", "--pin-fd", "3"); !strings.Contains(said, "is the latest") {
		t.Errorf("check: %s", said)
	}
	if said := commandSucceeds(t, h, [][]byte{pin}, "reseal", "--pin-fd", "3", "--pcr", "11="+after()); !strings.Contains(said, "ahead:") {
		t.Errorf("reseal: %s", said)
	}
	h.Env = given
	start(t, h)
	old := copyOf(t, h)
	if _, err := tryPIN(t, dial(t, h.Socket), w.WalletID, wrongPIN); err == nil {
		t.Fatal("a wrong PIN signed")
	}
	putBack(t, h, old)
	stop(t, h)
	h.Env = outside
	if said := commandSucceeds(t, h, [][]byte{pin}, "check", "--accept", "--pin-fd", "3"); !strings.Contains(said, "accepted") {
		t.Errorf("check --accept: %s", said)
	}
	if err := h.TPM.Extend(12, [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	commandSucceeds(t, h, [][]byte{code, pin}, "recover", "--code-fd", "3", "--pin-fd", "4")
	h.Env = given
	start(t, h)
	if _, err := tryPIN(t, dial(t, h.Socket), w.WalletID, rightPIN); err != nil {
		t.Error(err)
	}
}

// The service asks nobody: it says what is missing.
func TestServiceWithoutItsCredential(t *testing.T) {
	h, _ := withCredential(t)
	provision(t, h)
	code, said := refusedStart(t, h)
	if code != daemon.ExitConfig {
		t.Errorf("exit code %d", code)
	}
	mustContain(t, said, "sigild.token-pin", "CREDENTIALS_DIRECTORY")
}

// Without a terminal and without a descriptor a command says how to go on.
func TestCommandThatCannotAsk(t *testing.T) {
	h, _ := withCredential(t)
	cmd := h.Command(testContext(t), "provision")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "file descriptor") {
		t.Errorf("%v: %s", err, out)
	}
}

// systemd says nowhere that its units wait for the database in another place.
func TestCheckConfigNamesTheUnitsPlace(t *testing.T) {
	h := newHost(t)
	code, said := command(t, h, "", "check-config")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	mustContain(t, said, "the configuration is sound", h.Database(), "store-path.conf")
}
