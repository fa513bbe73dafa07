package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/audit"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

const (
	testPIN = "402916"
	// zeroCheck is the last group of the recovery code of 20 zero bytes.
	zeroCheck = "JYM1"
)

// measured is a throw-away host whose TPM can be rebooted.
type measured struct {
	*daemontest.Host
	t    *testing.T
	ctx  context.Context
	code []byte
	made ipc.WalletInfo
}

// newMeasured provisions a host, makes a wallet and stops the daemon.
func newMeasured(t *testing.T) *measured {
	t.Helper()
	return newMeasuredHost(t, daemontest.Options{})
}

// newMeasuredHost provisions a host of these options, makes a wallet and stops
// the daemon.
func newMeasuredHost(t *testing.T, o daemontest.Options) *measured {
	t.Helper()
	m := newDevices(t, o)
	m.prepare()
	return m
}

// newDevices starts the devices of a host.
func newDevices(t *testing.T, o daemontest.Options) *measured {
	t.Helper()
	dir, err := os.MkdirTemp("", "sigild-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o.Dir, o.Sigild, o.Env = dir, []string{os.Args[0]}, append(o.Env, playing()...)
	if o.Config == nil {
		o.Config = map[string]string{}
	}
	o.Config["socket"] = operating()
	o.Config["pin"] = "argon2_memory_kib = 8192\nargon2_time = 1"
	h, err := daemontest.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close the host: %v", err)
		}
	})
	return &measured{Host: h, t: t, ctx: t.Context()}
}

// prepare provisions the host, makes a wallet and stops the daemon.
func (m *measured) prepare() {
	m.t.Helper()
	var err error
	if m.code, err = m.Provision(m.ctx); err != nil {
		m.t.Fatal(err)
	}
	m.start()
	made, err := m.dial().CreateWallet(m.ctx, ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(testPIN)})
	if err != nil {
		m.t.Fatal(err)
	}
	m.made = made.Wallet
	m.stop()
}

func (m *measured) start() {
	m.t.Helper()
	if err := m.Start(m.ctx); err != nil {
		m.t.Fatal(err)
	}
}

func (m *measured) stop() {
	m.t.Helper()
	if err := m.Stop(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *measured) dial() *ipc.Client {
	m.t.Helper()
	c, err := ipc.Dial(m.ctx, m.Socket, ipc.PlainPINs())
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = c.Close() })
	return c
}

// signs starts the daemon, signs with the wallet and stops the daemon.
func (m *measured) signs() {
	m.t.Helper()
	m.start()
	s, err := m.dial().SignMessage(m.ctx, ipc.SignMessageParams{WalletID: m.made.WalletID,
		Message: ipc.Hex("hello"), PIN: ipc.Secret(testPIN)})
	if err != nil {
		m.t.Fatal(err)
	}
	signature := bytes.Clone(s.Signature)
	signature[64] -= 27
	key, err := crypto.SigToPub(accounts.TextHash([]byte("hello")), signature)
	if err != nil {
		m.t.Fatal(err)
	}
	if got := crypto.PubkeyToAddress(*key).Hex(); got != m.made.Accounts[0].Address {
		m.t.Fatalf("signed as %s, the wallet is %s", got, m.made.Accounts[0].Address)
	}
	m.stop()
}

// refused starts the daemon, which must end with the exit code and say so.
func (m *measured) refused(code int, words ...string) {
	m.t.Helper()
	var exit *daemontest.ExitError
	if err := m.Start(m.ctx); !errors.As(err, &exit) || exit.Code != code {
		m.t.Fatalf("start: %v, want exit code %d", err, code)
	}
	for _, w := range words {
		if !strings.Contains(exit.Log, w) {
			m.t.Errorf("the log does not say %q:\n%s", w, exit.Log)
		}
	}
}

func (m *measured) extend(pcr int) {
	m.t.Helper()
	if err := m.TPM.Extend(pcr, sha256.Sum256([]byte("another kernel"))); err != nil {
		m.t.Fatal(err)
	}
}

