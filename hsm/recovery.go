package hsm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// milder is how many attempts are made on the open token before it is closed
// and the module initialised again, which costs every session object.
const milder = 3

// Run keeps the token usable until ctx ends, which gives nil, or until an error
// is final, which it returns. Then the token is closed. Run it once.
func (s *Supervisor) Run(ctx context.Context) error {
	defer s.abandonOpening()
	defer s.closeToken()
	for ctx.Err() == nil {
		if err := s.recover(ctx, s.watch(ctx)); err != nil {
			s.publish(Refused, nil, err)
			return err
		}
	}
	return nil
}

// watch waits for a fault of the working token, and looks at an idle one from
// time to time. Without a token it returns at once.
func (s *Supervisor) watch(ctx context.Context) error {
	if s.token == nil {
		return errors.New("hsm: the token is not open")
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		var cause error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case cause = <-s.token.faults:
		case <-s.wake:
		case <-tick.C:
		}
		if cause = s.fault(ctx, cause); cause != nil {
			return cause
		}
	}
}

// fault looks whether the connection still works although something was seen, and
// gives nil or what is wrong with it. A stale handle (FindKeys) is not looked into:
// the keys are found again.
func (s *Supervisor) fault(ctx context.Context, seen error) error {
	c := s.Last()
	if c == nil || !c.whole() || classOf(seen) == FindKeys {
		return cmp.Or(seen, ErrNotLoggedIn)
	}
	if c.Token.Hang().Hung > 0 && classOf(seen) < Reinitialise {
		return nil // another call would only hang too; the state shows it
	}
	err := c.probe(ctx)
	// A call that begins to hang during the probe is no reason: closing the module
	// would cost every object, and can only wait for the same answer.
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrHung) || ctx.Err() != nil {
		return nil
	}
	return err
}

// probe signs with every generation's probe key.
func (c *Connection) probe(ctx context.Context) error {
	for _, k := range c.keys {
		if err := k.ProbeSign(ctx); err != nil {
			return err
		}
	}
	return nil
}

// recover tries until the token works again (nil), ctx ends (nil), or an error
// is final.
func (s *Supervisor) recover(ctx context.Context, cause error) error {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		if attempt == 0 {
			s.publish(Recovering, nil, cause)
		}
		err := s.attempt(ctx, attempt, cause)
		if err == nil {
			return nil
		}
		if s.cfg.Final(err) {
			return err
		}
		cause = err
		s.publish(Recovering, nil, cause)
		s.pause(ctx, attempt)
	}
	return nil
}

// attempt makes the connection once, from as high up as there is hope.
func (s *Supervisor) attempt(ctx context.Context, n int, cause error) error {
	// With calls in the module it stays open, which may do.
	if s.token != nil && (classOf(cause) == Reinitialise || n >= milder) && s.reopenable() == nil && !s.lateLogIn() {
		s.closeToken()
	}
	if s.lateLogIn() {
		if err := s.logIn(ctx); err != nil {
			return err
		}
	}
	if s.token == nil {
		if err := s.openToken(ctx); err != nil {
			return err
		}
	}
	info, err := s.token.Info(ctx)
	if err != nil {
		return err
	}
	if err := s.sameToken(info); err != nil {
		return err
	}
	if err := s.logIn(ctx); err != nil {
		return err
	}
	keys, err := s.cfg.Open(ctx, s.token)
	if err != nil {
		return err
	}
	c := &Connection{Token: s.token, Info: info, keys: keys}
	if err := c.probe(ctx); err != nil {
		return err
	}
	s.serial = info.Serial
	s.forget()
	s.publish(Ready, c, nil)
	return nil
}

// lateLogIn reports whether a log-in came to its end after LogIn had given it up.
// LogIn must learn of it before the token is closed, or would take it for one whose
// outcome nobody knows.
func (s *Supervisor) lateLogIn() bool {
	return s.token != nil && s.token.loggedIn.Load() && !s.confirmed
}

