package tpm

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"
)

// DefaultTimeout is how long one command may take unless Config says otherwise.
const DefaultTimeout = 10 * time.Second

// Config says which TPM to use.
type Config struct {
	// Device is the absolute path of a character device (use the one behind
	// the kernel's resource manager, /dev/tpmrm0) or of the Unix socket of an
	// emulator such as swtpm. A socket has no resource manager: whoever opens
	// it is taken for its only user, and Open frees what others left loaded.
	Device string

	// Timeout bounds one command, its repetitions at the TPM's own request
	// included. Zero means DefaultTimeout; negative is an error.
	Timeout time.Duration
}

// TPM is an open TPM 2.0.
type TPM struct {
	device  string
	timeout time.Duration
	srkName []byte // fixed by Open

	turn    chan struct{} // holds one element while a sequence of commands runs
	conn    *conn         // guarded by turn
	refused error         // guarded by turn: why this TPM may not be used at all
	closed  bool          // guarded by turn
}

// Open connects to the TPM and makes its storage root key. It needs an owner
// hierarchy with an empty authValue, as it is after TPM2_Clear. The context
// bounds the waits in between, Config.Timeout each command.
func Open(ctx context.Context, config Config) (*TPM, error) {
	if config.Timeout < 0 {
		return nil, invalid("negative time-out %s", config.Timeout)
	}
	if config.Timeout == 0 {
		config.Timeout = DefaultTimeout
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := &TPM{device: config.Device, timeout: config.Timeout, turn: make(chan struct{}, 1)}
	c, err := t.connect(ctx)
	if err != nil {
		return nil, err
	}
	t.conn, t.srkName = c, bytes.Clone(c.srk.name.Buffer)
	return t, nil
}

// Attach returns the TPM with the storage root key of the given name (see
// SRKName) without talking to it: every call returns ErrUnavailable until Reopen
// succeeds, which may be tried as often as one likes. A daemon that starts while
// its TPM is away begins with this.
func Attach(config Config, srkName []byte) (*TPM, error) {
	if config.Timeout < 0 {
		return nil, invalid("negative time-out %s", config.Timeout)
	}
	if config.Timeout == 0 {
		config.Timeout = DefaultTimeout
	}
	unopened := &conn{broken: unavailable(errors.New("not opened yet"))}
	return &TPM{device: config.Device, timeout: config.Timeout, turn: make(chan struct{}, 1),
		conn: unopened, srkName: bytes.Clone(srkName)}, nil
}

// connect dials the device and makes the storage root key on it.
func (t *TPM) connect(ctx context.Context) (*conn, error) {
	w, managed, err := dialWire(t.device)
	if err != nil {
		return nil, err
	}
	c := &conn{wire: w, managed: managed, timeout: t.timeout}
	if err := c.settle(c.prepare(&link{ctx: ctx, conn: c})); err != nil {
		if c.broken == nil {
			_ = c.fail(err)
		}
		return nil, fmt.Errorf("%s: %w", t.device, err)
	}
	return c, nil
}

func (c *conn) prepare(l *link) error {
	if !c.managed {
		if err := l.flushStale(); err != nil {
			return err
		}
	}
	key, err := l.createSRK()
	if err != nil {
		return err
	}
	c.srk = key
	return nil
}

// Close flushes everything that was loaded and closes the connection, after
// the sequence of commands that runs now. A second call does nothing.
func (t *TPM) Close() error {
	t.turn <- struct{}{}
	defer t.yield()
	if t.closed {
		return nil
	}
	t.closed = true
	return t.conn.release()
}

// Reopen replaces the connection, whether it works or not. Counters and loaded
// HMAC keys stay valid: they load themselves again when they are next used.
// It returns ErrSRKChanged, and the TPM stays unusable, when another TPM
// answers than the one that Open found. It may be repeated until it succeeds.
func (t *TPM) Reopen(ctx context.Context) error {
	if err := t.await(ctx); err != nil {
		return err
	}
	defer t.yield()
	if err := t.permitted(); err != nil {
		return err
	}
	_ = t.conn.release() // what cannot be flushed goes with the connection
	c, err := t.connect(ctx)
	if err != nil {
		t.conn.broken = unavailable(err)
		return err
	}
	t.conn = c
	return t.compareSRK(c.srk.name.Buffer)
}

// SRKName returns the TPM Name of the storage root key: TPM_ALG_SHA256 as two
// bytes, big-endian, and the SHA-256 of its public area; 34 bytes (Part 1,
// section 16). Store it when the installation is provisioned.
func (t *TPM) SRKName() []byte { return bytes.Clone(t.srkName) }

// PinSRK compares the storage root key with the one of the provisioning. Until
// it returned nil, nothing proves that the other end is the chip. When the names
// differ it returns ErrSRKChanged, and so does every later call.
func (t *TPM) PinSRK(name []byte) error {
	t.turn <- struct{}{}
	defer t.yield()
	return t.compareSRK(name)
}

func (t *TPM) compareSRK(name []byte) error {
	if subtle.ConstantTimeCompare(t.srkName, name) == 1 {
		return nil
	}
	t.refused = ErrSRKChanged
	return ErrSRKChanged
}

// do runs one sequence of commands when it is the caller's turn.
func (t *TPM) do(ctx context.Context, sequence func(*link) error) error {
	if err := t.await(ctx); err != nil {
		return err
	}
	defer t.yield()
	if err := t.permitted(); err != nil {
		return err
	}
	return t.conn.settle(sequence(&link{ctx: ctx, conn: t.conn}))
}

// await waits for the caller's turn.
func (t *TPM) await(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case t.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *TPM) yield() { <-t.turn }

// permitted reports why the TPM must not be used, whatever its connection does.
func (t *TPM) permitted() error {
	if t.closed {
		return ErrClosed
	}
	return t.refused
}
