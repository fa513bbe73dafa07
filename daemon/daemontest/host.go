// Package daemontest makes a throw-away host: a fresh SoftHSM token, a fresh
// swtpm, a KMS endpoint, a configuration, and the sigild process on top. Tests
// and the development installation use it; nothing in it is random by halves:
// the token, the TPM and the KMS endpoint give real randomness.
package daemontest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/sigild/sigild/daemon/entropy/kmstest"
	"github.com/sigild/sigild/tpm/tpmtest"
)

// Module is SoftHSM's PKCS#11 module where Debian and Ubuntu install it.
const Module = "/usr/lib/softhsm/libsofthsm2.so"

// Options describe a host.
type Options struct {
	// Sigild is the command that runs sigild, and what stands before its own
	// arguments.
	Sigild []string
	// Env is added to the environment of sigild.
	Env []string
	// Dir is where everything goes; it must exist and be empty.
	Dir string
	// State is a folder that SaveState filled: the host goes on from there
	// instead of with new devices. It is copied, not changed.
	State string
	// Module replaces SoftHSM's module.
	Module string
	// Config is appended to the configuration, section by section: the key is
	// the section, the value its lines.
	Config map[string]string
	// WithoutKMS leaves the section of the KMS endpoint out, as a configuration
	// that drops that source must.
	WithoutKMS bool
	// Dev marks the installation as a throw-away one.
	Dev bool
	// Progress gets what `sigild provision` says, Log what `sigild run` logs,
	// line by line.
	Progress, Log func(line string)
}

// Host is a throw-away host. Close it.
type Host struct {
	Options
	TPM    *tpmtest.Process
	KMS    *kmstest.Server
	Label  string
	Socket string

	pin     []byte
	process atomic.Pointer[process]
	tap     *Tap
}

// New starts the devices and writes the configuration.
func New(ctx context.Context, o Options) (_ *Host, err error) {
	h := &Host{Options: o, Label: "sigild-test", Socket: filepath.Join(o.Dir, "sigild.sock")}
	if h.Module == "" {
		h.Module = Module
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if err := h.makeToken(ctx); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, "tpm"), 0o700); err != nil {
		return nil, err
	}
	if err := h.BootTPM(ctx); err != nil {
		return nil, err
	}
	if h.KMS, err = kmstest.Start(kmstest.Options{}); err != nil {
		return nil, err
	}
	return h, h.WriteConfig()
}

// makeToken makes a SoftHSM token with random PINs, or takes the saved one.
func (h *Host) makeToken(ctx context.Context) error {
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", h.Tokens())
	if err := os.WriteFile(h.tokenConf(), []byte(conf), 0o600); err != nil {
		return err
	}
	if h.State != "" {
		return copyState(h.State, h.Dir)
	}
	h.pin = randomHex(16)
	return h.NewToken(ctx)
}

// NewToken makes an empty token with the host's label and user PIN in the
// folder Tokens, which must not exist: another token that calls itself the same.
func (h *Host) NewToken(ctx context.Context) error {
	if err := os.Mkdir(h.Tokens(), 0o700); err != nil {
		return err
	}
	so := randomHex(16)
	cmd := exec.CommandContext(ctx, "softhsm2-util", "--init-token", "--free", "--label", h.Label,
		"--pin", string(h.pin), "--so-pin", string(so))
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+h.tokenConf())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("softhsm2-util: %w: %s", err, out)
	}
	return nil
}

func (h *Host) tokenConf() string { return filepath.Join(h.Dir, "softhsm2.conf") }

// ConfigPath is the path of sigild's configuration.
func (h *Host) ConfigPath() string { return filepath.Join(h.Dir, "sigild.toml") }

// Tokens is the folder in which SoftHSM keeps its tokens.
func (h *Host) Tokens() string { return filepath.Join(h.Dir, "tokens") }

// Environment is what a process needs besides the configuration: where SoftHSM
// finds its tokens, and the credentials of the KMS endpoint.
func (h *Host) Environment() []string {
	return append([]string{"SOFTHSM2_CONF=" + h.tokenConf()}, h.KMS.Env()...)
}

// Database is the path of the database.
func (h *Host) Database() string { return filepath.Join(h.Dir, "sigild.db") }

