package daemon

import (
	"context"

	"github.com/sigild/sigild/daemon/seal"
)

// Reloadable are the keys that SIGHUP changes.
var Reloadable = reloadable

// MixHostKey makes the value of a TPM host key.
var MixHostKey = mixHostKey

// LoginMark is the mark of a log-in.
func LoginMark(state byte, id seal.ID, pin []byte) []byte {
	m := newMark(state, id, pin)
	return m[:]
}

// MarkOfGiven is the mark of a PIN that is given in place of a refused one.
func MarkOfGiven(refused []byte, state byte, id seal.ID, pin []byte) []byte {
	return (&loginMarks{id: id}).withGiven(refused, state, pin)
}

// InstallationDocument is a decoded one.
type InstallationDocument struct {
	installation *installation
	document     *document
}

// DecodeInstallation parses an installation document.
func DecodeInstallation(data []byte) (*InstallationDocument, error) {
	i, d, err := decodeInstallation(data)
	return &InstallationDocument{i, d}, err
}

// ID is the installation's.
func (d *InstallationDocument) ID() seal.ID { return d.installation.ID }

// Encode gives the document's bytes with a MAC, or without one where mac is nil.
func (d *InstallationDocument) Encode(ctx context.Context, mac seal.MAC) ([]byte, error) {
	return encodeInstallation(ctx, d.installation, macFunc(mac))
}

// Verify checks the MAC.
func (d *InstallationDocument) Verify(ctx context.Context, mac seal.MAC) error {
	return d.document.verify(ctx, macFunc(mac))
}

// KeysDigest is what the guard root holds of the token's keys.
func (d *InstallationDocument) KeysDigest() []byte { return d.installation.keysDigest() }

// CounterAuthorisation is that of the TPM's counters.
func CounterAuthorisation(ctx context.Context, mac seal.MAC, installation seal.ID, anchorID []byte) ([]byte, error) {
	a := anchor{ID: anchorID}
	return a.auth(ctx, macFunc(mac), installation)
}
