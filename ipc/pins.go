package ipc

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sigild/sigild/daemon/channel"
)

var (
	// ErrNoIdentity is returned for a request with a PIN when the client has no
	// identity key to seal it under: give Dial the option Identity, or
	// PlainPINs on a socket that leads straight to the daemon. What imports or
	// exports a key needs Identity.
	ErrNoIdentity = errors.New("ipc: no identity key is pinned, and a PIN is not sent in the clear")
	// ErrIdentity is returned when the key to seal PINs to is not signed by the
	// pinned identity key: something between client and daemon put its own in
	// its place, or this is another installation. No PIN was sent.
	ErrIdentity = errors.New("ipc: the daemon's PIN key is not signed by the pinned identity key")
	// ErrProof is returned when the answer to a request with a sealed PIN does
	// not carry the daemon's proof: something between changed or made it. The
	// daemon may or may not have acted on the request.
	ErrProof = errors.New("ipc: the answer does not come from the daemon that the PIN was sealed for")
)

// Reasons of the PIN channel.
const (
	ReasonPinKeyUnknown    = "pinKeyUnknown"
	ReasonSealedPINUsed    = "sealedPinUsed"
	ReasonSealedPINExpired = "sealedPinExpired"
	ReasonSealedPINInvalid = "sealedPinInvalid"
	ReasonPlainPINRefused  = "plainPinRefused"
)

// ReasonsWithoutProof are those that the daemon gives to a request whose sealed
// PIN it has not opened. Everything that it says later is proven; a test holds
// this list, and that of the JavaScript client, against the daemon's table.
func ReasonsWithoutProof() []string {
	return []string{
		ReasonParse, ReasonInvalidRequest, ReasonMethodNotFound, ReasonInvalidParams,
		ReasonTooLarge, ReasonTooDeep, ReasonBatchTooLong, ReasonOverloaded, ReasonPeerNotAllowed,
		ReasonPinKeyUnknown, ReasonSealedPINUsed, ReasonSealedPINExpired, ReasonSealedPINInvalid,
	}
}

// Option changes how a client deals with PINs.
type Option func(*Client) error

// Identity pins the installation's identity key, the uncompressed point of 65
// bytes. The client then seals every PIN to the daemon, and takes no answer
// without proof: what stands between can neither read nor change either.
func Identity(key []byte) Option {
	return func(c *Client) error { return c.PinIdentity(key) }
}

// PinIdentity is Identity for a client that exists. Call it before any request
// with a PIN.
func (c *Client) PinIdentity(key []byte) error {
	identity, err := channel.ParseIdentity(key)
	if err != nil {
		return fmt.Errorf("ipc: identity key: %w", err)
	}
	c.pins.mu.Lock()
	defer c.pins.mu.Unlock()
	c.pins.identity, c.pins.key = identity, nil
	return nil
}

// PlainPINs lets the client send PINs as they are when no identity key is
// pinned. The daemon takes them only from the uids in its configuration.
func PlainPINs() Option {
	return func(c *Client) error {
		c.pins.plain = true
		return nil
	}
}

// pins is the client's end of the PIN channel.
type pins struct {
	identity *ecdsa.PublicKey
	plain    bool

	mu  sync.Mutex
	key *channel.Key // verified; nil: to be fetched
}

// resends is how often a request with a sealed PIN is sent again, byte by byte,
// when the connection broke before its answer: the daemon acts on it once and
// gives the first answer again.
const resends = 3

// prepared is one request ready to be sent.
type prepared struct {
	params []byte
	prover *channel.Prover // nil when no PIN was sealed
	key    channel.ID
}

func (p *prepared) wipe() {
	clear(p.params)
	if p.prover != nil {
		p.prover.Wipe()
	}
}

// prepare encodes parameters, with the PINs in them sealed.
func (c *Client) prepare(ctx context.Context, method string, params any) (*prepared, error) {
	p := &prepared{}
	e := encoder{seal: func(public []byte, secrets []namedSecret) ([]byte, error) {
		return c.seal(ctx, method, public, secrets, p)
	}}
	if c.pins.identity == nil && c.pins.plain {
		e.seal = nil
	}
	var err error
	p.params, err = e.params(params)
	return p, err
}

