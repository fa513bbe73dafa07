package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sigild/sigild/daemon/wipe"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/tpm"
)

// lines are the connections to the devices, each kept up by one goroutine.
type lines struct {
	tpm   *tpmLine
	token *hsm.Supervisor
	stop  context.CancelFunc
	ended chan error // gets how the token's supervision ended, once
	group sync.WaitGroup

	// verified says that what comes before the first request has held once.
	verified atomic.Bool
	// The supervisor's goroutine alone uses the rest. typed is a PIN that a person
	// typed, until all is verified; recall is the same, sealed by the TPM.
	typed  []byte
	recall *tpm.Blob
	marks  loginMarks
}

// startPatience is how long a start waits for devices that answer slowly. One
// that is away does not hold it up.
const startPatience = 20 * time.Second

// prepareDevices makes the lines and what stands on them, touching no device.
func (d *Daemon) prepareDevices(doc *document) error {
	chip, err := tpm.Attach(tpm.Config{Device: d.config.TPM.Device, Timeout: time.Duration(d.config.TPM.Timeout)}, d.doc.SRKName)
	if err != nil {
		return err
	}
	l := &lines{tpm: newTPMLine(chip, d.log), ended: make(chan error, 1), marks: loginMarks{db: d.db, id: d.doc.ID}}
	d.token = &token{chip: l.tpm, config: d.config.Token, mechanism: map[uint32]uint64{}, hosts: map[uint32]*tpm.HMACKey{},
		distrusted: d.keepTokenFault}
	for _, g := range d.doc.Generations {
		d.token.mechanism[g.Number], d.token.newest.Token = g.Mechanism, g.Number
	}
	if err := d.prepareHostKeys(l.tpm); err != nil {
		return err
	}
	l.token, err = hsm.NewSupervisor(hsm.SupervisorConfig{
		Token: tokenConfig(d.config.Token),
		LogIn: d.unlockToken,
		Open:  func(ctx context.Context, t *hsm.Token) ([]*hsm.Keys, error) { return d.openKeys(ctx, t, doc) },
		Final: l.final, Changed: d.reportToken,
	})
	d.token.line, d.lines = l.token, l
	d.health = newHealth(d)
	l.tpm.told = d.health.hurry
	return errors.Join(err, d.readTokenFault())
}

// prepareHostKeys makes each value of the TPM host key; the newest seals.
func (d *Daemon) prepareHostKeys(l *tpmLine) error {
	authority, approvals, err := d.doc.authority()
	if err != nil {
		return err
	}
	for _, h := range d.doc.HostKeys {
		var blob tpm.Blob
		if err := blob.UnmarshalBinary(h.Blob); err != nil {
			return err
		}
		key, err := l.tpm.HMACKey(blob, authority, approvals)
		if err != nil {
			return fmt.Errorf("TPM host key %d: %w", h.Number, err)
		}
		l.hosts = append(l.hosts, key)
		d.token.hosts[h.Number], d.token.newest.Host = key, h.Number
	}
	return nil
}

// startDevices brings the devices up. What must be mended before any start is an
// error. A device that is away is not: the daemon serves without it, says so, and
// takes it when it comes.
func (d *Daemon) startDevices(ctx context.Context) error {
	l := d.lines
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	l.group.Go(func() { l.tpm.run(running) })
	waiting, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	l.tpm.gate.settled(waiting)
	if _, _, _, cause := l.tpm.gate.look(); permanent(cause) {
		return cause
	}
	l.group.Go(func() { l.ended <- l.token.Run(running) })
	if d.options.command {
		waiting = ctx // a person may be typing
	}
	state := l.token.Settled(waiting)
	if state.Phase == hsm.Refused {
		err := <-l.ended
		l.ended <- nil
		return err
	}
	return ctx.Err()
}

// final decides which faults of the token end the daemon: before it ever worked,
// all that the next start would find again; later a refused PIN only, since a
// wrong token in the slot may be taken out again.
func (l *lines) final(err error) bool {
	if l.verified.Load() {
		return errors.Is(err, ErrLoginRefused)
	}
	return permanent(err)
}

func permanent(err error) bool { return err != nil && ExitCode(err) == ExitConfig }

// close ends both lines and closes the devices.
func (l *lines) close() error {
	if l.stop == nil {
		return l.tpm.tpm.Close()
	}
	l.stop()
	l.group.Wait()
	l.forgetTyped()
	return l.tpm.tpm.Close()
}

