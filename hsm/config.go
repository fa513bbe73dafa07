package hsm

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Config says which token to use and how.
type Config struct {
	// Module is the absolute path of the PKCS#11 library. It runs inside this
	// process: only root may be able to write to it.
	Module string
	// Label or Serial names the token; exactly one of them is set, and exactly
	// one present token must have it.
	Label, Serial string
	// Sessions is the number of sessions for signing, HMAC and random bytes, and
	// so the number of such calls at one time: 1 to 64, default 4.
	Sessions int
	// Keepers is the number of sessions that own session objects, and so the
	// number of keys made or unwrapped at one time: 1 to 64, default 2.
	Keepers int
	// CallTimeout bounds every call into the module, with the wait for a free
	// session, where the caller's context has no nearer deadline. Default 10 s.
	CallTimeout time.Duration
}

const (
	defaultSessions    = 4
	defaultKeepers     = 2
	maxSessions        = 64
	defaultCallTimeout = 10 * time.Second

	// signerSessions is the number of sessions of the P-256 signer: one that
	// stays idle to keep the module's state, and two that sign.
	signerSessions = 3
)

// withDefaults fills what is not set.
func (c Config) withDefaults() Config {
	if c.Sessions == 0 {
		c.Sessions = defaultSessions
	}
	if c.Keepers == 0 {
		c.Keepers = defaultKeepers
	}
	if c.CallTimeout == 0 {
		c.CallTimeout = defaultCallTimeout
	}
	return c
}

func (c Config) validate() error {
	switch {
	case !filepath.IsAbs(c.Module):
		return fmt.Errorf("hsm: the module %q is not an absolute path", c.Module)
	case (c.Label == "") == (c.Serial == ""):
		return errors.New("hsm: name the token by its label or by its serial number, and only by one of them")
	case c.Sessions < 1 || c.Sessions > maxSessions:
		return fmt.Errorf("hsm: %d sessions: it must be 1 to %d", c.Sessions, maxSessions)
	case c.Keepers < 1 || c.Keepers > maxSessions:
		return fmt.Errorf("hsm: %d keepers: it must be 1 to %d", c.Keepers, maxSessions)
	case c.CallTimeout < 0:
		return fmt.Errorf("hsm: the call timeout %v is negative", c.CallTimeout)
	}
	return nil
}

// named describes the token that is looked for.
func (c Config) named() string {
	if c.Serial != "" {
		return fmt.Sprintf("serial number %q", c.Serial)
	}
	return fmt.Sprintf("label %q", c.Label)
}
