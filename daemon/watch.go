package daemon

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"

	manager "github.com/coreos/go-systemd/v22/daemon"

	"github.com/sigild/sigild/hsm"
)

// errHung is the outcome of a probe that did not even come back when its
// context ended.
var errHung = errors.New("does not come back")

const (
	// Without a watchdog the probes run at this pace.
	probeEvery   = 10 * time.Second
	probeTimeout = 5 * time.Second
	// seldomEvery is how many rounds' time is between two questions to a probe
	// that is asked seldom: a minute.
	seldomEvery = 6
	// While something is wrong the rounds follow each other faster, and never
	// more closely than shortestPause.
	failingEvery  = time.Second
	shortestPause = 50 * time.Millisecond
)

// watcher runs the probes and tells the service manager what is wrong, by them
// and by all else that the daemon knows: READY once wallets can be used, STATUS
// when something changed, and a sign of life for the watchdog in each round.
//
// A device that answers with an error, or is not there, does not starve the
// watchdog: a restart would not bring it back. Calls that hang in all sessions of
// a kind do, once they have for watchdog.device_hang: only a new process is rid of
// them. A TPM that hangs is left by each command after tpm.timeout, so that it is
// away and not hung: to open it again is all that a restart could do.
type watcher struct {
	notify  notifier
	health  *health
	probes  []*probing
	every   time.Duration
	timeout time.Duration
	limit   time.Duration   // how long a probe may hang at least; 0: there is no watchdog
	observe func([]finding) // all that holds, after each round

	ready    bool
	failing  bool // something was wrong in the last round
	reported string
}

func (d *Daemon) newWatcher() *watcher {
	n := notifier{d.log}
	w := &watcher{notify: n, health: d.health, every: probeEvery, timeout: probeTimeout}
	changes := d.health.logChanges()
	w.observe = func(found []finding) { d.observed(found); changes() }
	if dog := n.watchdog(); dog > 0 {
		w.every, w.timeout, w.limit = min(dog/4, probeEvery), min(dog/4, probeTimeout), dog/2
	}
	for _, p := range d.probes() {
		w.probes = append(w.probes, &probing{probe: p, asked: time.Now(), answered: time.Now()})
	}
	return w
}

// run probes until ctx ends.
func (w *watcher) run(ctx context.Context) {
	for {
		w.round(ctx)
		if !w.pause(ctx, shortestPause, nil) || !w.pause(ctx, w.turn(), w.health.changed) {
			return
		}
	}
}

// turn is the pause between two rounds.
func (w *watcher) turn() time.Duration {
	if w.failing {
		return min(w.every, failingEvery)
	}
	return w.every
}

// pause waits, or until somebody hurries it, and reports whether to go on.
func (w *watcher) pause(ctx context.Context, d time.Duration, hurry <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-hurry:
	case <-ctx.Done():
		return false
	}
	return true
}

// round asks every probe that is due at the same time, and reports.
func (w *watcher) round(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range w.probes {
		if w.due(p) {
			all.Go(func() { p.ask(ctx, w.timeout) })
		}
	}
	all.Wait()
	if ctx.Err() != nil {
		return // the probes failed because the daemon ends
	}
	for _, p := range w.probes {
		p.tell(&w.health.probed)
	}
	found := w.health.findings()
	w.failing = len(found) > 0
	w.observe(found)
	w.report(found)
	if w.limit > 0 && w.alive() {
		w.notify.say(manager.SdNotifyWatchdog)
	}
}

// due reports whether a probe is asked in this round. The first question to one
// that is asked seldom comes after the time between two: a start writes anyway.
func (w *watcher) due(p *probing) bool {
	_, failed := w.health.probed.look(p.name)
	return !p.seldom || failed || time.Since(p.asked) >= seldomEvery*w.every
}

// alive reports whether every probe answered within its patience, if only by an
// error, but those that wait for a disk.
func (w *watcher) alive() bool {
	for _, p := range w.probes {
		if !p.disk && time.Since(p.answered) > max(w.limit, p.patience) {
			return false
		}
	}
	return true
}

// report says READY once, when wallets can be used, and each change of the text.
func (w *watcher) report(found []finding) {
	state := stateOf(found)
	words := []string{statusLine(statusText(state, found))}
	switch {
	case w.ready:
	case state == stateFailing:
		words = []string{statusLine(statusText("not ready yet", found))}
	default:
		w.ready = true
		words = append([]string{manager.SdNotifyReady}, words...)
	}
	if text := strings.Join(words, "\n"); text != w.reported {
		w.reported = text
		w.notify.say(words...)
	}
}

const (
	// maxDetail bounds what a status says of one finding, in runes, and
	// maxStatus all of it: systemd drops a message of over 4096 bytes.
	maxDetail = 200
	maxStatus = 800
)

// statusText is a state with its reasons, in one line.
func statusText(state string, found []finding) string {
	var words []string
	for _, f := range found {
		words = append(words, f.reason+": "+cut(f.detail, maxDetail))
	}
	if len(words) == 0 {
		return state
	}
	return cut(state+": "+strings.Join(words, "; "), maxStatus)
}

// cut keeps the beginning of a text, without what is not to be shown in a line.
func cut(text string, most int) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text))
	if len(runes) <= most {
		return string(runes)
	}
	return string(runes[:most-1]) + "…"
}

// probing is a probe with its last outcome. One round at a time uses it.
type probing struct {
	probe
	pending  chan error // of a call that has not come back; nil: none
	err      error
	fresh    bool      // err is of this round
	asked    time.Time // last
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
	p.asked, p.fresh = time.Now(), true
	if !hung(p.err) {
		p.answered = time.Now()
	}
}

// tell writes down how the probe ended, if it was asked in this round.
func (p *probing) tell(to *outcomes) {
	if p.fresh {
		to.set(p.name, p.err)
	}
	p.fresh = false
}

// hung reports whether a probe got no answer at all.
func hung(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errHung) || errors.Is(err, hsm.ErrHung)
}

// logChanges returns a function that logs the conditions that are new since its
// last call, and the end of all. One goroutine calls it.
func (h *health) logChanges() func() {
	known := map[string]bool{}
	return func() {
		now := map[string]bool{}
		for _, f := range h.reported() { // a doubt speaks for itself
			now[f.reason] = true
			if !known[f.reason] {
				f.log(h.daemon.log)
			}
		}
		if len(now) == 0 && len(known) > 0 {
			h.daemon.log.Info("no longer degraded")
		}
		known = now
	}
}

// log tells an operator of the condition.
func (f *finding) log(to *slog.Logger) {
	to.Warn("degraded", "reason", f.reason, "since", f.since.UTC().Truncate(time.Second), "detail", f.detail,
		"works", f.works, "action", f.action)
}
