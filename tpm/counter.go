package tpm

import (
	"bytes"
	"context"
	"errors"

	"github.com/google/go-tpm/tpm2"
)

// Counter is an NV counter index: it only ever grows, and it never starts below
// a value that any counter of this TPM ever had (Part 3, TPM2_NV_Increment).
//
// An orderly counter lives in RAM and is written to flash at an orderly shutdown
// and every so many steps; after a power cut it jumps ahead, up to the next
// multiple of that many. A durable one is written at every step, which wears the
// flash out.
type Counter struct {
	tpm    *TPM
	public tpm2.TPMSNVPublic // with the written bit set
	name   tpm2.TPM2BName
	auth   []byte // authValue of the index
}

// CounterSpec says which counter to open.
type CounterSpec struct {
	Handle  uint32 // NV index, 0x01000000 to 0x01ffffff
	Orderly bool
	Auth    []byte // as given to DefineCounter
	Name    []byte // Counter.Name at that time, 34 bytes
}

// counterSession is the HMAC session of the counter that was used last. It dies
// with the connection.
type counterSession struct {
	counter *Counter
	session tpm2.Session
}

// DefineCounter defines a counter and increments it once: its Name is final only
// after the first write. Store the Name. The index is not subject to the
// dictionary-attack lock-out; auth is its own authorisation, 16 to 64 bytes. The
// index's authValue is derived from it as 32 hexadecimal digits, the first half
// of HMAC-SHA256(auth, "sigild/nv-auth/v1"). Auth is copied; the caller wipes it.
//
// After a failure half-way the index may be there: UndefineCounter removes it.
func (t *TPM) DefineCounter(ctx context.Context, handle uint32, orderly bool, auth []byte) (*Counter, error) {
	c, err := t.newCounter(handle, orderly, auth)
	if err != nil {
		return nil, err
	}
	err = t.do(ctx, func(l *link) error {
		if err := l.defineCounter(c); err != nil {
			return err
		}
		return l.firstIncrement(c)
	})
	if err != nil {
		clear(c.auth)
		return nil, err
	}
	return c, nil
}

// OpenCounter finds a counter that was defined earlier. It returns
// ErrCounterMissing when the index is not there, and ErrCounterChanged when its
// type, attributes or Name are not those of the spec.
func (t *TPM) OpenCounter(ctx context.Context, spec CounterSpec) (*Counter, error) {
	c, err := t.newCounter(spec.Handle, spec.Orderly, spec.Auth)
	if err != nil {
		return nil, err
	}
	err = t.do(ctx, func(l *link) error {
		public, err := l.readNVPublic(spec.Handle)
		if err != nil {
			return err
		}
		return c.compare(public, spec.Name)
	})
	if err == nil {
		_, err = c.Read(ctx) // proves the authValue, and that the TPM has this Name
	}
	if err != nil {
		clear(c.auth)
		return nil, err
	}
	return c, nil
}

// OwnsCounter reports whether a counter is at the handle that takes auth, as
// given to DefineCounter; also one whose definition was cut short before its
// first increment. False when nothing is there, or something else.
func (t *TPM) OwnsCounter(ctx context.Context, handle uint32, auth []byte) (owned bool, err error) {
	if err := checkNVIndex(handle); err != nil {
		return false, err
	}
	err = t.do(ctx, func(l *link) error {
		public, err := l.readNVPublic(handle)
		if errors.Is(err, ErrCounterMissing) || err == nil && !isCounter(public) {
			return nil
		}
		if err == nil {
			owned, err = l.takesAuth(t, public, auth)
		}
		return err
	})
	return owned, err
}

// takesAuth reads a counter, which the TPM refuses in another way when the
// authorisation is wrong than when nothing was written yet.
func (l *link) takesAuth(t *TPM, public *tpm2.TPMSNVPublic, auth []byte) (bool, error) {
	name, err := tpm2.NVName(public)
	if err != nil {
		return false, err
	}
	c := &Counter{tpm: t, public: *public, name: *name, auth: counterAuthValue(auth)}
	defer clear(c.auth)
	session, err := l.openCounterSession(c)
	if err != nil {
		return false, err
	}
	_, err = l.readCounter(session)
	l.evictCounter()
	switch err = explainCounter(err); {
	case err == nil, errors.Is(err, tpm2.TPMRCNVUninitialized):
		return true, nil
	case errors.Is(err, ErrCounterAuth), errors.Is(err, ErrCounterMissing):
		return false, nil
	}
	return false, err
}

