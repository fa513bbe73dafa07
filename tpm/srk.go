package tpm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// storageKey is the loaded storage root key, the parent of our objects and the
// key that sessions are salted to.
type storageKey struct {
	handle tpm2.TPMHandle
	public tpm2.TPMTPublic
	name   tpm2.TPM2BName
}

const (
	nonceSize      = 16  // bytes; Part 1, section 19.6.3 asks for at least that
	sessionKeyBits = 128 // AES-CFB parameter encryption
)

// createSRK makes the ECC P-256 storage root key of the TCG's provisioning
// guidance. The primary seed decides it: the same key every time, until
// TPM2_Clear. The Name is computed here, from the public area that sessions are
// going to be salted to; the TPM's own word for it is only compared.
func (l *link) createSRK() (storageKey, error) {
	response, err := execute(l, "TPM2_CreatePrimary", tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner,
		InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
	})
	if err != nil {
		return storageKey{}, explainOwnerAuth(err)
	}
	key, err := checkSRK(response)
	if err != nil {
		return storageKey{}, l.conn.fail(fmt.Errorf("TPM2_CreatePrimary: %w", err))
	}
	return key, nil
}

var errSRKTemplate = errors.New("the storage root key is not of the requested kind")

func checkSRK(response *tpm2.CreatePrimaryResponse) (storageKey, error) {
	public, err := response.OutPublic.Contents()
	if err != nil {
		return storageKey{}, err
	}
	expected := tpm2.ECCSRKTemplate
	expected.Unique = public.Unique
	if !bytes.Equal(tpm2.Marshal(expected), response.OutPublic.Bytes()) {
		return storageKey{}, errSRKTemplate
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return storageKey{}, err
	}
	if !bytes.Equal(name.Buffer, response.Name.Buffer) {
		return storageKey{}, errSRKTemplate
	}
	return storageKey{handle: response.ObjectHandle, public: *public, name: *name}, nil
}

func explainOwnerAuth(err error) error {
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return fmt.Errorf("the owner hierarchy has a password; clear it (tpm2_changeauth -c owner): %w", err)
	}
	return err
}

// salted adds the salt to a session's options.
func (l *link) salted(options ...tpm2.AuthOption) []tpm2.AuthOption {
	return append(options, tpm2.Salted(l.conn.srk.handle, l.conn.srk.public))
}

// oneShot is a salted HMAC session for a single command. The TPM opens it just
// before the command and closes it with it.
func (l *link) oneShot(options ...tpm2.AuthOption) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, l.salted(options...)...)
}

// authorizedSRK is the storage root key as the authorising handle of a command.
func (l *link) authorizedSRK(options ...tpm2.AuthOption) tpm2.AuthHandle {
	return tpm2.AuthHandle{
		Handle: l.conn.srk.handle, Name: l.conn.srk.name, Auth: l.oneShot(options...),
	}
}

// owner is the owner hierarchy as the authorising handle of a command.
func (l *link) owner(options ...tpm2.AuthOption) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: l.oneShot(options...)}
}
