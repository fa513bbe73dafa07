package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/tpm"
)

// nvLabel makes the counters' authorisation out of the record key.
const nvLabel = "sigild/nv/v1"

// ErrAnchorMode is returned when the configuration wants another anchor than the
// installation has.
var ErrAnchorMode = errors.New("section [guard] of the configuration names another anchor than this installation has: set it back, or change over by `sigild check --accept`")

// ErrAnchorFormer is returned while counters are left from which the database was
// changed over: what they anchored would still open with its old attempts.
var ErrAnchorFormer = errors.New("a change of the anchor did not come to its end: run `sigild check --accept`")

// errFormerAnchor is what is missing when a guard root names an earlier
// definition of the counters.
var errFormerAnchor = errors.New("its guard root is of an earlier counter: an older copy, or a change of the anchor that did not come to its end")

// Anchor modes.
const (
	anchorOrderly = "orderly"
	anchorDurable = "durable"
)

// anchor says which NV counters an installation uses. Their names are in the
// guard root.
type anchor struct {
	Mode    string `cbor:"1,keyasint"` // "orderly" or "durable"
	Handle  uint32 `cbor:"2,keyasint"` // NV index
	Unclean uint32 `cbor:"3,keyasint"` // NV index of the counter of unclean starts; 0 when durable
	// ID is 16 random bytes of this very definition of the counters. It is in
	// their authorisation and in the guard root, so that a root from before a
	// counter was defined anew, on this or another TPM, names none that is there.
	ID []byte `cbor:"4,keyasint"`
	// Former are earlier definitions of which something may still be in the TPM,
	// because a change-over did not come to its end.
	Former []anchor `cbor:"5,keyasint,omitempty"`
}

func newAnchor(c config.Guard) *anchor {
	a := &anchor{Mode: c.Anchor, Handle: c.Handle, ID: make([]byte, anchorIDSize)}
	rand.Read(a.ID)
	if c.Anchor == anchorOrderly {
		a.Unclean = c.UncleanHandle
	}
	return a
}

// anchorIDSize is the size of an anchor's id, in bytes.
const anchorIDSize = 16

// configured says whether the configuration wants this anchor.
func (a *anchor) configured(c config.Guard) bool {
	want := newAnchor(c)
	return a.Mode == want.Mode && a.Handle == want.Handle && a.Unclean == want.Unclean
}

// handles are the NV indexes.
func (a *anchor) handles() []uint32 {
	if a.Unclean == 0 {
		return []uint32{a.Handle}
	}
	return []uint32{a.Handle, a.Unclean}
}

// namedCounter is a counter under its guard-root name: the TPM name of the NV
// index (34 bytes) ‖ the anchor's id (16).
type namedCounter struct {
	*tpm.Counter
	id []byte
}

func (c namedCounter) Name() []byte { return slices.Concat(c.Counter.Name(), c.id) }

// counters are the TPM's counters as the guard takes them.
type counters struct {
	anchor, unclean guard.Counter
}

// auth is the authorisation of the counters: the token's record key makes it at
// each start, and it is stored nowhere.
func (a *anchor) auth(ctx context.Context, mac macFunc, installation seal.ID) ([]byte, error) {
	sum, err := mac(ctx, slices.Concat([]byte(nvLabel), installation[:], a.ID))
	return sum[:], err
}

// define makes the counters, in the place of those that an interrupted run or
// an earlier anchor of this installation left at the same handles. The caller has
// made sure by free that nobody else's are there.
func (a *anchor) define(ctx context.Context, t *tpm.TPM, auth []byte) (*counters, error) {
	main, err := redefine(ctx, t, a.Handle, a.Mode == anchorOrderly, auth)
	if err != nil {
		return nil, err
	}
	c := &counters{anchor: namedCounter{main, a.ID}}
	if a.Unclean == 0 {
		return c, nil
	}
	unclean, err := redefine(ctx, t, a.Unclean, false, auth)
	if err != nil {
		return nil, err
	}
	c.unclean = namedCounter{unclean, a.ID}
	return c, nil
}