func (c *Client) seal(ctx context.Context, method string, public []byte, secrets []namedSecret, p *prepared) ([]byte, error) {
	if c.pins.identity == nil {
		return nil, ErrNoIdentity
	}
	key, err := c.pinKey(ctx)
	if err != nil {
		return nil, err
	}
	body, digest, err := sealedBody(public, secrets)
	if err != nil {
		return nil, err
	}
	pins, err := pinsOf(secrets)
	if err != nil {
		return nil, err
	}
	expires := key.Clock(time.Now()).Add(channel.Lifetime)
	block, prover, err := key.Seal(channel.Request{Method: method, Digest: digest}, pins, expires)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrParams, err)
	}
	p.prover, p.key = prover, key.ID
	return addMember(body, "sealedPin", SealedPIN{KeyID: block.KeyID, Enc: block.Enc,
		Ciphertext: block.Ciphertext, Expires: At(time.Unix(block.Expires, 0))})
}

// sealedBody gives the public members, without the word "redacted" that stands
// for required secrets, and the digest that a block is bound to.
func sealedBody(public []byte, secrets []namedSecret) (body []byte, digest [32]byte, err error) {
	if body, err = appendSecrets(public, unset(secrets), 0); err != nil {
		return nil, digest, err
	}
	if err = channel.CheckNumbers(body); err == nil {
		digest, err = channel.Digest(body)
	}
	if err != nil {
		return nil, digest, fmt.Errorf("%w: %v", ErrParams, err)
	}
	return body, digest, nil
}

func unset(secrets []namedSecret) []namedSecret {
	out := make([]namedSecret, len(secrets))
	for n, s := range secrets {
		out[n].name = s.name
	}
	return out
}

// pinsOf takes the PINs, which stay the caller's to wipe.
func pinsOf(secrets []namedSecret) (*channel.PINs, error) {
	var p channel.PINs
	for _, s := range secrets {
		switch s.name {
		case "pin":
			p.PIN = s.value
		case "newPin":
			p.New = s.value
		case "key":
			p.Key = s.value
		default:
			return nil, fmt.Errorf("%w: %s cannot be sealed", ErrParams, s.name)
		}
	}
	return &p, nil
}

// addMember puts one more member into an object of JSON.
func addMember(object []byte, name string, value any) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrParams, err)
	}
	out := append([]byte(nil), object[:len(object)-1]...)
	if len(object) > 2 {
		out = append(out, ',')
	}
	out = append(append(append(out, '"'), name...), `":`...)
	return append(append(out, text...), '}'), nil
}

// PinKey fetches the key that PINs are sealed to. The client does it by itself
// when it needs one, and verifies it.
func (c *Client) PinKey(ctx context.Context) (*PinKeyResult, error) {
	return invoke[PinKeyResult](ctx, c, MethodPinKey, PinKeyParams{})
}

// pinKey gives a verified key that stays valid for as long as a block does.
func (c *Client) pinKey(ctx context.Context) (*channel.Key, error) {
	c.pins.mu.Lock()
	defer c.pins.mu.Unlock()
	if k := c.pins.key; k != nil && k.Clock(time.Now()).Before(k.NotAfter.Add(-channel.MaxLifetime)) {
		return k, nil
	}
	r, err := c.PinKey(ctx)
	if err != nil {
		return nil, err
	}
	k, err := channel.Verify(c.pins.identity, r.Statement, r.Signature, time.Now())
	switch {
	case errors.Is(err, channel.ErrIdentity):
		return nil, ErrIdentity
	case err != nil:
		return nil, fmt.Errorf("ipc: %w", err)
	}
	c.pins.key = k
	return k, nil
}

// forget has the key that was used fetched anew, with the time, before the next PIN
// is sealed.
func (c *Client) forget(used channel.ID) {
	c.pins.mu.Lock()
	defer c.pins.mu.Unlock()
	if c.pins.key != nil && c.pins.key.ID == used {
		c.pins.key = nil
	}
}

