package tpm

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// NV indexes are 0x01000000 to 0x01ffffff (Part 2, section 7.2). The TCG's
// registry of reserved handles leaves 0x01800000 to 0x01bfffff to owners.
const (
	firstNVIndex = 0x01000000
	lastNVIndex  = 0x01ffffff
	counterSize  = 8 // bytes, big-endian
)

// Sizes of a counter's authorisation.
const (
	minCounterAuth = 16
	maxCounterAuth = 64
)

func checkNVIndex(handle uint32) error {
	if handle < firstNVIndex || handle > lastNVIndex {
		return invalid("%#x is not an NV index", handle)
	}
	return nil
}

// newCounter describes a counter as it is once it was written.
func (t *TPM) newCounter(handle uint32, orderly bool, auth []byte) (*Counter, error) {
	if err := checkNVIndex(handle); err != nil {
		return nil, err
	}
	if len(auth) < minCounterAuth || len(auth) > maxCounterAuth {
		return nil, invalid("an authorisation of %d bytes; it has %d to %d", len(auth), minCounterAuth, maxCounterAuth)
	}
	public := counterPublic(handle, orderly)
	public.Attributes.Written = true
	name, err := tpm2.NVName(&public)
	if err != nil {
		return nil, err
	}
	return &Counter{tpm: t, public: public, name: *name, auth: counterAuthValue(auth)}, nil
}

// counterPublic is the public area at the definition.
func counterPublic(handle uint32, orderly bool) tpm2.TPMSNVPublic {
	return tpm2.TPMSNVPublic{
		NVIndex: tpm2.TPMHandle(handle),
		NameAlg: tpm2.TPMAlgSHA256,
		Attributes: tpm2.TPMANV{
			NT: tpm2.TPMNTCounter, AuthRead: true, AuthWrite: true, NoDA: true, Orderly: orderly,
		},
		DataSize: counterSize,
	}
}

// isCounter reports whether DefineCounter made an index, written or not.
func isCounter(public *tpm2.TPMSNVPublic) bool {
	expected := counterPublic(uint32(public.NVIndex), public.Attributes.Orderly)
	expected.Attributes.Written = public.Attributes.Written
	return bytes.Equal(tpm2.Marshal(expected), tpm2.Marshal(*public))
}

// counterAuthValue makes the authValue of an index. It contains no zero byte: a
// TPM drops trailing zeros before it uses an authValue (Part 1, section 19.6.5),
// and go-tpm v0.9.8 cuts it at the first zero wherever that is.
func counterAuthValue(auth []byte) []byte {
	mac := hmac.New(sha256.New, auth)
	mac.Write([]byte("sigild/nv-auth/v1"))
	sum := mac.Sum(nil)
	defer clear(sum)
	return hex.AppendEncode(nil, sum[:16])
}

// compare checks what is defined at the handle against what was pinned.
func (c *Counter) compare(public *tpm2.TPMSNVPublic, pinned []byte) error {
	if !bytes.Equal(tpm2.Marshal(*public), tpm2.Marshal(c.public)) {
		return ErrCounterChanged
	}
	if subtle.ConstantTimeCompare(pinned, c.name.Buffer) != 1 {
		return ErrCounterChanged
	}
	return nil
}

func (c *Counter) index() tpm2.NamedHandle {
	return tpm2.NamedHandle{Handle: c.public.NVIndex, Name: c.name}
}

// defineCounter defines the index. Its authValue goes to the TPM encrypted.
func (l *link) defineCounter(c *Counter) error {
	public := counterPublic(c.Handle(), c.Orderly())
	_, err := execute(l, "TPM2_NV_DefineSpace", tpm2.NVDefineSpace{
		AuthHandle: l.owner(tpm2.AESEncryption(sessionKeyBits, tpm2.EncryptIn)),
		Auth:       tpm2.TPM2BAuth{Buffer: c.auth},
		PublicInfo: tpm2.New2B(public),
	})
	if errors.Is(err, tpm2.TPMRCNVDefined) {
		return fmt.Errorf("%w: %w", ErrCounterExists, err)
	}
	return explainOwnerAuth(err)
}

