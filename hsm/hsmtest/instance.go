package hsmtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sigild/sigild/hsm"
)

// SoftHSM is the path of the SoftHSM 2 library on Debian.
const SoftHSM = "/usr/lib/softhsm/libsofthsm2.so"

const configVariable = "SOFTHSM2_CONF"

// process is held by the one Instance of this process: the module's state and
// the environment are global to it, so this is too.
var process sync.Mutex

// Instance is a SoftHSM with one token, in a directory of its own.
type Instance struct {
	Module string // the library to load
	Label  string
	PIN    []byte // user PIN
	SOPIN  []byte
	Dir    string  // holds the configuration and the tokens
	Faults *Faults // with WithFaults, else nil

	sessions, keepers int
	faulty            bool
}

// Option changes an Instance before it is made.
type Option func(*Instance)

// Label names the token.
func Label(label string) Option { return func(i *Instance) { i.Label = label } }

// Sessions sets the number of sessions and keepers that Open uses.
func Sessions(sessions, keepers int) Option {
	return func(i *Instance) { i.sessions, i.keepers = sessions, keepers }
}

// WithFaults puts a module in front of SoftHSM that fails on command.
func WithFaults() Option { return func(i *Instance) { i.faulty = true } }

// New makes an Instance that lasts until the test ends. A missing SoftHSM fails
// the test. Call it once per test: a second call in the same test would wait for
// the first for ever.
func New(t testing.TB, opts ...Option) *Instance {
	t.Helper()
	process.Lock()
	t.Cleanup(process.Unlock)
	i := &Instance{Module: SoftHSM, Label: "sigild-test", PIN: secret(), SOPIN: secret(), Dir: directory(t)}
	for _, o := range opts {
		o(i)
	}
	i.writeConfig(t)
	setEnv(t, configVariable, i.configPath())
	i.AddToken(t, i.Label)
	if i.faulty {
		i.Faults = NewFaults(t, i.Dir)
		setEnv(t, faultsVariable, i.Faults.socket)
		setEnv(t, moduleVariable, SoftHSM)
		i.Module = i.Faults.Module
	}
	return i
}

// directory returns a directory for one test, in memory where that is possible:
// SoftHSM syncs its files at each attribute that it sets.
func directory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "hsmtest")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the token: %v", err)
		}
	})
	return dir
}

func (i *Instance) configPath() string { return filepath.Join(i.Dir, "softhsm2.conf") }

func (i *Instance) writeConfig(t testing.TB) {
	t.Helper()
	tokens := filepath.Join(i.Dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", tokens)
	if err := os.WriteFile(i.configPath(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// AddToken initialises one more token, with the same PINs. Call it before the
// module is opened.
func (i *Instance) AddToken(t testing.TB, label string) {
	t.Helper()
	cmd := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label,
		"--pin", string(i.PIN), "--so-pin", string(i.SOPIN))
	cmd.Env = append(os.Environ(), i.Env()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util (package softhsm2): %v: %s", err, out)
	}
}

// Env returns the environment that a child process needs to find the token.
func (i *Instance) Env() []string {
	env := []string{configVariable + "=" + i.configPath()}
	if i.Faults != nil {
		env = append(env, i.Faults.Env()...)
	}
	return env
}

// Config returns the configuration that opens the token.
func (i *Instance) Config() hsm.Config {
	return hsm.Config{Module: i.Module, Label: i.Label, Sessions: i.sessions, Keepers: i.keepers}
}

// Open returns the token, logged in. It is closed when the test ends.
func (i *Instance) Open(t testing.TB) *hsm.Token {
	t.Helper()
	token := i.OpenWith(t, i.Config())
	if err := token.Login(context.Background(), i.PIN); err != nil {
		t.Fatal(err)
	}
	return token
}

// OpenWith opens the token with another configuration and does not log in.
func (i *Instance) OpenWith(t testing.TB, cfg hsm.Config) *hsm.Token {
	t.Helper()
	token, err := hsm.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Errorf("close the token: %v", err)
		}
	})
	return token
}

// Provisioned returns a fresh token with the keys of generation 1 of a random
// installation.
func Provisioned(t testing.TB, opts ...Option) (*hsm.Token, *hsm.Keys) {
	t.Helper()
	token := New(t, opts...).Open(t)
	return token, Provision(t, token, Installation(), 1)
}

// Provision makes and opens the keys of an installation.
func Provision(t testing.TB, token *hsm.Token, installation [16]byte, generation uint32) *hsm.Keys {
	t.Helper()
	ctx := context.Background()
	mech, err := token.NegotiateWrap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.EnsureKeys(ctx, installation, generation, mech); err != nil {
		t.Fatal(err)
	}
	keys, err := token.OpenKeys(ctx, installation, generation, mech)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// Installation returns a random installation id.
func Installation() [16]byte {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

// secret returns a PIN of 128 random bits.
func secret() []byte {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return []byte(hex.EncodeToString(b))
}

// setEnv sets a variable until the test ends. t.Setenv would forbid tests that
// call t.Parallel, which New makes harmless.
func setEnv(t testing.TB, name, value string) {
	t.Helper()
	old, had := os.LookupEnv(name)
	if err := os.Setenv(name, value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if had {
			_ = os.Setenv(name, old)
		} else {
			_ = os.Unsetenv(name)
		}
	})
}