// replaced says whether the daemon has another key than the one that was used.
func (c *Client) replaced(ctx context.Context, used channel.ID) bool {
	c.forget(used)
	k, err := c.pinKey(ctx)
	return err == nil && k.ID != used
}

// exchange sends one request with whatever PINs it has, and gives its checked
// result.
func (c *Client) exchange(ctx context.Context, method string, params any) (json.RawMessage, error) {
	p, err := c.prepare(ctx, method, params)
	if err != nil {
		return nil, err
	}
	raw, err := c.deliver(ctx, method, p)
	key := p.key
	p.wipe()
	// The daemon's clock is another one than its signed time said: it was set since,
	// or this host was suspended, when the monotonic clock stands still. The request
	// is not sent again, as nothing proves that it was not carried out.
	if errors.Is(err, &Error{Reason: ReasonSealedPINExpired}) {
		c.forget(key)
		return nil, err
	}
	// A daemon that was started anew has not looked at the block: it cannot
	// open it. The PIN is sealed once more, to its new key. That is not proven either,
	// as two keys are good for a while: an unlock, which gives a right each time it is
	// made, is its caller's to repeat.
	if method == MethodUnlock && errors.Is(err, &Error{Reason: ReasonPinKeyUnknown}) {
		c.forget(key)
		return nil, err
	}
	if !errors.Is(err, &Error{Reason: ReasonPinKeyUnknown}) || !c.replaced(ctx, key) {
		return raw, err
	}
	if p, err = c.prepare(ctx, method, params); err != nil {
		return nil, err
	}
	defer p.wipe()
	return c.deliver(ctx, method, p)
}

func (c *Client) deliver(ctx context.Context, method string, p *prepared) (json.RawMessage, error) {
	raw, err := c.roundTrip(ctx, method, p.params)
	if p.prover == nil {
		return raw, err
	}
	for n := 0; n < resends && errors.Is(err, ErrConnectionLost) && ctx.Err() == nil; n++ {
		raw, err = c.resend(ctx, method, p)
	}
	return proven(p.prover, raw, err)
}

// resend asks for the first answer again. Whatever says that there is none to
// be had leaves the outcome unknown.
func (c *Client) resend(ctx context.Context, method string, p *prepared) (json.RawMessage, error) {
	raw, err := c.roundTrip(ctx, method, p.params)
	var answered *Error
	if err == nil || errors.As(err, &answered) && len(answered.Proof) > 0 {
		return raw, err
	}
	return nil, fmt.Errorf("%w (asked again: %v)", ErrConnectionLost, err)
}

// proven lets nothing pass that the daemon did not prove, but for errors from
// before the block was opened, which say nothing of the wallet. They may be a
// lie: the request may have been carried out.
func proven(prover *channel.Prover, raw json.RawMessage, err error) (json.RawMessage, error) {
	var failed *Error
	switch {
	case err == nil:
		if checkUnique(raw, "") != nil || prover.Check(channel.Result, raw) != nil {
			return nil, ErrProof
		}
		return withoutProof(raw), nil
	case !errors.As(err, &failed):
		return nil, err
	case len(failed.Proof) > 0:
		if checkUnique(failed.raw, "") != nil || prover.Check(channel.Failure, failed.raw) != nil {
			return nil, ErrProof
		}
		failed.Proof, failed.Proven = nil, true
		return nil, err
	case !slices.Contains(ReasonsWithoutProof(), failed.Reason),
		failed.AttemptsLeft != nil, failed.LockedUntil != nil, failed.Charged != nil && *failed.Charged:
		return nil, ErrProof
	}
	return nil, err
}

// withoutProof gives a result as it was before the daemon added proof: nobody
// else can check it.
func withoutProof(raw json.RawMessage) json.RawMessage {
	out := append(make([]byte, 0, len(raw)), '{')
	_ = eachMember(raw, func(key, value []byte) error {
		if string(key) != `"proof"` {
			out = append(append(append(append(out, key...), ':'), value...), ',')
		}
		return nil
	})
	return append(out[:max(len(out)-1, 1)], '}')
}
