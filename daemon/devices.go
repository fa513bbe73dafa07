package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/tpm"
)

// devices are the TPM and the token, opened; the token's user is logged in.
type devices struct {
	tpm   *tpm.TPM
	token *hsm.Token
	info  hsm.Info
	chip  tpm.Info
}

// openDevices opens the TPM and then the token, which is not logged in yet.
func openDevices(ctx context.Context, c *config.Config) (_ *devices, err error) {
	d := &devices{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.tpm, err = tpm.Open(ctx, tpm.Config{Device: c.TPM.Device, Timeout: time.Duration(c.TPM.Timeout)}); err != nil {
		return d, fmt.Errorf("TPM %s: %w", c.TPM.Device, err)
	}
	if d.chip, err = d.tpm.Info(ctx); err != nil {
		return d, fmt.Errorf("TPM %s: %w", c.TPM.Device, err)
	}
	if d.token, err = hsm.Open(ctx, tokenConfig(c.Token)); err != nil {
		return d, fmt.Errorf("token: %w", err)
	}
	if d.info, err = d.token.Info(ctx); err != nil {
		return d, fmt.Errorf("token: %w", err)
	}
	return d, nil
}

func tokenConfig(c config.Token) hsm.Config {
	return hsm.Config{Module: c.Module, Label: c.Label, Serial: c.Serial,
		Sessions: c.Sessions, Keepers: c.Keepers, CallTimeout: time.Duration(c.Timeout)}
}

func (d *devices) close() error {
	var errs []error
	if d.token != nil {
		errs = append(errs, d.token.Close())
	}
	if d.tpm != nil {
		errs = append(errs, d.tpm.Close())
	}
	return errors.Join(errs...)
}

// softHSM is the manufacturer that SoftHSM's C_GetTokenInfo gives.
const softHSM = "SoftHSM project"

// custody says where the keys of a token are in the clear: a software token's
// are in the memory of the process that loads the module.
func custody(c config.Token, i hsm.Info) seal.Custody {
	if c.Software || i.Manufacturer == softHSM {
		return seal.CustodySoftwareToken
	}
	return seal.CustodyToken
}

// authority gives who approves the TPM's measured states, and what was approved.
func (i *installation) authority() (tpm.Authority, []tpm.Approval, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), i.PolicyKey)
	if err != nil {
		return tpm.Authority{}, nil, ErrInstallation
	}
	encoded := slices.Clone(i.Approvals)
	for _, p := range i.Predicted {
		encoded = append(encoded, p.Approval)
	}
	approvals := make([]tpm.Approval, len(encoded))
	for n, data := range encoded {
		if err := approvals[n].UnmarshalBinary(data); err != nil {
			return tpm.Authority{}, nil, ErrInstallation
		}
	}
	return tpm.Authority{Key: key, Installation: i.ID}, approvals, nil
}