// UndefineCounter deletes a counter with the owner's authorisation. It refuses
// to delete an NV index of another kind than DefineCounter makes.
func (t *TPM) UndefineCounter(ctx context.Context, handle uint32) error {
	if err := checkNVIndex(handle); err != nil {
		return err
	}
	return t.do(ctx, func(l *link) error {
		l.evictCounter()
		public, err := l.readNVPublic(handle)
		if err != nil {
			return err
		}
		if !isCounter(public) {
			return ErrCounterChanged
		}
		name, err := tpm2.NVName(public)
		if err != nil {
			return err
		}
		_, err = execute(l, "TPM2_NV_UndefineSpace", tpm2.NVUndefineSpace{
			AuthHandle: l.owner(), NVIndex: tpm2.NamedHandle{Handle: public.NVIndex, Name: *name},
		})
		return explainOwnerAuth(err)
	})
}

// NVDefined reports whether any NV index is defined at the handle. The answer
// is not authenticated.
func (t *TPM) NVDefined(ctx context.Context, handle uint32) (bool, error) {
	if err := checkNVIndex(handle); err != nil {
		return false, err
	}
	err := t.do(ctx, func(l *link) error {
		_, err := l.readNVPublic(handle)
		return err
	})
	if errors.Is(err, ErrCounterMissing) {
		return false, nil
	}
	return err == nil, err
}

// Name returns the TPM Name of the index, 34 bytes: TPM_ALG_SHA256 as two bytes
// and the SHA-256 of its public area. It does not depend on the authorisation,
// so a counter of the same kind at the same handle has the same Name.
func (c *Counter) Name() []byte { return bytes.Clone(c.name.Buffer) }

// Handle returns the NV index.
func (c *Counter) Handle() uint32 { return uint32(c.public.NVIndex) }

// Orderly reports whether the counter lives in RAM between shutdowns.
func (c *Counter) Orderly() bool { return c.public.Attributes.Orderly }

// Read returns the value. The response is authenticated by an HMAC session with
// the counter's authorisation.
func (c *Counter) Read(ctx context.Context) (uint64, error) {
	return c.use(ctx, (*link).readCounter)
}

// Increment adds one and returns the new value, read in the same turn. When it
// fails, the counter may have been incremented or not: Read tells.
func (c *Counter) Increment(ctx context.Context) (uint64, error) {
	return c.use(ctx, func(l *link, s *counterSession) (uint64, error) {
		if err := l.incrementCounter(s); err != nil {
			return 0, err
		}
		value, err := l.readCounter(s)
		if err != nil {
			return 0, incremented{err}
		}
		return value, nil
	})
}

// incremented is a failure after the counter moved: it must not move again.
type incremented struct{ error }

func (e incremented) Unwrap() error { return e.error }

// use runs an operation in the counter's session. A refusal may mean that a
// resource manager lost the session, so it is tried once more in a new one;
// what the TPM refuses, it has not done.
func (c *Counter) use(ctx context.Context, operation func(*link, *counterSession) (uint64, error)) (uint64, error) {
	var value uint64
	err := c.tpm.do(ctx, func(l *link) (err error) {
		if l.conn.counting != nil && l.conn.counting.counter == c {
			value, err = operation(l, l.conn.counting)
			var refused *CommandError
			if !errors.As(err, &refused) || errors.As(err, &incremented{}) || l.ctx.Err() != nil {
				return err
			}
		}
		session, err := l.openCounterSession(c)
		if err != nil {
			return err
		}
		value, err = operation(l, session)
		return explainCounter(err)
	})
	if err != nil {
		return 0, err
	}
	return value, nil
}
