package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
)

// The daemon's own probes, each named by the reason that its failure is told by.
const (
	tokenProbe    = "tokenProbe"
	tpmProbe      = "tpmProbe"
	databaseRead  = "databaseRead"
	databaseWrite = "databaseWrite"
	auditLog      = "auditLog"
)

// probe is one thing that a healthy daemon can do at any time.
type probe struct {
	name string
	run  func(context.Context) error
	// patience is how long it may hang before the watchdog starves, if that is
	// longer than the watchdog's own limit. A device may answer again after long,
	// and then nothing was lost; a restart would lose every unlocked wallet.
	patience time.Duration
	// disk says that it waits for a disk, which it may do for long: a new
	// process would wait for the same.
	disk bool
	// seldom says that it is asked in one round of several only, unless it failed.
	seldom bool
}

// probes are a signature by the token's probe key, a command of the TPM, a read
// and a write of the database, and a look whether the audit log takes an entry.
func (d *Daemon) probes() []probe {
	devices := time.Duration(d.config.Watchdog.DeviceHang)
	return []probe{
		{name: tokenProbe, run: d.probeToken, patience: devices},
		{name: tpmProbe, run: d.lines.tpm.probe, patience: devices},
		{name: databaseRead, run: func(ctx context.Context) error { _, err := d.db.Count(ctx); return err }},
		{name: databaseWrite, run: d.db.CheckWrite, disk: true, seldom: true},
		{name: auditLog, run: d.audit.Check, disk: true},
	}
}

// probeToken signs with the probe key. While every session of a kind hangs, or
// the module does not even open the token, it has no answer either: its own
// signature may go through a session of the other kind, by which nothing that
// callers need is served.
func (d *Daemon) probeToken(ctx context.Context) error {
	s := d.lines.token.State()
	if s.Hang.All {
		return fmt.Errorf("%w: %s", hsm.ErrHung, hungText(s.Hang))
	}
	if s.Phase != hsm.Ready && errors.Is(s.Cause, hsm.ErrHung) {
		return s.Cause
	}
	c, err := d.lines.token.Connection(ctx)
	if err != nil {
		return err
	}
	err = c.Keys(d.token.newest.Token).ProbeSign(ctx)
	d.condemn(err)
	return err
}

// outcomes are how probes ended last. A request that meets the same fault tells
// it too, and does not wait for the next probe.
type outcomes struct {
	mu     sync.Mutex
	failed map[string]outcome
}

// outcome is a failure: since when, and when it was seen last.
type outcome struct {
	err       error
	since, at time.Time
}

func (o *outcomes) set(name string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		delete(o.failed, name)
		return
	}
	now := time.Now()
	since := now
	if before, failed := o.failed[name]; failed {
		since = before.since
	}
	if o.failed == nil {
		o.failed = map[string]outcome{}
	}
	o.failed[name] = outcome{err, since, now}
}

func (o *outcomes) look(name string) (outcome, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	found, failed := o.failed[name]
	return found, failed
}

// unexplained are the failures of probes that nothing of known accounts for: of
// a token that is away it is no news that it does not sign.
func (h *health) unexplained(known []finding) (list []finding) {
	for _, name := range []string{tokenProbe, tpmProbe, databaseRead, databaseWrite, auditLog} {
		if o, failed := h.probed.look(name); failed && !h.explained(name, o, known) {
			list = append(list, finding{conditionOf(name), o.since, o.err.Error()})
		}
	}
	return list
}

// explained reports whether a device's supervision says the same, or brought the
// device back since the probe failed, which it does not without a look of its own.
func (h *health) explained(name string, o outcome, known []finding) bool {
	device := func(f finding) bool { return f.failing && f.reason != "tokenFault" && deviceOf(f.reason) == name }
	switch name {
	case tokenProbe:
		return slices.ContainsFunc(known, device) || h.daemon.lines.token.State().Since.After(o.at)
	case tpmProbe:
		_, since, _, _ := h.daemon.lines.tpm.gate.look()
		return slices.ContainsFunc(known, device) || since.After(o.at)
	}
	return false
}

// deviceOf names the probe of the device that a reason is about.
func deviceOf(reason string) string {
	switch {
	case strings.HasPrefix(reason, "token"):
		return tokenProbe
	case strings.HasPrefix(reason, "tpm"), reason == "measuredState":
		return tpmProbe
	}
	return ""
}

// diskErred takes note of a request that a disk failed, and has it looked at.
func (h *health) diskErred(err error) {
	switch reason := ipc.ReasonOf(wireError(err)); {
	case errors.Is(err, store.ErrDamaged):
		h.probed.set(databaseRead, err)
	case reason == "auditUnavailable":
		h.probed.set(auditLog, err)
	case reason == "diskUnavailable":
		h.probed.set(databaseWrite, err)
	default:
		return
	}
	h.hurry()
}

// onDisk reports whether the disk below the database refused.
func onDisk(err error) bool {
	for _, refused := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EIO, syscall.EROFS} {
		if errors.Is(err, refused) {
			return true
		}
	}
	return false
}
