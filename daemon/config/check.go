package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sources are the names of the entropy sources, in the order of mixing.
var sources = []string{"kms", "token", "tpm"}

// Sources gives the names of the sources that are not dropped.
func (c *Config) Sources() []string {
	return slices.DeleteFunc(slices.Clone(sources), func(s string) bool {
		return slices.Contains(c.Entropy.Drop, s)
	})
}

// check collects everything that is wrong, so that one run shows all of it.
func (c *Config) check() error {
	return errors.Join(
		absolute("socket.path", c.Socket.Path), c.Socket.check(),
		absolute("store.path", c.Store.Path),
		absolute("audit.path", c.Audit.Path), c.checkPaths(),
		c.Token.check(), c.TPM.check(), c.Entropy.check(), c.checkKMS(), c.PIN.check(), c.Guard.check(), c.Limits.check(),
		lasting("wallets.delete_grace", c.Wallets.DeleteGrace, 10*365*24*time.Hour),
		lasting("watchdog.device_hang", c.Watchdog.DeviceHang, 24*time.Hour),
		oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error"),
		oneOf("log.format", c.Log.Format, "text", "json"), c.Metrics.check(), c.checkMetricsPath(), c.Ethereum.check(),
		c.checkLandlock(),
	)
}

// The TCG leaves these NV indexes to the owner of a TPM.
const (
	firstHandle = 0x01800000
	lastHandle  = 0x01bfffff
)

func (g Guard) check() error {
	errs := []error{oneOf("guard.anchor", g.Anchor, "orderly", "durable")}
	for key, handle := range map[string]uint32{"guard.handle": g.Handle, "guard.unclean_handle": g.UncleanHandle} {
		if handle < firstHandle || handle > lastHandle {
			errs = append(errs, fmt.Errorf("%s: %#x is outside %#x to %#x", key, handle, firstHandle, lastHandle))
		}
	}
	if g.Handle == g.UncleanHandle {
		errs = append(errs, fmt.Errorf("guard.handle, guard.unclean_handle: both are %#x", g.Handle))
	}
	return errors.Join(errs...)
}

func absolute(key, path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("%s: %q is not an absolute, clean path", key, path)
	}
	return nil
}

// checkPaths refuses two files in one place.
func (c *Config) checkPaths() error {
	switch {
	case c.Store.Path == c.Audit.Path:
		return fmt.Errorf("store.path, audit.path: both are %q", c.Store.Path)
	case c.Socket.Path == c.Store.Path:
		return fmt.Errorf("socket.path, store.path: both are %q", c.Store.Path)
	case c.Socket.Path == c.Audit.Path:
		return fmt.Errorf("socket.path, audit.path: both are %q", c.Audit.Path)
	}
	return nil
}

func oneOf(key, value string, words ...string) error {
	if !slices.Contains(words, value) {
		return fmt.Errorf("%s: %q is not one of %s", key, value, strings.Join(words, ", "))
	}
	return nil
}

func between[T int | uint32 | uint8](key string, value, least, most T) error {
	if value < least || value > most {
		return fmt.Errorf("%s: %d is outside %d to %d", key, value, least, most)
	}
	return nil
}

func lasting(key string, d Duration, most time.Duration) error {
	if d <= 0 || time.Duration(d) > most {
		return fmt.Errorf("%s: %s is outside 1ns to %s", key, time.Duration(d), most)
	}
	return nil
}

// FileMode is the socket's mode.
func (s Socket) FileMode() fs.FileMode {
	n, _ := strconv.ParseUint(s.Mode, 8, 32) // checked by Parse
	return fs.FileMode(n)
}

func (s Socket) check() error {
	n, err := strconv.ParseUint(s.Mode, 8, 32)
	if err != nil || n&^0o666 != 0 || n&0o600 != 0o600 {
		return fmt.Errorf("socket.mode: %q is not a mode such as 0660", s.Mode)
	}
	if s.Allow != nil && len(s.Allow) == 0 {
		return errors.New("socket.allow: an empty list lets nobody in; leave it out for the daemon's own uid and root")
	}
	return nil
}

func (t Token) check() error {
	var errs []error
	if t.Module == "" {
		errs = append(errs, errors.New("token.module: is required: the path of the PKCS#11 module"))
	} else {
		errs = append(errs, absolute("token.module", t.Module))
	}
	if (t.Label == "") == (t.Serial == "") {
		errs = append(errs, errors.New("token.label, token.serial: set exactly one of them"))
	}
	errs = append(errs, t.checkPIN(),
		between("token.sessions", t.Sessions, 1, 64), between("token.keepers", t.Keepers, 1, 64),
		lasting("token.timeout", t.Timeout, time.Minute))
	return errors.Join(errs...)
}

// PINSource splits token.pin into its kind ("tpm", "prompt", "file",
// "credential") and the file's path or the credential's name.
func (t Token) PINSource() (kind, name string) {
	kind, name, _ = strings.Cut(t.PIN, ":")
	return kind, name
}

func (t Token) checkPIN() error {
	kind, name := t.PINSource()
	switch {
	case (kind == "tpm" || kind == "prompt") && t.PIN == kind:
		return nil
	case kind == "file" && filepath.IsAbs(name):
		return nil
	case kind == "credential" && name != "" && filepath.Base(name) == name:
		return nil
	}
	// The value is not shown: somebody may have put the PIN itself there.
	return errors.New(`token.pin: must be "tpm", "prompt", "file:/absolute/path" or "credential:NAME" (never the PIN itself)`)
}