// reboot powers the TPM off and on: its PCRs are as after a boot again.
func (m *measured) reboot() {
	m.t.Helper()
	if err := m.RebootTPM(m.ctx); err != nil {
		m.t.Fatal(err)
	}
}

func (m *measured) boot() {
	m.t.Helper()
	if err := m.BootTPM(m.ctx); err != nil {
		m.t.Fatal(err)
	}
}

// sigild runs a command with a secret in descriptor 3 and what it writes to
// descriptor 4.
func (m *measured) sigild(secret []byte, args ...string) (written []byte, output string, err error) {
	m.t.Helper()
	in, out := m.pipe(), m.pipe()
	defer in.read.Close()
	defer out.read.Close()
	_, err = in.write.Write(append(bytes.Clone(secret), '\n'))
	if err := errors.Join(err, in.write.Close()); err != nil {
		m.t.Fatal(err)
	}
	cmd := m.Command(m.ctx, args...)
	cmd.ExtraFiles = []*os.File{in.read, out.write}
	text, err := cmd.CombinedOutput()
	if closing := out.write.Close(); closing != nil {
		m.t.Fatal(closing)
	}
	buf := make([]byte, 4096) // also many shares
	n, _ := out.read.Read(buf)
	return bytes.TrimSpace(buf[:n]), string(text), err
}

type pipe struct{ read, write *os.File }

func (m *measured) pipe() pipe {
	r, w, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	return pipe{r, w}
}

func (m *measured) succeeds(secret []byte, args ...string) (written []byte, output string) {
	m.t.Helper()
	written, output, err := m.sigild(secret, args...)
	if err != nil {
		m.t.Fatalf("sigild %v: %v: %s", args, err, output)
	}
	return written, output
}

func (m *measured) fails(word string, secret []byte, args ...string) {
	m.t.Helper()
	_, output, err := m.sigild(secret, args...)
	if err == nil || !strings.Contains(output, word) {
		m.t.Fatalf("sigild %v: %v, want an error with %q: %s", args, err, word, output)
	}
}

// left starts the daemon and wants so many attempts to be left.
func (m *measured) left(want int) {
	m.t.Helper()
	m.start()
	if left := attemptsLeft(m.t, m.dial(), m.made.WalletID); left != want {
		m.t.Errorf("%d attempts are left, want %d", left, want)
	}
	m.stop()
}

// guesses uses one attempt up.
func (m *measured) guesses() {
	m.t.Helper()
	m.start()
	_, err := tryPIN(m.t, m.dial(), m.made.WalletID, wrongPIN)
	wantReason(m.t, err, "wrongPin")
	m.stop()
}

func TestChangedPCRIsRefusedAndRecovered(t *testing.T) {
	m := newMeasured(t)
	m.guesses()
	m.extend(11)
	m.refused(daemon.ExitConfig, "PCR 11")
	wrong := bytes.Replace(m.code, m.code[:1], []byte{other(m.code[0])}, 1)
	m.fails("check each group", wrong, "recover", "--code-fd", "3")
	m.refused(daemon.ExitConfig, "PCR 11")
	m.succeeds(m.code, "recover", "--code-fd", "3")
	m.left(9) // recovery is no acceptance of an older copy
	m.signs()
	if act := m.audited("recover")[0]; act.Detail["epoch"] != "2" || act.Detail["before"] == act.Detail["after"] {
		t.Errorf("the audit log tells of the recovery: %v", act.Detail)
	}
	m.reboot() // PCR 11 is as it was at first: not approved any more
	m.refused(daemon.ExitConfig, "PCR 11")
}

func other(c byte) byte {
	if c == '7' {
		return '8'
	}
	return '7'
}

// The code of another installation is well-formed and opens nothing.
func TestRecoverRefusesAnotherInstallationsCode(t *testing.T) {
	m := newMeasured(t)
	m.extend(7)
	m.fails("not the recovery code of this installation", []byte("0000-0000-0000-0000-0000-0000-0000-0000-"+zeroCheck), "recover", "--code-fd", "3")
	m.refused(daemon.ExitConfig, "PCR 7")
}

