package daemon

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sigild/sigild/daemon/audit"
	"github.com/sigild/sigild/daemon/channel"
	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/confine"
	"github.com/sigild/sigild/daemon/entropy"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/metrics"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/hsm"
)

// Options are what a daemon gets from its command besides the configuration.
type Options struct {
	Ask     Prompt // for token.pin = "prompt"
	Logger  *slog.Logger
	Version string
	// Reload, whenever it gives a signal, has Load read the configuration anew.
	Reload <-chan os.Signal
	Load   func() (*config.Config, error)
	Level  *slog.LevelVar // of Logger
	// ConfigPath is where Load reads the configuration.
	ConfigPath string

	anchorMayDiffer bool // for the command that changes it
	command         bool // it is opened by an operator's command, and not to serve
}

// Daemon is a started installation.
type Daemon struct {
	config   *config.Config                // as it was at the start
	live     atomic.Pointer[config.Config] // as it is after the last reload
	reloaded chan struct{}                 // tells purges of a reload
	options  Options
	log      *slog.Logger
	db       *store.Store
	doc      *installation
	token    *token
	lines    *lines
	health   *health
	kms      *entropy.KMS                    // nil where the configuration drops it
	identity atomic.Pointer[ecdsa.PublicKey] // nil until the token was seen
	mixer    *entropy.Mixer
	audit    *audit.Log
	guarded  *lateLedger
	guard    *guard.Guard
	wallets  *wallet.Service
	receiver *channel.Receiver // the daemon's end of the PIN channel
	hard     context.Context   // ends when a stop has no more time
	end      context.CancelFunc
	ending   sync.WaitGroup // unlocks that end for good
	// collector collects what requests with secrets left; memoryLocked says
	// that nothing of this process is swapped out.
	collector    collector
	memoryLocked bool
	confined     confine.State
	metrics      *metrics.Metrics
}

