package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"
)

// Token is an open token: its module, its slot and its sessions.
type Token struct {
	cfg      Config
	module   *pkcs11.Ctx
	native   *native
	slot     uint
	signer   *signer
	signing  *pool
	keepers  *pool
	login    login
	loggedIn atomic.Bool
	// epoch counts how often the log-in, and with it every handle, was lost.
	epoch  atomic.Uint64
	counts counts

	faults chan error // for a Supervisor; holds one

	closing   chan struct{} // closed when Close begins
	closeOnce sync.Once
	closeErr  error
}

// Open loads the module, initialises it and finds the token. It does not log in
// and opens no session of its own yet. Where the token is not found the error
// is ErrTokenNotFound and lists the tokens that are present.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.CallTimeout)
	defer cancel()
	open := func() (*Token, error) { return openToken(cfg) }
	return await(ctx, "open the token", open, func(t *Token) { _ = t.Close() })
}

// openToken does the work of Open. The P-256 signer is opened first, because it
// insists on initialising the module itself.
func openToken(cfg Config) (*Token, error) {
	n, err := loadNative(cfg.Module)
	if err != nil {
		return nil, err
	}
	sg, err := openSigner(cfg)
	if err != nil {
		defer n.unload()
		return nil, explain(cfg, err)
	}
	t := &Token{cfg: cfg, native: n, signer: sg, closing: make(chan struct{}), faults: make(chan error, 1), login: newLogin()}
	t.signing = newPool(t, cfg.Sessions, false)
	t.keepers = newPool(t, cfg.Keepers, true)
	if err := t.attach(); err != nil {
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

// attach opens the wrapper library's own reference to the module, which the
// signer has initialised, and finds the slot.
func (t *Token) attach() error {
	t.module = pkcs11.New(t.cfg.Module)
	if t.module == nil {
		return fmt.Errorf("hsm: cannot load the PKCS#11 module %s", t.cfg.Module)
	}
	err := fromModule("C_Initialize", t.module.Initialize())
	if err != nil && codeOf(err) != pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED {
		return err
	}
	found, err := findSlot(t.module, t.cfg)
	if err != nil {
		return err
	}
	t.slot = found.slot
	return t.enoughSessions(found.info)
}

// enoughSessions compares the token's limit, if it has one, with what will be
// used, so that a token which is too small fails at the start.
func (t *Token) enoughSessions(info pkcs11.TokenInfo) error {
	need := uint(t.cfg.Sessions + 2*t.cfg.Keepers + signerSessions)
	limit := info.MaxSessionCount
	if limit == pkcs11.CK_EFFECTIVELY_INFINITE || limit == pkcs11.CK_UNAVAILABLE_INFORMATION || need <= limit {
		return nil
	}
	return fmt.Errorf("hsm: the token allows %d sessions and %d are needed: lower sessions (%d) or keepers (%d, which count twice); %d more are used for P-256 signing",
		limit, need, t.cfg.Sessions, t.cfg.Keepers, signerSessions)
}

// Close waits for the calls in progress (at most the call timeout), closes all
// sessions, logs out and finalises the module. Objects and keys of the token
// are lost. When calls do not come back in that time, the error says so, and the
// rest is done when they do, without a log-out: that would end the log-in of a
// token that was opened since then.
func (t *Token) Close() error {
	t.closeOnce.Do(func() { t.closeErr = t.shutDown() })
	return t.closeErr
}

func (t *Token) shutDown() error {
	close(t.closing)
	ctx, cancel := context.WithTimeout(context.Background(), t.cfg.CallTimeout)
	defer cancel()
	_, err := await(ctx, "close the token", func() (struct{}, error) { return struct{}{}, t.closeModule() }, nil)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		t.loggedIn.Store(false)
		t.epoch.Add(1) // no object may be used any more
		return fmt.Errorf("hsm: calls into the token did not come back: the module is not finalised until they do: %w", err)
	}
	return err
}

// closeModule waits for every call, and ends the log-in and the library. The
// signer's context goes last: it is what finalises the module.
func (t *Token) closeModule() error {
	forever := context.Background()
	sessions := append(t.signing.drain(forever), t.keepers.drain(forever)...)
	t.signer.drain(forever)
	err := t.logout(sessions)
	for _, s := range sessions {
		s.close()
	}
	t.signer.close()
	if t.module != nil {
		t.module.Destroy()
	}
	t.native.unload()
	return err
}

// drain takes every session out of the pool, as far as they come back in time.
func (p *pool) drain(ctx context.Context) []*session {
	var out []*session
	for range cap(p.free) {
		select {
		case s := <-p.free:
			out = append(out, s)
		case <-ctx.Done():
			return out
		}
	}
	return out
}

// bound applies the call timeout where ctx has no nearer deadline.
func (t *Token) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, t.cfg.CallTimeout)
}

