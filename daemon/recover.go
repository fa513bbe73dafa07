package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/tpm"
)

// ErrRecoveryCode is returned when the recovery code does not open this
// installation's host key.
var ErrRecoveryCode = errors.New("this is not the recovery code of this installation, or it was replaced since")

// errOtherPIN is returned for a recovery code that is to be replaced while the
// token has another user PIN than the TPM keeps and the code protects.
var errOtherPIN = errors.New("the token has another user PIN than the one that the TPM keeps and the recovery code protects: " +
	"run `sigild recover` first, which takes the new one, and replace the code then")

// RecoverOptions are what a recovery asks of and tells its operator.
type RecoverOptions struct {
	// AskCode gets the recovery code or, one after the other, shares of it.
	AskCode Prompt
	// AskAgain, when it is set, is told of a mistyped, repeated or foreign part,
	// and then AskCode is asked for it again; else that is an error.
	AskAgain func(err error)
	// Ask gets the token's user PIN where neither code nor configuration give it,
	// or the token refused the one that the code gives.
	Ask Prompt
	// GivenPIN says that Ask gives a PIN without a person being asked. It goes
	// before the one that the code protects.
	GivenPIN bool
	// Progress gets one line a step.
	Progress func(line string)
	// WeakPIN accepts a PIN of Ask that is visibly under 128 bits, as at provisioning.
	WeakPIN bool
	// NewTPM accepts another TPM, or one that was cleared, in the place of the
	// provisioned one.
	NewTPM bool
	// ShowCode, when it is set, replaces the recovery code instead of binding
	// anything anew: it shows the new code, itself or as the shares that Split
	// asks for. The new code is valid once it returned nil.
	ShowCode ShowCode
	Split    Split
}

// recovery is a maintenance that the recovery code authorises.
type recovery struct {
	*maintenance
	options RecoverOptions
	profile tpm.Profile
	code    []byte
	hosts   []*seal.HostSecret // of doc.HostKeys, in order
	pin     []byte             // the token's user PIN
	marks   *loginMarks
	instead bool // pin is given in place of one that was refused
	newTPM  bool // it is another than the provisioned one
}

// Recover binds the TPM host key and the token's sealed PIN anew, to the host's
// present measured state, with the recovery code: after an update of firmware
// or kernel that nobody predicted, or on a new TPM. Only the present state is
// approved afterwards, and a new epoch begins. Errors: ErrRecoveryCode,
// seal.ErrRecoveryCode, those of seal.Shares, tpm.ErrSRKChanged without NewTPM;
// nothing was changed.
func Recover(ctx context.Context, c *config.Config, o RecoverOptions) (err error) {
	if err := o.Split.Check(); err != nil {
		return err
	}
	m, err := openMaintenance(ctx, c, o.Progress)
	if err != nil {
		return err
	}
	r := &recovery{maintenance: m, options: o, marks: &loginMarks{db: m.db, id: m.doc.ID}}
	defer func() {
		r.wipe()
		err = errors.Join(err, m.Close())
	}()
	if r.profile, err = tpm.ParseProfile(c.TPM.Profile, c.TPM.PCRs, c.TPM.Force); err != nil {
		return err
	}
	if err := r.checkTPM(); err != nil {
		return err
	}
	if err := r.open(ctx); err != nil {
		return err
	}
	if o.ShowCode != nil {
		return r.replaceCode(ctx)
	}
	if err := r.rebind(ctx); err != nil || !r.instead {
		return err
	}
	return r.marks.clear(ctx) // not before the TPM keeps the new PIN
}

func (r *recovery) wipe() {
	clear(r.code)
	clear(r.pin)
	for _, h := range r.hosts {
		h.Wipe()
	}
}

