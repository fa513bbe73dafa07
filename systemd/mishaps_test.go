//go:build system

package systemd_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pinFrom has the configuration name another source of the token's PIN, and
// returns what it said before.
func (h *host) pinFrom(source string) (before string) {
	h.t.Helper()
	good, err := os.ReadFile(filepath.Join(h.root, "etc/sigild/sigild.toml"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("/etc/sigild/sigild.toml", strings.Replace(string(good), `pin = "tpm"`, fmt.Sprintf("pin = %q", source), 1), 0o644)
	return string(good)
}

// A PIN that the token refused ends the service for good, also while clients
// keep connecting, and however long a start takes.
func (h *host) wrongTokenPIN(t *testing.T) {
	wrong := make([]byte, 16)
	rand.Read(wrong) // a weak one would leave a mark that fits every PIN
	h.write("/etc/sigild/pin", hex.EncodeToString(wrong), 0o400)
	h.must(nil, "chown", "sigild", "/etc/sigild/pin")
	good := h.pinFrom("file:/etc/sigild/pin")
	const slow = "/etc/systemd/system/sigild.service.d/slow.conf"
	for _, takes := range []string{"", "[Service]\nExecStartPre=+/bin/sleep 3\n"} {
		h.write(slow, takes, 0o644)
		h.must(nil, "systemctl", "daemon-reload")
		h.must(nil, "systemctl", "stop", "sigild.service")
		h.must(nil, "systemctl", "start", "sigild.socket")
		since := h.cursor()
		h.knock(t)
		h.eventually(time.Minute, "service and socket have stopped", func() bool {
			state, _ := h.try(nil, "systemctl", "is-active", "sigild.socket")
			return strings.TrimSpace(state) == "inactive" && h.property("ActiveState") == "failed"
		})
		if code, restarts := h.property("ExecMainStatus"), h.property("NRestarts"); code != "78" || restarts != "0" {
			t.Errorf("exit code %s after %s restarts, want 78 after none", code, restarts)
		}
		journal := h.must(nil, "journalctl", "-u", "sigild.service", "-o", "cat", "--no-pager", "--after-cursor="+since)
		if n := strings.Count(journal, "Main process exited"); n != 1 {
			t.Errorf("the service ended %d times:\n%s", n, journal)
		}
		if warnings := h.must(nil, "journalctl", "-u", "sigild.service", "-p", "err", "-o", "cat", "--no-pager", "--after-cursor="+since); !strings.Contains(warnings, "refused this user PIN") ||
			strings.Contains(warnings, "level=INFO") {
			t.Errorf("journalctl -p err shows:\n%s", warnings)
		}
	}
	h.must(nil, "rm", slow)
	h.must(nil, "systemctl", "daemon-reload")
	h.write("/etc/sigild/sigild.toml", good, 0o644)
	h.startAgain()
}

// cursor is where the journal ends now.
func (h *host) cursor() string {
	h.t.Helper()
	_, cursor, found := strings.Cut(h.must(nil, "journalctl", "-n", "1", "--show-cursor", "--no-pager"), "-- cursor: ")
	if !found {
		h.t.Fatal("the journal shows no cursor")
	}
	return strings.TrimSpace(cursor)
}

// knock connects to the socket again and again until it is gone, as clients do
// that wait for an answer.
func (h *host) knock(t *testing.T) {
	socket := fmt.Sprintf("/proc/%s/root/run/sigild/sigild.sock", h.init)
	dial := func() (net.Conn, error) { return net.Dial("unix", socket) }
	first, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for c := first; ; {
			_, _ = c.Write([]byte(`{"jsonrpc":"2.0","id":1,"method":"sigild_status","params":[{}]}`))
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
			if c, err = dial(); err != nil {
				done <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		if err := <-done; !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the client was told %v", err)
		}
	})
}

// startAgain starts the service after it failed for good.
func (h *host) startAgain() {
	h.t.Helper()
	h.must(nil, "systemctl", "start", "sigild.socket", "sigild.service")
	h.signs()
}

// The unit loads the token's PIN from a credential that is encrypted with this
// host's key, and nobody else can read it.
func (h *host) credential(t *testing.T) {
	const encrypted = "/etc/credstore.encrypted/sigild.token-pin"
	h.must(nil, "mkdir", "-p", filepath.Dir(encrypted))
	h.must([]byte(h.tokenPIN), "sh", "-c", "systemd-creds encrypt --with-key=host --name=sigild.token-pin - "+encrypted+" <&3")
	if text := h.must(nil, "cat", encrypted); strings.Contains(text, h.tokenPIN) {
		t.Error("the credential is not encrypted")
	}
	good := h.pinFrom("credential:sigild.token-pin")
	h.must(nil, "systemctl", "restart", "sigild.service")
	h.signs()
	if out := h.must(nil, "cat", "/run/credentials/sigild.service/sigild.token-pin"); strings.TrimSpace(out) != h.tokenPIN {
		t.Error("the service was not given the credential")
	}
	if out, err := h.try(nil, "runuser", "-u", "relay", "--", "cat", "/run/credentials/sigild.service/sigild.token-pin"); err == nil {
		t.Errorf("another user reads the credential: %d bytes", len(out))
	}
	before := h.property("MainPID")
	h.must(nil, "systemctl", "kill", "--signal=KILL", "--kill-who=main", "sigild.service")
	h.returned(before) // also a restart is given it
	h.signs()
	// Outside the unit root hands the same credential to a command.
	h.must(nil, "systemctl", "stop", "sigild.socket", "sigild.service")
	out := h.must(nil, "bash", "-c", "runuser -u sigild -- sigild reseal --pin-fd 3 3< <(systemd-creds decrypt "+encrypted+" -)")
	if !strings.Contains(out, "approved:") {
		t.Errorf("sigild reseal: %s", out)
	}
	h.startAgain()
	h.write("/etc/sigild/sigild.toml", good, 0o644)
	h.must(nil, "rm", encrypted)
	h.must(nil, "systemctl", "restart", "sigild.service")
	h.signs()
}

// A state that nobody announced is refused with the PCR's number and without a
// restart; the recovery code brings the same wallets back.
func (h *host) anotherKernel(t *testing.T) {
	if err := h.chip.Extend(11, sha256.Sum256([]byte("another kernel"))); err != nil {
		t.Fatal(err)
	}
	if out, err := h.try(nil, "systemctl", "restart", "sigild.service"); err == nil {
		t.Errorf("the service started in another state: %s", out)
	}
	h.eventually(time.Minute, "the service has failed", func() bool { return h.property("ActiveState") == "failed" })
	if code := h.property("ExecMainStatus"); code != "78" {
		t.Errorf("exit code %s", code)
	}
	if journal := h.must(nil, "journalctl", "-u", "sigild", "-n", "20", "--no-pager"); !strings.Contains(journal, "PCR 11") {
		t.Errorf("the journal does not name PCR 11:\n%s", journal)
	}
	h.must(nil, "systemctl", "stop", "sigild.socket")
	h.must([]byte(h.code), "runuser", "-u", "sigild", "--", "sigild", "recover", "--code-fd", "3")
	h.startAgain()
}

// A support bundle of this host, after all that has happened to it, holds what a
// supporter needs and no secret.
func (h *host) supportBundle(t *testing.T) {
	if _, err := h.asRelay([]byte("000000"), "sign", "message", h.walletID, "/etc/hostname", "--pin-fd", "3"); err == nil {
		t.Error("a wrong PIN signed")
	}
	h.must(nil, "sigilctl", "support-bundle", "/root/bundle.tar.gz")
	if mode := strings.TrimSpace(h.must(nil, "stat", "-c", "%a", "/root/bundle.tar.gz")); mode != "600" {
		t.Errorf("the bundle's mode is %s", mode)
	}
	text := h.must(nil, "tar", "-xzOf", "/root/bundle.tar.gz")
	for _, want := range []string{`"state": "ready"`, "sigild_pin_charges_total", "LoadCredentialEncrypted", "Watchdog timeout",
		`pin = "(left out)"`, "method=sigild_signMessage", "PRETTY_NAME"} {
		if !strings.Contains(text, want) {
			t.Errorf("the bundle lacks %q", want)
		}
	}
	secrets := map[string]string{"the token's PIN": h.tokenPIN, "a wallet's PIN": userPIN, "the recovery code": h.code,
		"the recovery code's first half": h.code[:19]}
	for _, assignment := range h.kms.Env() {
		name, value, _ := strings.Cut(assignment, "=")
		if strings.Contains(name, "SECRET") || strings.Contains(name, "TOKEN") {
			secrets[name] = value
		}
	}
	if len(secrets) < 5 {
		t.Errorf("the KMS credentials were not looked for: %d secrets", len(secrets))
	}
	for what, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("the bundle has %s", what)
		}
	}
}