// logIn asks for a log-in where there is none, and also where one came to its end
// after LogIn had given it up, so that LogIn learns of it. While an earlier C_Login has not
// come back from the module it asks for nothing.
func (s *Supervisor) logIn(ctx context.Context) error {
	t := s.token
	if t.loggedIn.Load() && s.confirmed {
		return nil
	}
	s.confirmed = false
	select {
	case turn := <-t.login.turn:
		pause, unclear := t.login.pause(), t.login.unclear
		t.login.turn <- turn
		if pause > 0 {
			return fmt.Errorf("hsm: the next log-in is %v away, since the last had no clear answer: %w", pause.Round(time.Second), unclear)
		}
	default:
		return fmt.Errorf("%w: a log-in is still running", ErrHung)
	}
	err := s.cfg.LogIn(ctx, t)
	s.confirmed = err == nil
	return err
}

// forget drops what was seen before the recovery.
func (s *Supervisor) forget() {
	select {
	case <-s.wake:
	default:
	}
	select {
	case <-s.token.faults:
	default:
	}
}

// quiet is how long the module's last calls may take before it is closed.
const quiet = 200 * time.Millisecond

// reopenable reports why the module must not be finalised: calls that it has
// not answered yet may still be running in it.
func (s *Supervisor) reopenable() error {
	if h := s.token.Hang(); h.Hung > 0 {
		return fmt.Errorf("%w: in %d sessions", ErrHung, h.Hung)
	}
	ctx, cancel := context.WithTimeout(context.Background(), quiet)
	defer cancel()
	missing := 0
	for _, p := range []*pool{s.token.signing, s.token.keepers} {
		idle := p.drain(ctx)
		missing += giveBack(p.free, idle)
	}
	missing += giveBack(s.token.signer.turns, s.token.signer.drain(ctx))
	if missing > 0 {
		return fmt.Errorf("%w: in %d sessions", ErrHung, missing)
	}
	return nil
}

// giveBack returns what was taken, and counts what could not be.
func giveBack[T any](to chan T, taken []T) (missing int) {
	for _, x := range taken {
		to <- x
	}
	return cap(to) - len(taken)
}

// opening is an Open under way. It may hang in the module like any call, and
// there is never more than one.
type opening struct {
	done  chan struct{}
	token *Token
	err   error
}

func (s *Supervisor) openToken(ctx context.Context) error {
	if s.opening == nil {
		o := &opening{done: make(chan struct{})}
		s.opening = o
		go func() {
			defer close(o.done)
			o.token, o.err = openToken(s.cfg.Token)
		}()
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Token.CallTimeout)
	defer cancel()
	select {
	case <-s.opening.done:
	case <-ctx.Done():
		return fmt.Errorf("%w: it is being opened: %w", ErrHung, ctx.Err())
	}
	o := s.opening
	s.opening = nil
	if o.err != nil {
		return o.err
	}
	if s.history != nil {
		o.token.login.knownPIN = *s.history
	}
	s.token = o.token
	return nil
}

// abandonOpening closes what is opened when nobody waits any more.
func (s *Supervisor) abandonOpening() {
	if o := s.opening; o != nil {
		go func() {
			<-o.done
			if o.token != nil {
				_ = o.token.Close()
			}
		}()
	}
}

// closeToken closes what is open. An error says that calls did not come back;
// the module then stays initialised, and the next opening shares it.
func (s *Supervisor) closeToken() {
	if s.token == nil {
		return
	}
	_ = s.token.Close()
	s.count(s.token.Stats())
	known := s.token.known()
	s.history = &known
	s.token = nil
}

// known returns what is known of the PIN, for the next opening.
func (t *Token) known() knownPIN {
	select {
	case <-t.login.turn:
		defer func() { t.login.turn <- struct{}{} }()
		return t.login.knownPIN
	default: // a log-in is still in the module
		k := newKnownPIN()
		k.doubts, k.unclear, k.since = maxDoubts, ErrHung, time.Now()
		return k
	}
}

// sameToken refuses to give the PIN to another token than the one that took it.
// A label may be on several, and each counts its own wrong PINs.
func (s *Supervisor) sameToken(i Info) error {
	if s.serial == "" || i.Serial == s.serial {
		return nil
	}
	return fmt.Errorf("%w: the token has serial number %q and not %q any more; restart to use another one on purpose",
		ErrTokenNotFound, i.Serial, s.serial)
}