// checkTPM refuses a TPM that is not the provisioned one, unless the operator
// said that it is another.
func (r *recovery) checkTPM() error {
	r.newTPM = !bytes.Equal(r.devices.tpm.SRKName(), r.doc.SRKName)
	if r.newTPM && !r.options.NewTPM {
		return fmt.Errorf("%w; if the TPM was replaced or cleared on purpose, say so: sigild recover --new-tpm", tpm.ErrSRKChanged)
	}
	return r.devices.tpm.PinSRK(r.devices.tpm.SRKName())
}

// open asks for the code, logs in to the token, and verifies all that was read
// so far.
func (r *recovery) open(ctx context.Context) (err error) {
	if r.code, err = askCode(ctx, r.options.AskCode, r.options.AskAgain); err != nil {
		return err
	}
	for _, h := range r.doc.HostKeys {
		secret, err := seal.OpenHost(r.code, r.doc.ID, h.Number, h.Recovery)
		if errors.Is(err, seal.ErrOpen) {
			return ErrRecoveryCode
		}
		if err != nil {
			return err
		}
		r.hosts = append(r.hosts, secret)
	}
	if len(r.hosts) == 0 {
		return ErrInstallation
	}
	if r.pin, err = r.tokenPIN(ctx); err != nil {
		return fmt.Errorf("token PIN: %w", err)
	}
	if err := r.logIn(ctx); err != nil {
		return err
	}
	return r.openKeys(ctx)
}

func (r *recovery) logIn(ctx context.Context) error {
	if r.instead {
		return r.marks.loginInstead(ctx, r.devices.token, r.pin, r.protectedPIN())
	}
	return r.marks.login(ctx, r.devices.token, r.pin)
}

// protectedPIN is the PIN that the code protects; empty where it knows none.
func (r *recovery) protectedPIN() []byte { return r.hosts[len(r.hosts)-1].TokenPIN }

// tokenPIN is the PIN that the operator gives or the code protects, or else the
// configured source's.
func (r *recovery) tokenPIN(ctx context.Context) ([]byte, error) {
	return tokenPIN(ctx, r.config.Token, pinSources{r.keptPIN, r.options.Ask, true})
}

// keptPIN is the PIN where the TPM is to keep it: the one that the code protects,
// unless the operator gives another. Who changed it on the token is asked for the new
// one after a refusal, whichever PIN was refused: one that nobody asked for must not
// cost the token a try then.
func (r *recovery) keptPIN(ctx context.Context) ([]byte, error) {
	kept := r.protectedPIN()
	if len(kept) == 0 {
		return r.askPIN(ctx, nil)
	}
	refusal, err := r.marks.refusal(ctx, r.devices.token)
	if err != nil {
		return nil, err
	}
	if refusal == nil && !r.options.GivenPIN {
		return bytes.Clone(kept), nil
	}
	if refusal != nil && r.options.ShowCode != nil {
		return nil, errOtherPIN
	}
	return r.otherPIN(ctx, kept, refusal != nil)
}

// otherPIN asks for the PIN in place of the one that the code protects. A code alone
// is not replaced around a new PIN, since the TPM would go on giving the old one.
func (r *recovery) otherPIN(ctx context.Context, kept []byte, refused bool) ([]byte, error) {
	if refused && !r.options.GivenPIN {
		r.say("The token refused a user PIN. If it was changed on the token give the new one; " +
			"if it is the old one after all, `sigild forget-refusal` allows one more try.")
	}
	pin, err := r.askPIN(ctx, kept)
	if err != nil {
		return nil, err
	}
	if r.options.ShowCode != nil && !bytes.Equal(pin, kept) {
		clear(pin)
		return nil, errOtherPIN
	}
	r.instead = refused
	return pin, nil
}

// askPIN gets a PIN for the TPM and the code to keep. It must be as strong as at
// provisioning, but for the one that they keep already.
func (r *recovery) askPIN(ctx context.Context, kept []byte) ([]byte, error) {
	pin, err := r.options.Ask(ctx, pinQuestion)
	if err != nil {
		return nil, err
	}
	return pinOfStrength(pin, r.options.WeakPIN || bytes.Equal(pin, kept))
}