// loseLogin notes that the log-in of this epoch is gone. Every object and key
// handle of the epoch is stale from now on. Concurrent reports of one loss
// count once. A token that is logged in all the same keeps the objects of before
// until their sessions are closed, which is done aside: the module may be slow.
func (t *Token) loseLogin(epoch uint64) {
	if t.epoch.CompareAndSwap(epoch, epoch+1) {
		t.loggedIn.Store(false)
		t.observe(ErrNotLoggedIn)
		go t.keepers.sweep()
	}
}

// observe tells a Supervisor of an error that may need its work. A fault that it
// has not looked at yet is replaced by none: one is enough to make it look.
func (t *Token) observe(err error) {
	if err == nil || classOf(err) == GiveUp && !errors.Is(err, ErrNotLoggedIn) {
		return
	}
	select {
	case t.faults <- err:
	default:
	}
}

// Hang says which sessions have a call in the module for longer than the call
// timeout. They serve again when the module answers. The zero Hang is none.
type Hang struct {
	Hung, Sessions int
	// All says that every session hangs of a kind that wallets need, so that
	// hardly anything can be served.
	All bool
	// Signers says that every session of the P-256 keys hangs, without which
	// nothing is made that has a receipt.
	Signers bool
	// Since is when the first of these calls began.
	Since time.Time
}

// Hang looks at the sessions. It touches no device.
func (t *Token) Hang() (h Hang) {
	for _, p := range []*pool{t.signing, t.keepers} {
		n, since := p.hung()
		h.add(n, len(p.all), since)
		h.All = h.All || n == len(p.all)
	}
	n, since := t.signer.hung()
	h.add(n, len(t.signer.all), since)
	h.Signers = n == len(t.signer.all)
	return h
}

func (h *Hang) add(n, of int, since time.Time) {
	h.Hung, h.Sessions = h.Hung+n, h.Sessions+of
	if n > 0 && (h.Since.IsZero() || since.Before(h.Since)) {
		h.Since = since
	}
}

// stopwatch says since when a call is in the module. The zero value runs not.
type stopwatch struct{ begun atomic.Pointer[time.Time] }

func (s *stopwatch) start() {
	now := time.Now()
	s.begun.Store(&now)
}

func (s *stopwatch) stop() { s.begun.Store(nil) }

// hungSince counts the stopwatches that run for longer than the time-out, so that
// no caller waits for the call any more, and says since when the first of them does.
func hungSince(all []*stopwatch, timeout time.Duration) (n int, since time.Time) {
	for _, s := range all {
		begun := s.begun.Load()
		if begun == nil || time.Since(*begun) <= timeout {
			continue
		}
		n++
		if since.IsZero() || begun.Before(since) {
			since = *begun
		}
	}
	return n, since
}

// await runs fn and returns its result, or returns when ctx ends; a result that
// comes later goes to discard. Its callers bound how many run at one time.
func await[T any](ctx context.Context, name string, fn func() (T, error), discard func(T)) (T, error) {
	c := &call[T]{done: make(chan struct{})}
	go func() {
		value, err := fn()
		if c.finish(value, err) || err != nil || discard == nil {
			return
		}
		discard(value)
	}()
	return c.wait(ctx, name)
}