func redefine(ctx context.Context, t *tpm.TPM, handle uint32, orderly bool, auth []byte) (*tpm.Counter, error) {
	if err := t.UndefineCounter(ctx, handle); err != nil && !errors.Is(err, tpm.ErrCounterMissing) {
		return nil, fmt.Errorf("NV index %#x: %w", handle, err)
	}
	c, err := t.DefineCounter(ctx, handle, orderly, auth)
	if err != nil {
		return nil, fmt.Errorf("NV index %#x: %w", handle, err)
	}
	return c, nil
}

// specs are the counters that a guard root names; ok is false when it names
// those of another definition.
func (a *anchor) specs(auth []byte, root *guard.Root) (specs []tpm.CounterSpec, ok bool) {
	main, ok := bytes.CutSuffix(root.AnchorName, a.ID)
	specs = []tpm.CounterSpec{{Handle: a.Handle, Orderly: a.Mode == anchorOrderly, Auth: auth, Name: main}}
	if a.Unclean == 0 || !ok {
		return specs, ok
	}
	unclean, ok := bytes.CutSuffix(root.UncleanName, a.ID)
	return append(specs, tpm.CounterSpec{Handle: a.Unclean, Auth: auth, Name: unclean}), ok
}

// anchorLost tells a counter that is not there from a TPM that does not answer.
func anchorLost(err error) bool {
	return errors.Is(err, tpm.ErrCounterMissing) || errors.Is(err, tpm.ErrCounterChanged) || errors.Is(err, tpm.ErrCounterAuth)
}

// free is an error when an NV index is defined where the counters would be and
// ours does not say that it is this installation's.
func (a *anchor) free(ctx context.Context, t *tpm.TPM, ours func(handle uint32) (bool, error)) error {
	for _, handle := range a.handles() {
		taken, err := t.NVDefined(ctx, handle)
		if err != nil {
			return err
		}
		if !taken {
			continue
		}
		if own, err := ours(handle); err != nil || own {
			if err != nil {
				return err
			}
			continue
		}
		return fmt.Errorf("%w: %#x: name a free one in the section [guard] of the configuration; "+
			"if it is this installation's own, from after this copy, remove it: tpm2_nvundefine %#x", tpm.ErrCounterExists, handle, handle)
	}
	return nil
}

// open finds the counters. missing says why one of them is not the one that
// was defined; err is a fault of the TPM.
func (a *anchor) open(ctx context.Context, t *tpm.TPM, auth []byte, root *guard.Root) (c *counters, missing, err error) {
	specs, ok := a.specs(auth, root)
	if !ok {
		return &counters{}, errFormerAnchor, nil
	}
	c = &counters{}
	for n, spec := range specs {
		counter, err := t.OpenCounter(ctx, spec)
		switch {
		case anchorLost(err):
			return &counters{}, err, nil
		case err != nil:
			return nil, nil, err
		case n == 0:
			c.anchor = namedCounter{counter, a.ID}
		default:
			c.unclean = namedCounter{counter, a.ID}
		}
	}
	return c, nil, nil
}

// behind puts the counters behind the daemon's line to the TPM.
func (c *counters) behind(l *tpmLine) *counters {
	b := &counters{}
	if main, is := c.anchor.(namedCounter); is {
		b.anchor = lineCounter{l, main}
	}
	if unclean, is := c.unclean.(namedCounter); is {
		b.unclean = lineCounter{l, unclean}
	}
	return b
}

// findCounters opens the TPM's counters that the guard root names.
func (d *Daemon) findCounters(ctx context.Context, t *tpm.TPM, mac guard.MAC) (c *counters, missing, err error) {
	root, err := d.guardRoot(ctx, mac)
	if err != nil {
		return nil, nil, err
	}
	auth, err := d.doc.Anchor.auth(ctx, macFunc(mac), d.doc.ID)
	defer clear(auth)
	if err != nil {
		return nil, nil, err
	}
	if c, missing, err = d.doc.Anchor.open(ctx, t, auth, root); err != nil {
		return nil, nil, fmt.Errorf("anchor: %w", err)
	}
	return c, missing, nil
}

