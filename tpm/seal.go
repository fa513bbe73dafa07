package tpm

import (
	"context"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon/wipe"
)

// MaxSealed is the largest number of bytes that Seal takes: what every TPM has
// room for (Part 2, MAX_SYM_DATA).
const MaxSealed = 128

// Seal encrypts data, 1 to MaxSealed bytes, under the storage root key and the
// authority's policy. It does not keep data; the caller wipes it. The TPM need
// not be in an approved state.
func (t *TPM) Seal(ctx context.Context, data []byte, authority Authority) (Blob, error) {
	if len(data) < 1 || len(data) > MaxSealed {
		return Blob{}, invalid("%d bytes to seal; 1 to %d are possible", len(data), MaxSealed)
	}
	return t.createUnder(ctx, data, authority, sealTemplate)
}

// createUnder makes an object of one of our kinds under the authority's policy.
func (t *TPM) createUnder(ctx context.Context, content []byte, authority Authority,
	template func([32]byte) tpm2.TPMTPublic) (Blob, error) {
	policy, err := authority.authPolicy()
	if err != nil {
		return Blob{}, err
	}
	var blob Blob
	err = t.do(ctx, func(l *link) (err error) {
		blob, err = l.create(content, template(policy))
		return err
	})
	return blob, err
}

// Unseal gives sealed data back when the platform is in a state that one of the
// approvals names. The data crosses the bus encrypted; the caller wipes it.
//
// Errors: ErrObjectPolicy and ErrObjectType for a blob that Seal did not make
// for this authority, ErrObjectForeign when it does not belong to this TPM,
// *PCRMismatchError when no approval matches, ErrApproval when there is none
// with a valid signature.
func (t *TPM) Unseal(ctx context.Context, blob Blob, authority Authority, approvals []Approval) ([]byte, error) {
	policy, err := authority.authPolicy()
	if err != nil {
		return nil, err
	}
	template := sealTemplate(policy)
	if _, err := checkObject(blob, template); err != nil {
		return nil, err
	}
	var data []byte
	err = t.do(ctx, func(l *link) (err error) {
		data, err = l.unseal(blob, template, authority, approvals)
		return err
	})
	if err != nil {
		clear(data)
		return nil, err
	}
	return data, nil
}

func (l *link) unseal(blob Blob, template tpm2.TPMTPublic, authority Authority, approvals []Approval) ([]byte, error) {
	state, err := l.approvedNow(authority, approvals)
	if err != nil {
		return nil, err
	}
	object, err := l.load(blob, template)
	if err != nil {
		return nil, err
	}
	defer l.discard(object.Handle)
	session, err := l.policySession(tpm2.AESEncryption(sessionKeyBits, tpm2.EncryptOut))
	if err != nil {
		return nil, err
	}
	defer l.discard(session.Handle())
	if err := l.satisfy(session, state); err != nil {
		return nil, err
	}
	first, _, err := l.exchange(secretCommand{
		name: "TPM2_Unseal", code: tpm2.TPMCCUnseal,
		handles: []tpm2.NamedHandle{object}, session: session,
	})
	if err != nil {
		return nil, err
	}
	defer clear(first)
	data := make([]byte, len(first))
	wipe.Do(func() { copy(data, first) })
	return data, nil
}