// unlockToken gets the user PIN from where it is kept and logs in, once.
//
// The first log-in waits for the TPM, which the first request needs anyway, so
// that nobody is asked for a PIN in vain.
func (d *Daemon) unlockToken(ctx context.Context, t *hsm.Token) error {
	if !d.lines.verified.Load() {
		if err := d.lines.tpm.gate.wait(ctx); err != nil {
			return err
		}
	}
	pin, err := d.userPIN(ctx)
	defer func() { clear(pin) }()
	if err != nil {
		return fmt.Errorf("token PIN: %w", err)
	}
	err = d.lines.marks.login(ctx, t, pin)
	kind, _ := d.config.Token.PINSource()
	if kind == "prompt" && !errors.Is(err, ErrLoginRefused) && d.lines.recall == nil && d.lines.typed == nil {
		d.lines.typed, pin = pin, nil // nobody may be there to type it again
	}
	return err
}

// userPIN gives the PIN that was typed before, or gets it from where it is kept.
// The caller wipes it.
func (d *Daemon) userPIN(ctx context.Context) (pin []byte, err error) {
	if typed := d.lines.typed; typed != nil {
		wipe.Do(func() { pin = bytes.Clone(typed) })
		return pin, nil
	}
	pin, err = d.recallPIN(ctx)
	if err == nil && pin == nil {
		pin, err = tokenPIN(ctx, d.config.Token, pinSources{d.unsealPIN, d.options.Ask, d.options.command})
	}
	return pin, err
}

func (d *Daemon) unsealPIN(ctx context.Context) (pin []byte, err error) {
	err = d.lines.tpm.do(ctx, func(ctx context.Context) error {
		pin, err = unsealPIN(d.lines.tpm.tpm, d.doc)(ctx)
		return err
	})
	return pin, err
}

// keepPIN has the TPM seal a PIN that a person typed, so that the token can be
// logged in to again without them. The PIN itself does not stay in memory, and
// the sealed one is in memory only.
//
// It comes after verify: which TPM that is and whose measured states may unseal is
// what the installation document says.
func (d *Daemon) keepPIN(ctx context.Context) error {
	if d.lines.typed == nil {
		return nil
	}
	authority, _, err := d.doc.authority()
	if err != nil {
		return err
	}
	return d.lines.tpm.do(ctx, func(ctx context.Context) error {
		blob, err := d.lines.tpm.tpm.Seal(ctx, d.lines.typed, authority)
		if err == nil {
			d.lines.recall = &blob
			d.lines.forgetTyped()
		}
		return err
	})
}

func (l *lines) forgetTyped() {
	clear(l.typed)
	l.typed = nil
}

// recallPIN gives back what keepPIN kept; nil when there is nothing.
func (d *Daemon) recallPIN(ctx context.Context) (pin []byte, err error) {
	if d.lines.recall == nil {
		return nil, nil
	}
	authority, approvals, err := d.doc.authority()
	if err != nil {
		return nil, err
	}
	err = d.lines.tpm.do(ctx, func(ctx context.Context) error {
		pin, err = d.lines.tpm.tpm.Unseal(ctx, *d.lines.recall, authority, approvals)
		return err
	})
	return pin, err
}

// openKeys opens every generation. The first time it verifies, with the newest
// record key, what was read from the database before there was a token.
func (d *Daemon) openKeys(ctx context.Context, t *hsm.Token, doc *document) ([]*hsm.Keys, error) {
	var list []*hsm.Keys
	for _, g := range d.doc.Generations {
		keys, err := openGeneration(ctx, t, d.doc.ID, g)
		if err != nil {
			return nil, err
		}
		list = append(list, keys)
	}
	if !d.lines.verified.Load() {
		if err := d.verify(ctx, list[len(list)-1], doc); err != nil {
			return nil, err
		}
		d.lines.verified.Store(true)
	}
	return list, d.keepPIN(ctx)
}

// verify is what must hold before the first request. Both devices are there.
func (d *Daemon) verify(ctx context.Context, newest *hsm.Keys, doc *document) error {
	mac := func(ctx context.Context, message []byte) ([32]byte, error) {
		return newest.HMAC(ctx, hsm.Record, message)
	}
	if err := doc.verify(ctx, mac); err != nil {
		return err
	}
	if err := d.lines.tpm.gate.wait(ctx); err != nil {
		return err
	}
	if err := d.checkRoot(ctx, mac); err != nil {
		return err
	}
	identity, err := newest.Public(hsm.Identity)
	if err != nil {
		return err
	}
	if err := d.settleApprovals(ctx, mac); err != nil {
		return err
	}
	if err := d.openLedger(ctx, mac); err != nil {
		return err
	}
	d.identity.Store(identity)
	return nil
}
