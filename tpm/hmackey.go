package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon/wipe"
)

// Sizes of the HMAC key.
const (
	HMACKeySize    = 32   // bytes of the key's value
	MaxHMACMessage = 1024 // bytes; MAX_DIGEST_BUFFER of the PC client profile
)

// HMACKey is a key that the TPM computes HMAC-SHA256 with while the platform is
// in an approved state. It does not hold a slot of the TPM for itself: of
// several keys the one used last is loaded.
type HMACKey struct {
	tpm       *TPM
	blob      Blob
	template  tpm2.TPMTPublic
	authority Authority
	approvals []Approval
	closed    atomic.Bool
}

// residentKey is the HMAC key that is loaded in the TPM at present, with its
// policy session. It dies with the connection.
type residentKey struct {
	key     *HMACKey
	object  tpm2.NamedHandle
	session tpm2.Session
	state   *approvedState
}

// CreateHMACKey imports a key's value, HMACKeySize bytes, under the storage root
// key and the authority's policy: fixedTPM, fixedParent, sign only, no authValue,
// not subject to the dictionary-attack lock-out. It does not keep value; the
// caller wipes it. The TPM never gives it out again. The platform need not be in
// an approved state.
func (t *TPM) CreateHMACKey(ctx context.Context, value []byte, authority Authority) (Blob, error) {
	if len(value) != HMACKeySize {
		return Blob{}, invalid("an HMAC key of %d bytes; it has %d", len(value), HMACKeySize)
	}
	return t.createUnder(ctx, value, authority, hmacTemplate)
}

// LoadHMACKey loads a key that CreateHMACKey made, and fails unless it could be
// used right now. The approvals are those known now; load the key again to use
// newer ones. Errors are those of Unseal.
func (t *TPM) LoadHMACKey(ctx context.Context, blob Blob, authority Authority, approvals []Approval) (*HMACKey, error) {
	key, err := t.HMACKey(blob, authority, approvals)
	if err != nil {
		return nil, err
	}
	if err := key.Check(ctx); err != nil {
		return nil, err
	}
	return key, nil
}

// HMACKey returns a key that CreateHMACKey made without talking to the TPM. Its
// first use, or Check, loads it.
func (t *TPM) HMACKey(blob Blob, authority Authority, approvals []Approval) (*HMACKey, error) {
	policy, err := authority.authPolicy()
	if err != nil {
		return nil, err
	}
	key := &HMACKey{
		tpm: t, blob: blob, template: hmacTemplate(policy), authority: authority, approvals: slices.Clone(approvals),
	}
	if _, err := checkObject(blob, key.template); err != nil {
		return nil, err
	}
	return key, nil
}

// Check loads the key and fails unless it can be used right now. Errors are
// those of Unseal.
func (k *HMACKey) Check(ctx context.Context) error {
	return k.tpm.do(ctx, func(l *link) error {
		if k.closed.Load() {
			return ErrClosed
		}
		resident, err := l.residentKey(k)
		if err != nil {
			return err
		}
		return l.rehearse(resident)
	})
}

// HMAC is HMACInto for a result that is not secret.
func (k *HMACKey) HMAC(ctx context.Context, message []byte) (mac [32]byte, err error) {
	err = k.HMACInto(ctx, message, &mac)
	return mac, err
}

// HMACInto computes HMAC-SHA256 over a message of at most MaxHMACMessage bytes.
// Message and result cross the bus encrypted. It returns a *PCRMismatchError
// when the platform has left the approved states. mac is the caller's to wipe, and
// stays as it was after an error; no other copy is left.
func (k *HMACKey) HMACInto(ctx context.Context, message []byte, mac *[32]byte) error {
	if len(message) > MaxHMACMessage {
		return invalid("a message of %d bytes; at most %d are possible", len(message), MaxHMACMessage)
	}
	return k.tpm.do(ctx, func(l *link) error {
		if k.closed.Load() {
			return ErrClosed
		}
		return l.hmacTwice(k, message, mac)
	})
}

// Close takes the key out of the TPM. Later calls of HMAC return ErrClosed.
func (k *HMACKey) Close() error {
	if k.closed.Swap(true) {
		return nil
	}
	err := k.tpm.do(context.Background(), func(l *link) error {
		if l.conn.resident != nil && l.conn.resident.key == k {
			l.evictKey()
		}
		return nil
	})
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrClosed) {
		return nil // it went with its connection
	}
	return err
}

// hmacTwice tries once with what is loaded. A refusal may mean that a resource
// manager lost the session or that the PCRs moved on to another approved state,
// so it tries once more from the start, and that refusal counts.
func (l *link) hmacTwice(k *HMACKey, message []byte, mac *[32]byte) error {
	if l.conn.resident != nil && l.conn.resident.key == k {
		err := l.hmac(l.conn.resident, message, mac)
		var refused *CommandError
		if !errors.As(err, &refused) || l.ctx.Err() != nil {
			return err
		}
	}
	resident, err := l.residentKey(k)
	if err != nil {
		return err
	}
	return l.hmac(resident, message, mac)
}

// hmac computes with the loaded key. After a failure the session's digest is
// not known any more, so key and session go.
func (l *link) hmac(resident *residentKey, message []byte, mac *[32]byte) (err error) {
	defer func() {
		if err != nil {
			l.evictKey()
		}
	}()
	if err := l.satisfy(resident.session, resident.state); err != nil {
		return err
	}
	const name = "TPM2_HMAC"
	first, rest, err := l.exchange(secretCommand{
		name: name, code: tpm2.TPMCCHMAC,
		handles: []tpm2.NamedHandle{resident.object}, session: resident.session,
		secret: message, hasTPM2B: true,
		rest: binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMAlgSHA256)),
	})
	if err != nil {
		return err
	}
	defer clear(first)
	if len(first) != len(mac) || len(rest) != 0 {
		return l.conn.fail(fmt.Errorf("%s: a result of %d bytes", name, len(first)))
	}
	wipe.Do(func() { copy(mac[:], first) })
	return nil
}

// residentKey loads a key afresh, in place of the one that is loaded now.
func (l *link) residentKey(k *HMACKey) (*residentKey, error) {
	l.evictKey()
	state, err := l.approvedNow(k.authority, k.approvals)
	if err != nil {
		return nil, err
	}
	object, err := l.load(k.blob, k.template)
	if err != nil {
		return nil, err
	}
	session, err := l.policySession(tpm2.AESEncryption(sessionKeyBits, tpm2.EncryptInOut))
	if err != nil {
		l.discard(object.Handle)
		return nil, err
	}
	l.conn.resident = &residentKey{key: k, object: object, session: session, state: state}
	return l.conn.resident, nil
}

// rehearse uses the key on a message that means nothing, so that a key that
// does not work is found when it is loaded. The labelled messages that callers
// use never are empty.
func (l *link) rehearse(resident *residentKey) error {
	var mac [32]byte
	defer clear(mac[:])
	return l.hmac(resident, nil, &mac)
}

// evictKey frees the loaded key and its session.
func (l *link) evictKey() {
	resident := l.conn.resident
	if resident == nil {
		return
	}
	l.conn.resident = nil
	l.discard(resident.session.Handle())
	l.discard(resident.object.Handle)
}
