package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// conn is one connection and everything that lives in the TPM because of it.
// It is used under TPM.turn only.
type conn struct {
	wire    wire
	managed bool // behind a resource manager
	timeout time.Duration
	broken  error // why it may not be used any more; nil while it works

	srk      storageKey
	resident *residentKey    // the HMAC key that is loaded now, if any
	counting *counterSession // the counter session that is open now, if any
}

// fail ends the connection. The handles go with it: a resource manager drops
// them at the close, and elsewhere the next connection flushes them.
func (c *conn) fail(cause error) error {
	if c.broken == nil {
		c.broken = unavailable(cause)
		c.wire.close()
	}
	return c.broken
}

// settle turns the result of a sequence of commands into what its caller gets.
func (c *conn) settle(err error) error {
	if c.broken != nil {
		return c.broken
	}
	if losesHandles(err) || outOfSessions(err) {
		return c.fail(err)
	}
	return err
}

// release flushes everything that was loaded and closes the connection.
func (c *conn) release() error {
	if c.broken != nil {
		return nil
	}
	l := &link{ctx: context.Background(), conn: c}
	l.evictCounter()
	l.evictKey()
	err := l.flush(c.srk.handle)
	if c.broken == nil {
		c.wire.close()
		c.broken = ErrClosed
	}
	return err
}

// link is a connection during one sequence of commands, on behalf of one
// caller. It is the transport.TPM that go-tpm's commands run on.
type link struct {
	ctx  context.Context // bounds the waits between attempts, not a command under way
	conn *conn
}

// Pauses before a command that the TPM asked to repeat is sent again.
const (
	firstPause = 2 * time.Millisecond
	maxPause   = 250 * time.Millisecond
)

// Send implements transport.TPM. It repeats a command that the TPM did not
// start, until the time-out or the end of the caller's context; then the
// TPM's last answer is the result. Sessions stay in step: their nonces roll
// only with a successful command (Part 1, section 19.6.3).
func (l *link) Send(command []byte) ([]byte, error) {
	giveUp := time.Now().Add(l.conn.timeout)
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		response, err := l.sendOnce(command)
		if err != nil {
			return nil, err
		}
		if !wantsRepeat(response) || time.Now().Add(pause).After(giveUp) || !l.pause(pause) {
			return response, nil
		}
	}
}

func (l *link) sendOnce(command []byte) ([]byte, error) {
	if l.conn.broken != nil {
		return nil, l.conn.broken
	}
	response, err := l.conn.wire.exchange(command, time.Now().Add(l.conn.timeout))
	if err != nil {
		return nil, l.conn.fail(err)
	}
	return response, nil
}

// pause waits and reports whether the caller's context is still alive.
func (l *link) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// wantsRepeat reports whether the response asks for the same command again.
func wantsRepeat(response []byte) bool { return repeats(responseCode(response)) }

// repeats reports whether the TPM did not start, or did not finish, a command
// that it will take again (Part 2, section 6.6.3).
func repeats(code tpm2.TPMRC) bool {
	switch code {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate:
		return true
	}
	return false
}

// responseCode reads the code of a response that readResponse accepted.
func responseCode(response []byte) tpm2.TPMRC {
	return tpm2.TPMRC(binary.BigEndian.Uint32(response[6:headerSize]))
}

// execute runs one command. Its error is a *CommandError when the TPM refused,
// and ErrUnavailable in every other case: a response that does not parse or
// whose HMAC is wrong leaves nothing to build on.
func execute[R any](l *link, name string, command tpm2.Command[R, *R], sessions ...tpm2.Session) (*R, error) {
	response, err := command.Execute(l, sessions...)
	if err == nil {
		return response, nil
	}
	return nil, l.fault(name, err)
}

// fault sorts an error of one command into refusal and loss.
func (l *link) fault(name string, err error) error {
	if l.conn.broken != nil {
		return l.conn.broken
	}
	if refused, ok := commandError(name, err); ok {
		return l.orCanceled(refused)
	}
	return l.conn.fail(fmt.Errorf("%s: %w", name, err))
}

// orCanceled says that the caller's context ended when that, and not the TPM,
// is why a command was not repeated again.
func (l *link) orCanceled(refused *CommandError) error {
	err := l.ctx.Err()
	if err == nil || !repeats(tpm2.TPMRC(refused.Code)) {
		return refused
	}
	return fmt.Errorf("%w (last answer: %w)", err, refused)
}

// flush frees a transient object or a session. A handle that the TPM does not
// know is already free.
func (l *link) flush(handle tpm2.TPMHandle) error {
	_, err := execute(l, "TPM2_FlushContext", tpm2.FlushContext{FlushHandle: handle})
	if errors.Is(err, tpm2.TPMRCHandle) || losesHandles(err) {
		return nil
	}
	return err
}

// discard is flush for a place that has nobody to tell: an object that cannot
// be freed would fill one of the TPM's few slots, so the connection ends.
// The end of the caller's context does not cut its repetitions short.
func (l *link) discard(handle tpm2.TPMHandle) {
	cleanup := &link{ctx: context.WithoutCancel(l.ctx), conn: l.conn}
	if err := cleanup.flush(handle); err != nil && l.conn.broken == nil {
		_ = l.conn.fail(err)
	}
}

// flushStale frees what a program that was killed left in a TPM without a
// resource manager. Part 2, section 7.2 gives the handle ranges.
func (l *link) flushStale() error {
	for _, first := range []uint32{uint32(tpm2.TPMHTTransient) << 24, uint32(tpm2.TPMHTHMACSession) << 24} {
		handles, err := l.handles(first)
		if err != nil {
			return err
		}
		for _, handle := range handles {
			if err := l.flush(handle); err != nil {
				return err
			}
		}
	}
	return nil
}

// handles lists the handles of one range.
func (l *link) handles(first uint32) ([]tpm2.TPMHandle, error) {
	const most = 64 // more than any TPM holds
	response, err := execute(l, "TPM2_GetCapability", tpm2.GetCapability{
		Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: most,
	})
	if err != nil {
		return nil, err
	}
	list, err := response.CapabilityData.Data.Handles()
	if err != nil {
		return nil, l.conn.fail(fmt.Errorf("TPM2_GetCapability: %w", err))
	}
	return list.Handle, nil
}
