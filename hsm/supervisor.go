package hsm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// SupervisorConfig says how a token is opened, and opened again.
type SupervisorConfig struct {
	Token Config
	// LogIn presents the user PIN by exactly one Token.Login. An error for
	// which Final is true ends the supervision.
	LogIn func(context.Context, *Token) error
	// Open opens the keys of every generation and checks that they are the
	// right ones. It runs after each log-in, before anybody gets the keys.
	Open func(context.Context, *Token) ([]*Keys, error)
	// Final reports whether an error must not be tried again.
	Final func(error) bool
	// Changed is called, if it is set, after each change of the phase and whenever
	// the cause is a wrong signature, by the supervisor's one goroutine.
	Changed func(SupervisorState)
	// Patience is how long Connection waits for a recovery: 0 is half a second.
	Patience time.Duration
}

// Phase is what a supervised token is doing.
type Phase byte

// The zero Phase serves nothing.
const (
	Starting   Phase = iota // never worked so far
	Ready                   // logged in, keys found and checked
	Recovering              // worked before, and will be opened again
	Refused                 // finally: somebody must look
)

// String names the phase.
func (p Phase) String() string {
	switch p {
	case Starting:
		return "starting"
	case Ready:
		return "ready"
	case Recovering:
		return "recovering"
	case Refused:
		return "refused"
	}
	return "unknown phase"
}

// SupervisorState is what a Supervisor says of its token.
type SupervisorState struct {
	Phase      Phase
	Cause      error // why it is not ready
	Since      time.Time
	Recoveries uint64 // how often it became ready again
	Failed     uint64 // attempts since it was ready
	Hang       Hang   // sessions that the module keeps
}

// Connection is a token that is logged in, with its checked keys. It stays the
// same value until the log-in, the keys or the module are lost.
type Connection struct {
	Token *Token
	Info  Info
	keys  []*Keys
}

// Keys returns the keys of a generation, or nil.
func (c *Connection) Keys(generation uint32) *Keys {
	for _, k := range c.keys {
		if k.Generation() == generation {
			return k
		}
	}
	return nil
}

// whole reports whether all handles are still good.
func (c *Connection) whole() bool {
	return !slices.ContainsFunc(c.keys, func(k *Keys) bool { return k.usable() != nil })
}

// UnavailableError is returned while there is no working token.
// errors.Is(err, ErrUnavailable) matches it.
type UnavailableError struct {
	Cause      error
	RetryAfter time.Duration
}

// Error says why.
func (e *UnavailableError) Error() string { return fmt.Sprintf("%v: %v", ErrUnavailable, e.Cause) }

// Is matches ErrUnavailable.
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

const (
	defaultPatience = 500 * time.Millisecond
	firstPause      = 20 * time.Millisecond
	maxPause        = 300 * time.Millisecond
	// After longOutage attempts, some ten minutes, the pauses grow to slowPause,
	// unless a caller waits.
	longOutage = 2000
	slowPause  = 3 * time.Second
	// watchEvery is how often an idle token is looked at.
	watchEvery = 5 * time.Second
)

// Supervisor keeps a token open, logged in and its keys found. One goroutine,
// Run, does all of that; callers take what there is from Connection. Faults are
// seen by the token itself in the answers to its callers' calls.
type Supervisor struct {
	cfg  SupervisorConfig
	wake chan struct{} // a caller waits: try now

	// Run's alone:
	token   *Token
	opening *opening // an Open that did not come back yet
	serial  string   // of the first token that took the PIN
	// confirmed says that LogIn knows of the log-in that stands.
	confirmed bool
	history   *knownPIN // of the openings before; nil: there was none

	mu      sync.Mutex
	current *Connection
	state   SupervisorState
	counted Stats         // of the openings before
	changed chan struct{} // closed at each change
}

// NewSupervisor returns a supervisor that does nothing until Run.
func NewSupervisor(cfg SupervisorConfig) (*Supervisor, error) {
	cfg.Token = cfg.Token.withDefaults()
	if err := cfg.Token.validate(); err != nil {
		return nil, err
	}
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	return &Supervisor{cfg: cfg, wake: make(chan struct{}, 1), changed: make(chan struct{}),
		state: SupervisorState{Cause: errors.New("hsm: the token was not opened yet"), Since: time.Now()}}, nil
}

// Connection returns the working token. Where there is none it waits a little
// for the recovery, and then returns an *UnavailableError.
func (s *Supervisor) Connection(ctx context.Context) (*Connection, error) {
	timer := time.NewTimer(s.cfg.Patience)
	defer timer.Stop()
	for {
		c, state, changed := s.look()
		if state.Phase == Ready && c.whole() {
			return c, nil
		}
		if state.Phase == Refused {
			return nil, &UnavailableError{Cause: state.Cause, RetryAfter: time.Minute}
		}
		s.kick()
		select {
		case <-changed:
		case <-timer.C:
			return nil, &UnavailableError{Cause: causeOf(state), RetryAfter: time.Second}
		case <-ctx.Done():
			return nil, &UnavailableError{Cause: errors.Join(causeOf(state), ctx.Err()), RetryAfter: time.Second}
		}
	}
}

// causeOf names a reason also in the moment before the supervisor noticed.
func causeOf(s SupervisorState) error {
	if s.Cause == nil {
		return ErrNotLoggedIn
	}
	return s.Cause
}

func (s *Supervisor) look() (*Connection, SupervisorState, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, s.state, s.changed
}

// Settled waits until the token works, is refused, or a first attempt to get it
// has failed, and returns the state then.
func (s *Supervisor) Settled(ctx context.Context) SupervisorState {
	for {
		_, state, changed := s.look()
		if state.Phase == Ready || state.Phase == Refused || state.Failed > 1 {
			return state
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return state
		}
	}
}

// Last returns the newest connection, which may not work any more, or nil.
func (s *Supervisor) Last() *Connection {
	c, _, _ := s.look()
	return c
}

// State says how the token is. It touches no device.
func (s *Supervisor) State() SupervisorState {
	c, state, _ := s.look()
	if c != nil {
		state.Hang = c.Token.Hang()
		if state.Phase == Ready && !c.whole() {
			state.Phase, state.Cause = Recovering, ErrNotLoggedIn
		}
	}
	return state
}

func (s *Supervisor) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// pause waits before the next attempt, less when a caller waits for it.
func (s *Supervisor) pause(ctx context.Context, attempt int) {
	d := maxPause
	if attempt < 8 {
		d = min(firstPause<<attempt, maxPause)
	}
	// Jitter, so that several hosts at one network token do not come in step.
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	if attempt < longOutage {
		return
	}
	timer.Reset(slowPause)
	select {
	case <-timer.C:
	case <-s.wake:
	case <-ctx.Done():
	}
}

// publish sets what callers get.
func (s *Supervisor) publish(phase Phase, c *Connection, cause error) {
	s.mu.Lock()
	before := s.state.Phase
	if c != nil {
		s.current = c
	}
	if phase == Recovering && s.current == nil {
		phase = Starting
	}
	if phase == Ready && before == Recovering {
		s.state.Recoveries++
	}
	if phase != before {
		s.state.Since = time.Now()
	}
	s.state.Failed++
	if phase == Ready {
		s.state.Failed = 0
	}
	s.state.Phase, s.state.Cause = phase, cause
	state := s.state
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if s.cfg.Changed != nil && (phase != before || errors.Is(cause, ErrWrongSignature)) {
		s.cfg.Changed(state)
	}
}