func TestRecoverOnAnotherTPM(t *testing.T) {
	m := newMeasured(t)
	m.TPM.Kill()
	dir := filepath.Dir(m.TPM.Device)
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	m.boot()
	m.refused(daemon.ExitConfig, "storage root key")
	m.fails("--new-tpm", m.code, "recover", "--code-fd", "3")
	if _, said := m.succeeds(m.code, "recover", "--new-tpm", "--code-fd", "3"); !strings.Contains(said, "at most 3 attempts") {
		t.Errorf("the operator was told: %s", said)
	}
	m.left(3)
	m.signs()
	m.left(10)
}

// Recovery does not make an older copy the latest.
func TestRecoverRefusesAnOlderCopy(t *testing.T) {
	m := newMeasured(t)
	old, err := os.ReadFile(m.Database())
	if err != nil {
		t.Fatal(err)
	}
	m.guesses()
	if err := os.WriteFile(m.Database(), old, 0o600); err != nil {
		t.Fatal(err)
	}
	m.extend(11)
	if _, said := m.succeeds(m.code, "recover", "--code-fd", "3"); !strings.Contains(said, "older copy") {
		t.Errorf("the operator was told: %s", said)
	}
	m.start()
	_, err = tryPIN(t, m.dial(), m.made.WalletID, testPIN)
	wantReason(t, err, "databaseRefused")
}

func TestRecoveryCodeIsReplaced(t *testing.T) {
	m := newMeasured(t)
	fresh, _ := m.succeeds(m.code, "recover", "--replace-code", "--code-fd", "3", "--new-code-fd", "4")
	if bytes.Equal(fresh, m.code) || len(fresh) != len(m.code) {
		t.Fatalf("the new code is %q", fresh)
	}
	m.signs()
	m.extend(14)
	m.fails("replaced since", m.code, "recover", "--code-fd", "3")
	m.succeeds(fresh, "recover", "--code-fd", "3")
	m.signs()
	m.audited("recoveryCode", "recover")
}

// audited wants operators' acts of these names in the audit log, in this order,
// each by this process's user, and gives them.
func (m *measured) audited(actions ...string) (found []audit.Entry) {
	m.t.Helper()
	for _, e := range wholeAuditLog(m.t, m.Host) {
		if len(found) < len(actions) && e.Action == actions[len(found)] {
			found = append(found, e)
			if e.Result != "ok" || e.UID != uint32(os.Getuid()) || e.PID == 0 || e.Time.IsZero() {
				m.t.Errorf("the audit log has %+v", e)
			}
		}
	}
	if len(found) != len(actions) {
		m.t.Fatalf("the audit log has %d of %v in this order", len(found), actions)
	}
	return found
}

// A code that could not be shown leaves the old one valid.
func TestRecoveryCodeThatNobodySaw(t *testing.T) {
	m := newMeasured(t)
	m.fails("old one stays valid", m.code, "recover", "--replace-code", "--code-fd", "3", "--new-code-fd", "97")
	m.extend(14)
	m.succeeds(m.code, "recover", "--code-fd", "3")
	m.signs()
}

// after is the value that PCR 11 has, after a boot of the host, once extend was
// called.
func after() string {
	before, err := hex.DecodeString(booted())
	if err != nil {
		panic(err) // it was encoded just now
	}
	digest := sha256.Sum256([]byte("another kernel"))
	sum := sha256.Sum256(append(before, digest[:]...))
	return hex.EncodeToString(sum[:])
}

// booted is the value that PCR 11 has after a boot of the host.
func booted() string {
	measured := sha256.Sum256([]byte("measured into 11"))
	sum := sha256.Sum256(append(make([]byte, 32), measured[:]...))
	return hex.EncodeToString(sum[:])
}