// Open starts everything but the socket, in the order that doc.go gives. An
// error leaves nothing open.
func Open(ctx context.Context, c *config.Config, o Options) (_ *Daemon, err error) {
	d := &Daemon{config: c, options: o, log: o.Logger, reloaded: make(chan struct{}, 1)}
	d.live.Store(c)
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.db, err = openStore(c.Store.Path); err != nil {
		return nil, err
	}
	doc, err := d.readInstallation(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.prepareDevices(doc); err != nil {
		return nil, err
	}
	if err := d.openSources(ctx); err != nil {
		return nil, err
	}
	if d.audit, err = audit.Open(c.Audit.Path); err != nil {
		return nil, err
	}
	d.openMetrics()
	d.guarded = &lateLedger{token: d.token}
	d.guard = guard.New(meteredRows{d.guarded, d.metrics}, meteredMAC(d.metrics, d.token.guardMAC, nil), d.guarded.clock())
	d.wallets = d.newService()
	d.receiver = newReceiver(d.doc.ID, d.token.SignReceipt, d.config.Limits.SealedPINs)
	d.hard, d.end = context.WithCancel(context.Background())
	return d, d.startDevices(ctx)
}

// openStore opens the database. Where there is none the host was never
// provisioned, or lost it: then the way out is the backup, and not another
// installation.
func openStore(path string) (*store.Store, error) {
	if err := checkOwner(path); err != nil {
		return nil, err
	}
	s, err := store.Open(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; if it was, bring its database back instead: %w", ErrNotProvisioned, err)
	}
	return s, err
}

// Close ends the daemon: what is unlocked, the audit log, the devices (with
// log-out), the database. It may be called on a daemon whose start failed.
func (d *Daemon) Close() error {
	var errs []error
	d.settleCharges()
	d.endUnlocks()
	if d.end != nil {
		d.end()
	}
	if d.lines != nil {
		errs = append(errs, d.lines.close())
	}
	if d.audit != nil {
		errs = append(errs, d.audit.Close())
	}
	if d.db != nil {
		errs = append(errs, d.db.Close())
	}
	return errors.Join(errs...)
}

// settleCharges gives back, at a stop, what a device's fault kept charged; what
// cannot be given back now stays charged.
func (d *Daemon) settleCharges() {
	if d.guard == nil || d.guarded.opened.Load() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	if err := d.guard.SettleLate(ctx); err != nil {
		d.log.Error("PIN attempts that a device's fault cost stay charged", "error", err)
	}
}

// settleTime is how long a stop waits for that.
const settleTime = 2 * time.Second

func (d *Daemon) readInstallation(ctx context.Context) (*document, error) {
	data, err := d.db.Get(ctx, store.Installation)
	if err != nil {
		return nil, err
	}
	if data == nil {
		return nil, ErrNotProvisioned
	}
	i, doc, err := decodeInstallation(data)
	if err != nil {
		return nil, err
	}
	if !i.Finished || i.Anchor == nil {
		return nil, ErrNotProvisioned
	}
	if len(i.Generations) == 0 || len(i.HostKeys) == 0 {
		return nil, ErrInstallation
	}
	d.doc = i
	return doc, nil
}

// openGeneration opens one generation of the token's keys and compares each
// with its recorded fingerprint.
func openGeneration(ctx context.Context, t *hsm.Token, id seal.ID, g generation) (*hsm.Keys, error) {
	keys, err := t.OpenKeys(ctx, id, g.Number, uint(g.Mechanism))
	if err != nil {
		return nil, fmt.Errorf("token keys of generation %d: %w", g.Number, err)
	}
	if enforces(keys.Enforcement()) < enforces(g.Enforcement) {
		return nil, fmt.Errorf("generation %d: %w: %q, and %q now", g.Number, ErrEnforcement, g.Enforcement, keys.Enforcement())
	}
	for _, f := range g.Fingerprints {
		if err := keys.CheckFingerprint(ctx, hsm.Purpose(f.Purpose), f.Value); err != nil {
			return nil, fmt.Errorf("token key %s of generation %d: %w", hsm.Purpose(f.Purpose), g.Number, err)
		}
	}
	return keys, nil
}

// enforces ranks who keeps unwrapped keys in the token. A word that is not known
// cannot be less than what another version of this program found.
func enforces(who string) int {
	switch who {
	case hsm.EnforcedByDaemon:
		return 1
	case hsm.EnforcedInPart:
		return 2
	case hsm.EnforcedByToken:
		return 3
	}
	return 4
}

// guardRoot reads and verifies the guard root.
func (d *Daemon) guardRoot(ctx context.Context, mac guard.MAC) (*guard.Root, error) {
	data, err := d.db.Get(ctx, store.GuardRoot)
	if err != nil {
		return nil, err
	}
	root, err := guard.DecodeRoot(ctx, data, d.doc.ID, mac)
	if err != nil {
		return nil, fmt.Errorf("guard root: %w", err)
	}
	return root, nil
}

// checkRoot verifies that the guard root stands over these very keys.
func (d *Daemon) checkRoot(ctx context.Context, mac guard.MAC) error {
	root, err := d.guardRoot(ctx, mac)
	if err != nil {
		return err
	}
	if string(root.Keys) != string(d.doc.keysDigest()) {
		return fmt.Errorf("guard root: %w", ErrInstallation)
	}
	return nil
}

func (d *Daemon) newService() *wallet.Service {
	p := d.config.PIN
	checks := p.Checks
	if checks == 0 {
		checks = runtime.NumCPU()
	}
	return wallet.New(d.meter(wallet.Config{
		Installation: d.doc.ID,
		Token:        d.token,
		Entropy:      entropyPort{d.mixer, d.config.Entropy.Drop, d.health},
		Guard:        guardPort{d.guard},
		Store:        d.db.Wallets(d.guarded),
		Audit:        auditPort{d.audit},
		Now:          time.Now,
		KDF:          seal.Argon2{Time: p.Time, Memory: p.Memory, Threads: p.Threads},
		Limits: seal.Limits{Consecutive: p.Consecutive, Window: p.Window,
			WindowDays: p.WindowDays, Lifetime: p.Lifetime},
		Checks:     checks,
		Waiting:    p.Waiting,
		MaxUnlocks: d.config.Limits.Unlocks, UnlocksOfUID: d.config.Limits.UnlocksOfUID(),
		PerMinute: d.config.Limits.ChangesPerMinute,
		Allowed:   d.allowed,
	}))
}