// rebind makes the TPM's objects anew under the present state.
func (r *recovery) rebind(ctx context.Context) error {
	detail := map[string]string{"before": r.doc.approvedText()}
	p := &provisioning{config: r.config, options: ProvisionOptions{Progress: r.progress}, db: r.db,
		devices: r.devices, doc: r.doc, profile: r.profile, keys: r.keys}
	if err := p.approve(ctx); err != nil {
		return err
	}
	r.doc.Predicted = nil
	for n := range r.doc.HostKeys {
		if err := r.bindHost(ctx, p, n); err != nil {
			return fmt.Errorf("TPM host key %d: %w", r.doc.HostKeys[n].Number, err)
		}
	}
	if err := r.bindPIN(ctx, p); err != nil {
		return err
	}
	if err := r.sealSecrets(r.code); err != nil {
		return err
	}
	detail["after"] = r.doc.approvedText()
	return r.finish(ctx, detail)
}

// finish writes down what was bound, and begins the epoch.
func (r *recovery) finish(ctx context.Context, detail map[string]string) error {
	next, err := r.nextEpoch(ctx, r.newTPM)
	if err != nil {
		return err
	}
	for _, note := range next.notes {
		r.say("%s", note)
	}
	if len(next.notes) > 0 {
		detail["database"] = strings.Join(next.notes, "; ")
	}
	if next.begin == nil {
		return r.commit(ctx, "recover", detail)
	}
	detail["epoch"] = strconv.FormatUint(next.number, 10)
	if err := r.commit(ctx, "recover", detail); err != nil {
		return err
	}
	if err := next.begin(ctx); err != nil {
		return fmt.Errorf("what was bound is in force; PINs are refused until `sigild check --accept`: %w", err)
	}
	r.say("epoch %d", next.number)
	return nil
}

// bindHost gives the TPM the value of one host key and sees that it uses it.
func (r *recovery) bindHost(ctx context.Context, p *provisioning, n int) error {
	authority, approvals, err := r.doc.authority()
	if err != nil {
		return err
	}
	blob, err := r.devices.tpm.CreateHMACKey(ctx, r.hosts[n].Host, authority)
	if err != nil {
		return err
	}
	if err := p.checkHost(ctx, blob, authority, approvals, r.hosts[n].Host); err != nil {
		return err
	}
	r.doc.HostKeys[n].Blob, err = blob.MarshalBinary()
	return err
}

// bindPIN seals the token's PIN where the configuration has the TPM keep it.
func (r *recovery) bindPIN(ctx context.Context, p *provisioning) error {
	r.doc.TokenPIN = nil
	if kind, _ := r.config.Token.PINSource(); kind != "tpm" {
		return nil
	}
	authority, _, err := r.doc.authority()
	if err != nil {
		return err
	}
	return p.sealPIN(ctx, authority, r.pin)
}

// sealSecrets encrypts the host keys' values, and the PIN where the TPM keeps
// it, under a recovery code.
func (r *recovery) sealSecrets(code []byte) error {
	for n, h := range r.hosts {
		secret := seal.HostSecret{Host: h.Host}
		if len(r.doc.TokenPIN) > 0 {
			secret.TokenPIN = r.pin
		}
		blob, err := seal.SealHost(code, r.doc.ID, r.doc.HostKeys[n].Number, &secret)
		if err != nil {
			return err
		}
		r.doc.HostKeys[n].Recovery = blob
	}
	return nil
}

// replaceCode puts a new recovery code in the place of the one that was given.
// Copies of the database from before still open with the old one.
func (r *recovery) replaceCode(ctx context.Context) error {
	code := seal.NewRecoveryCode()
	defer clear(code)
	if err := r.sealSecrets(code); err != nil {
		return err
	}
	if err := r.options.Split.show(code, r.options.ShowCode); err != nil {
		return fmt.Errorf("the new recovery code was not shown, so the old one stays valid: %w", err)
	}
	return r.commit(ctx, "recoveryCode", nil)
}
