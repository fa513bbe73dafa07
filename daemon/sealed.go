package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/sigild/sigild/daemon/channel"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

// Bounds of the PIN channel: how many uids may use all of their live blocks, and
// the bytes of answers of one and of all that are kept for a relay that lost them.
const (
	fullUIDs          = 4
	answerBytesPerUID = 8 << 20
	answerBytes       = 64 << 20
)

// errPlainPIN is returned for a PIN in the clear from a peer that the
// configuration does not let send one.
var errPlainPIN = errors.New("this peer must seal its PINs")

func newReceiver(installation seal.ID, sign channel.Signer, blocks int) *channel.Receiver {
	return channel.NewReceiver(channel.Config{Installation: channel.ID(installation), Sign: sign,
		Now: time.Now, PerUID: blocks, Total: fullUIDs * blocks, AnswerBytesPerUID: answerBytesPerUID, AnswerBytes: answerBytes})
}

// pinKey announces the key to seal PINs to.
func (d *Daemon) pinKey(ctx context.Context, _ *call[ipc.PinKeyParams]) (*ipc.PinKeyResult, error) {
	a, err := d.receiver.Announce(ctx)
	if err != nil {
		return nil, err
	}
	r := &ipc.PinKeyResult{Suite: a.Suite, Time: ipc.At(time.Now()), Statement: a.Text, Signature: a.Signature}
	return r, errors.Join(
		r.KeyID.UnmarshalText([]byte(a.KeyID)), r.PublicKey.UnmarshalText([]byte(a.PublicKey)),
		r.Installation.UnmarshalText([]byte(a.Installation)),
		r.NotBefore.UnmarshalText([]byte(a.NotBefore)), r.NotAfter.UnmarshalText([]byte(a.NotAfter)))
}

// plainPIN says whether a peer may send PINs in the clear.
func (d *Daemon) plainPIN(uid uint32) bool {
	return slices.Contains(ownAndRoot(d.settings().PIN.PlainFrom), uid)
}

// pinFields are the fields of a parameter struct that deal with PINs and keys;
// nil where it has none.
type pinFields struct {
	pin, newPIN, key *ipc.Secret
	sealed           **ipc.SealedPIN
	only             bool // they come sealed or not at all
}

func pinFieldsOf(params any) pinFields {
	var f pinFields
	v := reflect.ValueOf(params).Elem()
	for n := range v.NumField() {
		switch p := v.Field(n).Addr().Interface().(type) {
		case *ipc.Secret:
			f.add(v.Type().Field(n), p)
		case **ipc.SealedPIN:
			f.sealed = p
		}
	}
	return f
}

func (f *pinFields) add(field reflect.StructField, p *ipc.Secret) {
	_, only := field.Tag.Lookup("sealed")
	f.only = f.only || only
	switch field.Name {
	case "NewPIN":
		f.newPIN = p
	case "Key":
		f.key = p
	default:
		f.pin = p
	}
}

func (f pinFields) plain() bool {
	return f.pin != nil && *f.pin != nil || f.newPIN != nil && *f.newPIN != nil
}

// openPINs puts the PINs of a sealed block into the parameters. It gives nil
// for a request without a block, after it checked that a PIN in the clear may
// come from this peer.
func (d *Daemon) openPINs(peer wallet.Peer, q channel.Request, params any, raw json.RawMessage) (*channel.Use, error) {
	f := pinFieldsOf(params)
	if f.sealed == nil || *f.sealed == nil {
		if f.only {
			return nil, ipc.InvalidParams("sealedPin", "the member is missing: here the PIN travels sealed only, whoever asks")
		}
		if f.plain() && !d.plainPIN(peer.UID) {
			return nil, errPlainPIN
		}
		return nil, nil
	}
	if f.plain() {
		return nil, ipc.InvalidParams("sealedPin", "stands in place of pin and newPin, not beside them")
	}
	if err := channel.CheckNumbers(raw); err != nil {
		return nil, ipc.InvalidParams("", err.Error())
	}
	s := *f.sealed
	use, pins, err := d.receiver.Open(sender(peer, q.Method, params), q, &channel.Block{KeyID: s.KeyID, Enc: s.Enc,
		Ciphertext: s.Ciphertext, Expires: s.Expires.Unix()}, exactDigest(q.Method, raw))
	if err != nil || use.Again {
		return use, err
	}
	return use, f.fill(pins)
}

