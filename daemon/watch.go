package daemon

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	manager "github.com/coreos/go-systemd/v22/daemon"

	"github.com/sigild/sigild/hsm"
)

// errHung is the outcome of a probe that did not even come back when its
// context ended.
var errHung = errors.New("does not come back")

// probe is one thing that a healthy daemon can do at any time.
type probe struct {
	name     string
	run      func(context.Context) error
	patience time.Duration // how long it may hang before the watchdog starves
}

// probes are a signature by the token's probe key, a command of the TPM, and a
// read of the database. A device may answer again after long, and then nothing was
// lost; a restart would lose every unlocked wallet.
func (d *Daemon) probes() []probe {
	devices := time.Duration(d.config.Watchdog.DeviceHang)
	return []probe{
		{"token", d.probeToken, devices},
		{"tpm", d.lines.tpm.probe, devices},
		{"store", func(ctx context.Context) error { _, err := d.db.Count(ctx); return err }, 0},
	}
}

func (d *Daemon) probeToken(ctx context.Context) error {
	c, err := d.lines.token.Connection(ctx)
	if err != nil {
		return err
	}
	err = c.Keys(d.token.newest.Token).ProbeSign(ctx)
	d.condemn(err)
	return err
}

// Without a watchdog the probes run at this pace.
const (
	probeEvery   = 10 * time.Second
	probeTimeout = 5 * time.Second
)

// watcher runs the probes and tells the service manager what they say: READY
// once all of them passed, STATUS when something changed, and a sign of life
// for the watchdog in each round.
//
// A device that answers with an error, or is not there, does not starve the
// watchdog: a restart would not bring it back. One that does not answer at all
// does, once it has hung for its patience: its probe takes whichever session is
// free, so by then no session is left.
type watcher struct {
	notify   notifier
	log      *slog.Logger
	probes   []*probing
	every    time.Duration
	timeout  time.Duration
	limit    time.Duration                 // how long a probe may hang at least; 0: there is no watchdog
	observe  func(failing map[string]bool) // each probe's last outcome
	ready    bool
	reported string
}

func (d *Daemon) newWatcher() *watcher {
	n := notifier{d.log}
	w := &watcher{notify: n, log: d.log, every: probeEvery, timeout: probeTimeout}
	changes := d.health.logChanges()
	w.observe = func(failing map[string]bool) { d.observed(failing); changes() }
	if dog := n.watchdog(); dog > 0 {
		w.every, w.timeout, w.limit = min(dog/4, probeEvery), min(dog/4, probeTimeout), dog/2
	}
	for _, p := range d.probes() {
		w.probes = append(w.probes, &probing{probe: p, answered: time.Now()})
	}
	return w
}

// run probes until ctx ends.
func (w *watcher) run(ctx context.Context) {
	turn := time.NewTicker(w.every)
	defer turn.Stop()
	for {
		w.round(ctx)
		select {
		case <-turn.C:
		case <-ctx.Done():
			return
		}
	}
}

// round asks every probe at the same time and reports.
func (w *watcher) round(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range w.probes {
		all.Go(func() { p.ask(ctx, w.timeout) })
	}
	all.Wait()
	if ctx.Err() != nil {
		return // the probes failed because the daemon ends
	}
	var problems []string
	failing := map[string]bool{}
	for _, p := range w.probes {
		failing[p.name] = p.err != nil
		if p.err != nil {
			problems = append(problems, p.name+": "+p.err.Error())
		}
	}
	w.observe(failing)
	w.report(problems)
	if w.limit > 0 && w.alive() {
		w.notify.say(manager.SdNotifyWatchdog)
	}
}

// alive reports whether every probe answered within its patience, if only by an
// error.
func (w *watcher) alive() bool {
	for _, p := range w.probes {
		if time.Since(p.answered) > max(w.limit, p.patience) {
			return false
		}
	}
	return true
}

func (w *watcher) report(problems []string) {
	text := "ready"
	if len(problems) > 0 {
		text = "degraded: " + strings.Join(problems, "; ")
		if !w.ready {
			text = "not ready yet: " + strings.Join(problems, "; ")
		}
	}
	if text == w.reported {
		return
	}
	level := slog.LevelInfo
	if len(problems) > 0 {
		level = slog.LevelWarn
	}
	w.log.Log(context.Background(), level, "probes", "state", text)
	w.reported = text
	if !w.ready && len(problems) == 0 {
		w.ready = true
		w.notify.say(manager.SdNotifyReady, statusLine(text))
		return
	}
	w.notify.say(statusLine(text))
}

// probing is a probe with its last outcome. One round at a time uses it.
type probing struct {
	probe
	pending  chan error // of a call that has not come back; nil: none
	err      error
	answered time.Time // of the last answer, good or bad
}

// ask calls the probe, unless its last call is still out, and waits for it a
// little longer than its context lasts.
func (p *probing) ask(ctx context.Context, timeout time.Duration) {
	if p.pending == nil {
		answer := make(chan error, 1)
		p.pending = answer
		go func() {
			bounded, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			answer <- p.run(bounded)
		}()
	}
	patience := time.NewTimer(timeout + timeout/4)
	defer patience.Stop()
	select {
	case p.err = <-p.pending:
		p.pending = nil
	case <-patience.C:
		p.err = errHung
	}
	if !hung(p.err) {
		p.answered = time.Now()
	}
}

// hung reports whether a probe got no answer at all.
func hung(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errHung) || errors.Is(err, hsm.ErrHung)
}