// firstIncrement writes the index for the first time, while its Name is still
// the one without the written bit.
func (l *link) firstIncrement(c *Counter) error {
	public := counterPublic(c.Handle(), c.Orderly())
	name, err := tpm2.NVName(&public)
	if err != nil {
		return err
	}
	session := l.oneShot(tpm2.Auth(c.auth))
	_, err = execute(l, "TPM2_NV_Increment", tpm2.NVIncrement{
		AuthHandle: tpm2.AuthHandle{Handle: public.NVIndex, Name: *name, Auth: session},
		NVIndex:    tpm2.NamedHandle{Handle: public.NVIndex, Name: *name},
	})
	return err
}

// readNVPublic reads what is defined at the handle. The answer is unauthenticated.
func (l *link) readNVPublic(handle uint32) (*tpm2.TPMSNVPublic, error) {
	const name = "TPM2_NV_ReadPublic"
	response, err := execute(l, name, tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(handle)})
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, fmt.Errorf("%w: %#x: %w", ErrCounterMissing, handle, err)
	}
	if err != nil {
		return nil, err
	}
	public, err := response.NVPublic.Contents()
	if err != nil {
		return nil, l.conn.fail(fmt.Errorf("%s: %w", name, err))
	}
	if uint32(public.NVIndex) != handle {
		return nil, l.conn.fail(fmt.Errorf("%s: answer about %#x instead of %#x", name, public.NVIndex, handle))
	}
	return public, nil
}

// openCounterSession opens a session for the counter in place of the one that
// is open now. It is kept: opening one costs the TPM an ECDH.
func (l *link) openCounterSession(c *Counter) (*counterSession, error) {
	l.evictCounter()
	session, _, err := tpm2.HMACSession(l, tpm2.TPMAlgSHA256, nonceSize, l.salted(tpm2.Auth(c.auth))...)
	if err != nil {
		return nil, l.fault("TPM2_StartAuthSession", err)
	}
	l.conn.counting = &counterSession{counter: c, session: session}
	return l.conn.counting, nil
}

// evictCounter frees the counter session that is open.
func (l *link) evictCounter() {
	counting := l.conn.counting
	if counting == nil {
		return
	}
	l.conn.counting = nil
	l.discard(counting.session.Handle())
}

func (l *link) incrementCounter(s *counterSession) error {
	_, err := execute(l, "TPM2_NV_Increment", tpm2.NVIncrement{
		AuthHandle: s.authorized(), NVIndex: s.counter.index(),
	})
	return err
}

func (l *link) readCounter(s *counterSession) (uint64, error) {
	const name = "TPM2_NV_Read"
	response, err := execute(l, name, tpm2.NVRead{
		AuthHandle: s.authorized(), NVIndex: s.counter.index(), Size: counterSize,
	})
	if err != nil {
		return 0, err
	}
	if len(response.Data.Buffer) != counterSize {
		return 0, l.conn.fail(fmt.Errorf("%s: %d bytes instead of %d", name, len(response.Data.Buffer), counterSize))
	}
	return binary.BigEndian.Uint64(response.Data.Buffer), nil
}

func (s *counterSession) authorized() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: s.counter.public.NVIndex, Name: s.counter.name, Auth: s.session}
}

// explainCounter recognises a wrong authValue, which is also what the TPM says
// when the index has another Name than the command was authorised for.
func explainCounter(err error) error {
	switch {
	case errors.Is(err, tpm2.TPMRCBadAuth), errors.Is(err, tpm2.TPMRCAuthFail):
		return fmt.Errorf("%w, or another index: %w", ErrCounterAuth, err)
	case errors.Is(err, tpm2.TPMRCHandle):
		return fmt.Errorf("%w: %w", ErrCounterMissing, err)
	}
	return err
}