func (d *Daemon) ledgerParts(c *counters, missing error, mac guard.MAC) *ledgerParts {
	return &ledgerParts{Disk: d.db, MAC: mac, Installation: d.doc.ID, Keys: d.doc.keysDigest(),
		Anchor: c.anchor, Unclean: c.unclean, Missing: missing, Resets: d.resets}
}

func (d *Daemon) resets(ctx context.Context) (uint32, error) {
	c, err := d.tpmClock(ctx)
	return c.ResetCount, err
}

func (d *Daemon) tpmClock(ctx context.Context) (c tpm.ClockInfo, err error) {
	err = d.lines.tpm.do(ctx, func(ctx context.Context) error {
		c, err = d.lines.tpm.tpm.Clock(ctx)
		return err
	})
	return c, err
}

// openLedger compares the database with the TPM, with the record key that was
// just opened, and says in the log and the audit log what it found. A database
// that is not the latest is served, but for what needs a PIN.
func (d *Daemon) openLedger(ctx context.Context, mac guard.MAC) error {
	if !d.doc.Anchor.configured(d.config.Guard) && !d.options.anchorMayDiffer {
		return ErrAnchorMode
	}
	var ready atomic.Bool
	late := func(ctx context.Context, message []byte) ([32]byte, error) {
		if ready.Load() {
			return d.token.guardMAC(ctx, message) // by whatever connection there is then
		}
		return mac(ctx, message)
	}
	found, missing, err := d.findCounters(ctx, d.lines.tpm.tpm, mac)
	if err != nil {
		return err
	}
	if missing == nil && len(d.doc.Anchor.Former) > 0 && !d.options.anchorMayDiffer {
		return ErrAnchorFormer
	}
	clock, err := d.tpmClock(ctx)
	if err != nil {
		return fmt.Errorf("TPM clock: %w", err)
	}
	start := time.Now()
	if err := d.reportLate(ctx); err != nil {
		return err
	}
	parts := d.meterLedger(d.ledgerParts(found.behind(d.lines.tpm), missing, late))
	parts.OnRefusal = d.refused
	l, err := guard.Open(ctx, *parts)
	if err != nil {
		return fmt.Errorf("anchor: %w", err)
	}
	s := l.Status()
	d.guarded.unreported = &s
	if err := d.reportLate(ctx); err != nil {
		return err
	}
	ready.Store(true)
	d.guarded.opened.Store(&openLedger{l, time.Duration(clock.Clock) * time.Millisecond, start})
	return nil
}

// reportLate reports what a start found, also that of an earlier try, whose
// report could not be written.
func (d *Daemon) reportLate(ctx context.Context) error {
	s := d.guarded.unreported
	if s == nil {
		return nil
	}
	err := d.reportStart(ctx, *s)
	if err == nil {
		d.guarded.unreported = nil
	}
	return err
}

func (d *Daemon) reportStart(ctx context.Context, s guard.Status) error {
	switch {
	case s.Refused != nil:
		d.log.Error("PINs are refused", "reason", s.Refused.Error(), "database", s.Anchored, "tpm", s.Counter)
		return d.auditGuard(ctx, "start", s.Refused.Error(), s)
	case s.Start.Unclean:
		d.log.Warn("the TPM lost power", "jump", s.Start.Jump, "uncleanStarts", s.Unclean, "allowed", guard.UncleanMax)
		return d.auditGuard(ctx, "uncleanStart", "ok", s)
	case s.Start.RolledForward:
		d.log.Info("the last change before the stop was anchored now", "step", s.Step)
	}
	return nil
}

func (d *Daemon) auditGuard(ctx context.Context, action, result string, s guard.Status) error {
	return auditPort{d.audit}.Write(ctx, wallet.Event{Time: time.Now().UTC(), Action: action, Result: result,
		Detail: map[string]string{"database": fmt.Sprint(s.Anchored), "tpm": fmt.Sprint(s.Counter),
			"epoch": fmt.Sprint(s.Epoch), "uncleanStarts": fmt.Sprint(s.Unclean)}})
}
