package ipctest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/channel"
	"github.com/sigild/sigild/ipc"
)

// Channel is a daemon's end of the PIN channel, with an identity key of its own.
type Channel struct {
	// Identity is the public identity key, 65 bytes.
	Identity []byte
	*channel.Receiver
}

// NewChannel makes an installation's end of the channel.
func NewChannel(t testing.TB) *Channel {
	t.Helper()
	identity, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := identity.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	config := channel.Config{Now: time.Now, PerUID: 64, Total: 64, AnswerBytesPerUID: 1 << 20, AnswerBytes: 1 << 20,
		Sign: func(_ context.Context, digest [32]byte) ([]byte, error) {
			return ecdsa.SignASN1(rand.Reader, identity, digest[:])
		}}
	rand.Read(config.Installation[:])
	return &Channel{Identity: public, Receiver: channel.NewReceiver(config)}
}

// PinKey is the handler of sigild_pinKey.
func (c *Channel) PinKey(ctx context.Context, _ json.RawMessage) (any, error) {
	a, err := c.Announce(ctx)
	if err != nil {
		return nil, err
	}
	return ipc.PinKeyResult{Time: ipc.At(time.Now()), Statement: a.Text, Signature: a.Signature}, nil
}

// Open makes a handler that opens a sealed PIN, gives h the parameters with the
// PINs in the clear, and proves its answer. Other requests go to h as they are.
func (c *Channel) Open(method string, h ipc.Handler) ipc.Handler {
	return func(ctx context.Context, params json.RawMessage) (any, error) {
		var list []map[string]json.RawMessage
		if json.Unmarshal(params, &list) != nil || len(list) != 1 || list[0]["sealedPin"] == nil {
			return h(ctx, params)
		}
		peer, _ := ipc.PeerFrom(ctx)
		use, pins, err := c.open(peer, method, list[0], params)
		if err != nil {
			return nil, err
		}
		if use.Again {
			answer, err := use.Wait(ctx)
			return json.RawMessage(answer), err
		}
		result, err := h(ctx, withPINs(params, pins))
		answer, err := prove(use, result, err)
		use.Finish(answer, err)
		return answer, err
	}
}

// withPINs puts the PINs where the client put the sealed ones: last.
func withPINs(params json.RawMessage, p *channel.PINs) json.RawMessage {
	out := bytes.Clone(params[:bytes.LastIndex(params, []byte(`"sealedPin":`))])
	out = fmt.Appendf(out, `"pin":%q`, p.PIN)
	if p.New != nil {
		out = fmt.Appendf(out, `,"newPin":%q`, p.New)
	}
	if p.Key != nil {
		out = fmt.Appendf(out, `,"key":"0x%x"`, p.Key)
	}
	return append(out, "}]"...)
}

func (c *Channel) open(peer ipc.Peer, method string, object map[string]json.RawMessage, params json.RawMessage) (*channel.Use, *channel.PINs, error) {
	var sealed ipc.SealedPIN
	if err := json.Unmarshal(object["sealedPin"], &sealed); err != nil {
		return nil, nil, err
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, nil, err
	}
	digest, err := channel.Digest(text)
	if err != nil {
		return nil, nil, err
	}
	use, pins, err := c.Receiver.Open(channel.Peer{UID: peer.UID}, channel.Request{Method: method, Digest: digest},
		&channel.Block{KeyID: sealed.KeyID, Enc: sealed.Enc, Ciphertext: sealed.Ciphertext, Expires: sealed.Expires.Unix()},
		sha256.Sum256(params))
	if errors.Is(err, channel.ErrKeyUnknown) {
		err = &ipc.Error{Code: ipc.CodeInvalidParams, Reason: ipc.ReasonPinKeyUnknown, Message: err.Error()}
	}
	if errors.Is(err, channel.ErrExpired) || errors.Is(err, channel.ErrExpiry) {
		err = &ipc.Error{Code: ipc.CodeInvalidParams, Reason: ipc.ReasonSealedPINExpired, Message: err.Error()}
	}
	if errors.Is(err, channel.ErrUsed) {
		err = &ipc.Error{Code: ipc.CodeInvalidParams, Reason: ipc.ReasonSealedPINUsed, Message: err.Error()}
	}
	return use, pins, err
}

func prove(use *channel.Use, result any, failure error) (json.RawMessage, error) {
	var known *ipc.Error
	if errors.As(failure, &known) {
		proven, err := known.WithProof(func(data []byte) ([]byte, error) { return use.Prove(channel.Failure, data) })
		if err != nil {
			return nil, err
		}
		return nil, proven
	}
	if failure != nil {
		return nil, failure
	}
	text, err := json.Marshal(result)
	if err != nil {
		return nil, err
	}
	return use.Prove(channel.Result, text)
}