func TestPredictedStateSignsWithoutTheCode(t *testing.T) {
	m := newMeasured(t)
	m.succeeds(nil, "reseal", "--pcr", "11="+after())
	m.signs() // until the reboot the daemon serves, and the prediction stays
	m.reboot()
	m.extend(11)
	m.signs()
	_, output := m.succeeds(nil, "reseal")
	if strings.Count(output, "approved:") != 1 || strings.Contains(output, "ahead:") || !strings.Contains(output, "11="+after()) {
		t.Errorf("after the update:\n%s", output)
	}
	acts := m.audited("approvalAhead", "approvalPromoted")
	for act, want := range map[int]string{0: acts[0].Detail["pcrs"], 1: acts[1].Detail["approved"]} {
		if !strings.Contains(want, "11="+after()) {
			t.Errorf("%s does not name the state: %v", acts[act].Action, acts[act].Detail)
		}
	}
	m.reboot() // back to the old kernel: approved no more
	m.refused(daemon.ExitConfig, "PCR 11")
}

func TestPredictionGoesWithTheNextGoodStart(t *testing.T) {
	m := newMeasured(t)
	m.succeeds(nil, "reseal", "--pcr", "11="+after())
	m.reboot()
	m.signs()
	if _, output := m.succeeds(nil, "reseal"); strings.Contains(output, "ahead:") {
		t.Errorf("the prediction outlived a good start of another boot:\n%s", output)
	}
	m.audited("approvalAhead", "approvalRemoved")
	m.extend(11)
	m.refused(daemon.ExitConfig, "PCR 11")
}

func TestResealRefuses(t *testing.T) {
	m := newMeasured(t)
	for pcr, word := range map[string]string{
		"4=" + after():                  "not one of those",
		"11=" + booted():                "have these values now",
		"11=" + strings.Repeat("0", 64): "holds no measurement",
		"11=00":                         "64 hexadecimal digits",
		after():                         "is not INDEX=VALUE",
	} {
		m.fails(word, nil, "reseal", "--pcr", pcr)
	}
	m.fails("twice", nil, "reseal", "--pcr", "11="+after(), "--pcr", "11="+after())
	m.extend(12)
	m.fails("PCR 12", nil, "reseal", "--pcr", "11="+after())
}

// While the daemon runs, its database is its own.
func TestMaintenanceNeedsTheDaemonStopped(t *testing.T) {
	m := newMeasured(t)
	m.start()
	for _, args := range [][]string{{"recover", "--code-fd", "3"}, {"reseal"}, {"check"}, {"clear-token-fault"}, {"forget-refusal"}} {
		m.fails("stop it first: systemctl stop sigild.socket sigild.service", m.code, args...)
	}
	m.stop()
}

// Another user, and root is one, would leave files that the daemon cannot open.
func TestMaintenanceNeedsTheDatabasesOwner(t *testing.T) {
	if !canBeOthers(t) {
		return
	}
	m := newMeasured(t)
	if err := errors.Join(os.Remove(m.AuditLog()), os.Chmod(m.Dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	giveTo(t, m.Dir, strangerUID)
	for _, args := range [][]string{{"run"}, {"recover", "--code-fd", "3"}, {"reseal"}, {"check"}, {"clear-token-fault"}, {"forget-refusal"}, {"compact"}} {
		m.fails("belongs to another user", m.code, args...)
	}
	if _, err := os.Stat(m.AuditLog()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the audit log was made: %v", err)
	}
	giveTo(t, m.Dir, own)
	m.signs()
}

// Where the PIN comes from a file, the code brings the host key back and the
// PIN stays where it is.
func TestRecoverWithThePINInAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pin")
	m := newDevices(t, daemontest.Options{Config: map[string]string{"token": fmt.Sprintf("pin = %q", "file:"+file)}})
	if err := os.WriteFile(file, m.TokenPIN(), 0o400); err != nil {
		t.Fatal(err)
	}
	m.prepare()
	m.extend(7)
	m.refused(daemon.ExitConfig, "PCR 7")
	m.succeeds(m.code, "recover", "--code-fd", "3")
	m.signs()
}