// AuditLog is the path of the audit log.
func (h *Host) AuditLog() string { return filepath.Join(h.Dir, "audit.log") }

// TokenPIN is the token's user PIN.
func (h *Host) TokenPIN() []byte { return bytes.Clone(h.pin) }

func randomHex(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return hex.AppendEncode(nil, b)
}

// WriteConfig writes the configuration anew, as after a change of Config.
func (h *Host) WriteConfig() error {
	sections := []struct{ name, lines string }{
		{"socket", fmt.Sprintf("path = %q", h.Socket)},
		{"store", fmt.Sprintf("path = %q", h.Database())},
		{"audit", fmt.Sprintf("path = %q", h.AuditLog())},
		{"token", fmt.Sprintf("module = %q\nlabel = %q", h.Module, h.Label)},
		{"tpm", fmt.Sprintf("device = %q\nprofile = \"uki\"", h.device())},
		{"kms", h.kms()},
		{"entropy", ""}, {"pin", ""}, {"guard", ""}, {"limits", ""}, {"log", ""}, {"metrics", ""}, {"ethereum", ""}, {"wallets", ""}, {"watchdog", ""}, {"custody", ""},
		{"landlock", h.landlock()},
	}
	known := map[string]bool{}
	var b strings.Builder
	fmt.Fprintf(&b, "dev = %t\n", h.Dev)
	for _, s := range sections {
		known[s.name] = true
		fmt.Fprintf(&b, "\n[%s]\n%s\n%s\n", s.name, s.lines, h.Config[s.name])
	}
	for name := range h.Config {
		if !known[name] {
			return fmt.Errorf("daemontest: there is no section %q to write", name)
		}
	}
	return os.WriteFile(h.ConfigPath(), []byte(b.String()), 0o600)
}

// landlock lets a test's module write where it was put.
func (h *Host) landlock() string {
	if h.Module == Module || h.Config["landlock"] != "" {
		return ""
	}
	return fmt.Sprintf("write = [%q]", filepath.Dir(h.Module))
}

// kms gives the lines that name the KMS endpoint.
func (h *Host) kms() string {
	if h.WithoutKMS {
		return ""
	}
	return fmt.Sprintf("region = %q\nendpoint = %q\nallow_http = true", h.KMS.Region(), h.KMS.Endpoint())
}

// Command is a sigild command on this host's configuration.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	all := append(append([]string{}, h.Sigild[1:]...), args...)
	cmd := exec.CommandContext(ctx, h.Sigild[0], append(all, "--config", h.ConfigPath())...)
	cmd.Env = append(append(os.Environ(), h.Environment()...), h.Env...)
	return cmd
}

// Provision runs `sigild provision` and returns the recovery code.
func (h *Host) Provision(ctx context.Context) (code []byte, err error) {
	pinRead, pinWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	codeRead, codeWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, pinRead.Close(), pinWrite.Close())
	}
	cmd := h.Command(ctx, "provision", "--pin-fd", "3", "--code-fd", "4")
	cmd.ExtraFiles = []*os.File{pinRead, codeWrite}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if _, err := pinWrite.Write(append(bytes.Clone(h.pin), '\n')); err != nil {
		return nil, err
	}
	runErr := errors.Join(cmd.Run(), pinWrite.Close(), pinRead.Close(), codeWrite.Close())
	buf := make([]byte, 256)
	n, _ := codeRead.Read(buf) // nothing when provisioning failed, which runErr says
	for line := range strings.Lines(stderr.String()) {
		say(h.Progress, strings.TrimRight(line, "\n"))
	}
	if runErr != nil {
		return nil, fmt.Errorf("sigild provision: %w: %s", runErr, stderr.String())
	}
	return bytes.TrimSpace(buf[:n]), codeRead.Close()
}

func say(to func(string), line string) {
	if to != nil {
		to(line)
	}
}

// Close ends sigild and the devices. The folder stays.
func (h *Host) Close() error {
	var errs []error
	if h.process.Load() != nil {
		errs = append(errs, h.Stop())
	}
	if h.KMS != nil {
		errs = append(errs, h.KMS.Close())
	}
	if h.tap != nil {
		errs = append(errs, h.tap.close())
	}
	if h.TPM != nil {
		h.TPM.Kill()
	}
	return errors.Join(errs...)
}