func (t TPM) check() error {
	errs := []error{absolute("tpm.device", t.Device), lasting("tpm.timeout", t.Timeout, time.Minute)}
	if t.Profile == "" {
		errs = append(errs, errors.New(`tpm.profile: is required: "uki", "grub" or "list" (with tpm.pcrs)`))
		return errors.Join(errs...)
	}
	errs = append(errs, oneOf("tpm.profile", t.Profile, "uki", "grub", "list"))
	if (t.Profile == "list") != (len(t.PCRs) > 0) {
		errs = append(errs, errors.New(`tpm.pcrs: goes with tpm.profile = "list", and only with it`))
	}
	for _, pcr := range t.PCRs {
		errs = append(errs, between("tpm.pcrs", pcr, 0, 23))
	}
	return errors.Join(errs...)
}

func (e Entropy) check() error {
	for i, name := range e.Drop {
		if err := oneOf("entropy.drop", name, sources...); err != nil {
			return err
		}
		if slices.Contains(e.Drop[:i], name) {
			return fmt.Errorf("entropy.drop: %q is named twice", name)
		}
	}
	if len(e.Drop) > 1 {
		return errors.New("entropy.drop: one source may be left out; with two out, whoever knows or breaks the last one has every new wallet")
	}
	return nil
}

func (c *Config) checkKMS() error {
	k := c.KMS
	if slices.Contains(c.Entropy.Drop, "kms") {
		if k.Region != "" || k.Endpoint != "" {
			return errors.New(`kms.region, kms.endpoint: contradict entropy.drop, which leaves "kms" out`)
		}
		return nil
	}
	var errs []error
	if k.Region == "" {
		errs = append(errs, errors.New("kms.region: is required, such as \"eu-central-1\""))
	}
	errs = append(errs, k.checkEndpoint(), lasting("kms.timeout", k.Timeout, time.Minute),
		between("kms.attempts", k.Attempts, 1, 10))
	return errors.Join(errs...)
}

func (k KMS) checkEndpoint() error {
	if k.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(k.Endpoint)
	if err != nil || u.Host == "" || u.User != nil {
		return errors.New("kms.endpoint: is not a URL such as https://kms.eu-central-1.amazonaws.com")
	}
	if u.Scheme == "https" {
		return nil
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "http" || !k.AllowHTTP || ip == nil || !ip.IsLoopback() {
		return errors.New("kms.endpoint: must be https; http is for tests, on a loopback address, with kms.allow_http = true")
	}
	return nil
}

func (p PIN) check() error {
	return errors.Join(
		between("pin.argon2_memory_kib", p.Memory, 8*1024, 256*1024),
		between("pin.argon2_time", p.Time, 1, 16),
		between("pin.argon2_threads", p.Threads, 1, 4),
		between("pin.checks", p.Checks, 0, 256),
		between("pin.waiting", p.Waiting, 0, 65536),
		between("pin.consecutive", p.Consecutive, 1, 10),
		between("pin.window", p.Window, 1, 60),
		between("pin.window_days", p.WindowDays, 1, 365),
		between("pin.lifetime", p.Lifetime, 10, 100000),
	)
}

func (l Limits) check() error {
	return errors.Join(
		between("limits.message_bytes", l.MessageBytes, 4096, 16<<20),
		between("limits.depth", l.Depth, 8, 1024),
		between("limits.batch", l.Batch, 1, 1024),
		between("limits.in_flight", l.InFlight, 1, 4096),
		between("limits.in_flight_per_uid", l.InFlightPerUID, 1, 16384),
		between("limits.in_flight_bytes_per_uid", l.InFlightBytes, l.MessageBytes, 1<<30),
		between("limits.connections", l.Connections, 1, 16384),
		between("limits.connections_per_uid", l.ConnectionsPerUID, 1, 16384),
		between("limits.unlocks", l.Unlocks, 0, 100000),
		between("limits.unlocks_per_uid", l.UnlocksPerUID, 0, 100000),
		between("limits.changes_per_minute", l.ChangesPerMinute, 1, 100000),
		between("limits.sealed_pins", l.SealedPINs, 1, 262144),
		lasting("limits.idle_timeout", l.IdleTimeout, 24*time.Hour),
		lasting("limits.write_timeout", l.WriteTimeout, time.Hour),
		lasting("limits.request_timeout", l.RequestTimeout, time.Hour),
		l.checkRelations(),
	)
}

// checkRelations refuses limits that contradict each other: those that the
// socket would not be served with, and a share that is more than the whole.
func (l Limits) checkRelations() error {
	atMost := func(lower, upper string, a, b int) error {
		if a > b {
			return fmt.Errorf("%s, %s: %d is more than %d", lower, upper, a, b)
		}
		return nil
	}
	return errors.Join(
		atMost("limits.in_flight", "limits.in_flight_per_uid", l.InFlight, l.InFlightPerUID),
		atMost("limits.batch", "limits.in_flight_per_uid", l.Batch, l.InFlightPerUID),
		atMost("limits.connections_per_uid", "limits.connections", l.ConnectionsPerUID, l.Connections),
		atMost("limits.unlocks_per_uid", "limits.unlocks", l.UnlocksPerUID, l.Unlocks),
	)
}