// fill puts what a block carries into the fields, all or nothing.
func (f pinFields) fill(pins *channel.PINs) error {
	problem := ""
	switch {
	case f.newPIN == nil && pins.New != nil:
		problem = "carries a new PIN, which this method does not take"
	case f.key == nil && pins.Key != nil:
		problem = "carries a private key, which this method does not take"
	case f.key != nil && pins.Key == nil:
		problem = "carries no private key"
	}
	if problem != "" {
		pins.Wipe()
		return ipc.InvalidParams("sealedPin", problem)
	}
	*f.pin = pins.PIN
	if f.newPIN != nil {
		*f.newPIN = pins.New
	}
	if f.key != nil {
		*f.key = pins.Key
	}
	return nil
}

// sender is the peer that a repetition must come from. An unlock that ends with
// its connection is repeated on that connection only.
func sender(peer wallet.Peer, method string, params any) channel.Peer {
	p := channel.Peer{UID: peer.UID}
	if u, ok := params.(*ipc.UnlockParams); ok && method == ipc.MethodUnlock && u.Bind != "uid" {
		p.Connection = peer.Connection
	}
	return p
}

// exactDigest tells byte-identical requests from others.
func exactDigest(method string, raw json.RawMessage) [32]byte {
	sum := sha256.Sum256(raw)
	return sha256.Sum256(append(sum[:], method...))
}

// answerSealed runs a request with a sealed PIN to its end, also when the peer
// hangs up: whoever asks again, byte by byte, gets the answer of the first run.
func (d *Daemon) answerSealed(ctx context.Context, use *channel.Use, run func(context.Context) (any, error)) (any, error) {
	if use.Again {
		answer, err := use.Wait(ctx)
		var public *ipc.Error
		if err != nil && !errors.As(err, &public) { // not what the first run got
			err = wireError(err)
		}
		return json.RawMessage(answer), err
	}
	var answer json.RawMessage
	failure := error(channel.ErrUsed) // if run panics
	defer func() { use.Finish(answer, failure) }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(d.config.Limits.RequestTimeout))
	defer cancel()
	defer context.AfterFunc(d.hard, cancel)()
	answer, failure = proveAnswer(use, run, ctx)
	return answer, failure
}

func proveAnswer(use *channel.Use, run func(context.Context) (any, error), ctx context.Context) (json.RawMessage, error) {
	result, err := run(ctx)
	if err != nil {
		return nil, proveFailure(use, err)
	}
	text, err := json.Marshal(result)
	if err != nil {
		return nil, proveFailure(use, err)
	}
	answer, err := use.Prove(channel.Result, text)
	if err != nil {
		return nil, proveFailure(use, err)
	}
	return answer, nil
}

// proveFailure gives the error that the caller gets for err, with its proof.
// What no table names is "internal" here already, since it needs one too.
func proveFailure(use *channel.Use, err error) error {
	var public *ipc.Error
	if !errors.As(err, &public) {
		public = &ipc.Error{Code: ipc.CodeInternal, Reason: ipc.ReasonInternal, Message: "internal error"}
	}
	proven, proofErr := public.WithProof(func(data []byte) ([]byte, error) { return use.Prove(channel.Failure, data) })
	if proofErr != nil {
		return fmt.Errorf("%w: %w", err, proofErr)
	}
	return fmt.Errorf("%w: %w", proven, err)
}

// sealedFailures are the rows of the table of errors that are about the channel.
func sealedFailures() []failure {
	return []failure{
		{ipc.ReasonPlainPINRefused, ipc.CodeUnauthorized, errPlainPIN, "this peer must seal its PINs to the daemon's key (sigild_pinKey)", true, false},
		{ipc.ReasonPinKeyUnknown, ipc.CodeInvalidParams, channel.ErrKeyUnknown, "the PIN was sealed to a key that the daemon does not have any more: fetch sigild_pinKey and seal it again", true, false},
		{ipc.ReasonSealedPINExpired, ipc.CodeInvalidParams, channel.ErrExpired, "the sealed PIN has expired", true, false},
		{ipc.ReasonSealedPINExpired, ipc.CodeInvalidParams, channel.ErrExpiry, "the sealed PIN expires more than 120 seconds ahead: compare the clocks", true, false},
		{ipc.ReasonSealedPINUsed, ipc.CodeInvalidParams, channel.ErrUsed, "this sealed PIN was used before; its answer is not kept", true, false},
		{ipc.ReasonSealedPINInvalid, ipc.CodeInvalidParams, channel.ErrSealed, "the sealed PIN does not open for this request: it was sealed for another one", true, false},
		{ipc.ReasonOverloaded, ipc.CodeLimitExceeded, channel.ErrQuota, "too many sealed PINs are in use", true, true},
	}
}
