package daemon

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/daemon/wipe"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/tpm"
)

// ProvisionOptions are what a provisioning asks of and tells its operator.
type ProvisionOptions struct {
	Ask Prompt
	// Progress gets one line a step.
	Progress func(line string)
	// Split has the recovery code shown as shares of it only.
	Split Split
	// ShowCode shows the recovery code: itself, or its shares. Provisioning is
	// complete only after it returned nil, so that a code that nobody saw never
	// guards anything.
	ShowCode ShowCode
	// WeakPIN accepts a user PIN that is visibly under 128 bits, for tokens
	// that cannot take a longer one.
	WeakPIN bool
}

// minTokenPIN is how many characters hold 128 random bits in base 64.
const minTokenPIN = 22

// Provision makes this host's installation: the token's long-lived keys, the
// TPM's host key and sealed PIN, the recovery code, the database. It can be
// repeated after an interruption; once it was complete it gives ErrProvisioned.
func Provision(ctx context.Context, c *config.Config, o ProvisionOptions) (err error) {
	if err := o.Split.Check(); err != nil {
		return err
	}
	if _, err := protect(); err != nil {
		return err
	}
	if err := checkOwner(c.Store.Path); err != nil {
		return err
	}
	db, err := store.Open(c.Store.Path, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	i, err := begin(ctx, db)
	if err != nil {
		return err
	}
	profile, err := tpm.ParseProfile(c.TPM.Profile, c.TPM.PCRs, c.TPM.Force)
	if err != nil {
		return err
	}
	d, err := openDevices(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	p := &provisioning{config: c, options: o, db: db, devices: d, doc: i, profile: profile}
	return p.run(ctx)
}

// begin finds the interrupted installation, or writes down the id of a new one
// before any key carries it.
func begin(ctx context.Context, db *store.Store) (*installation, error) {
	data, err := db.Get(ctx, store.Installation)
	if err != nil {
		return nil, err
	}
	if data != nil {
		i, _, err := decodeInstallation(data)
		if err != nil {
			return nil, err
		}
		if i.Finished {
			return nil, ErrProvisioned
		}
		return i, nil
	}
	i := &installation{Created: time.Now().Unix()}
	rand.Read(i.ID[:])
	if data, err = encodeInstallation(ctx, i, nil); err != nil {
		return nil, err
	}
	return i, db.Put(ctx, map[store.Document][]byte{store.Installation: data})
}

type provisioning struct {
	config  *config.Config
	options ProvisionOptions
	db      *store.Store
	devices *devices
	doc     *installation
	profile tpm.Profile
	keys    *hsm.Keys
	anchor  *counters
}

func (p *provisioning) run(ctx context.Context) error {
	p.say("installation %x", p.doc.ID)
	p.say("token: %s %s, serial %s", p.devices.info.Manufacturer, p.devices.info.Model, p.devices.info.Serial)
	pin, err := p.tokenPIN(ctx)
	defer clear(pin)
	if err != nil {
		return err
	}
	if err := (&loginMarks{db: p.db, id: p.doc.ID}).login(ctx, p.devices.token, pin); err != nil {
		return err
	}
	if err := p.makeKeys(ctx); err != nil {
		return err
	}
	if err := p.approve(ctx); err != nil {
		return err
	}
	if err := p.makeAnchor(ctx); err != nil {
		return err
	}
	host, err := p.hostValue(ctx)
	defer clear(host)
	if err != nil {
		return err
	}
	if err := p.bind(ctx, host, pin); err != nil {
		return err
	}
	return p.finish(ctx, host, pin)
}

func (p *provisioning) say(format string, args ...any) {
	if p.options.Progress != nil {
		p.options.Progress(fmt.Sprintf(format, args...))
	}
}

// tokenPIN gets the user PIN; the TPM cannot give it yet.
func (p *provisioning) tokenPIN(ctx context.Context) ([]byte, error) {
	ask := func(ctx context.Context) ([]byte, error) { return p.options.Ask(ctx, pinQuestion) }
	pin, err := tokenPIN(ctx, p.config.Token, pinSources{ask, p.options.Ask, true})
	if err != nil {
		return nil, err
	}
	return pinOfStrength(pin, p.options.WeakPIN)
}

// makeKeys makes the token's keys of the first generation, or checks those
// that an interrupted run left, and takes their fingerprints.
func (p *provisioning) makeKeys(ctx context.Context) error {
	mechanism, err := p.devices.token.NegotiateWrap(ctx)
	if err != nil {
		return err
	}
	report, err := p.devices.token.EnsureKeys(ctx, p.doc.ID, 1, mechanism)
	if err != nil {
		return err
	}
	if p.keys, err = p.devices.token.OpenKeys(ctx, p.doc.ID, 1, mechanism); err != nil {
		return err
	}
	p.say("token keys: wrap mechanism %#x, enforcement by %s", mechanism, report.Enforcement)
	g := generation{Number: 1, Mechanism: uint64(mechanism), Enforcement: p.keys.Enforcement()}
	for _, purpose := range hsm.Purposes() {
		if slices.ContainsFunc(report.Skipped, func(s hsm.Skipped) bool { return s.Purpose == purpose }) {
			continue
		}
		value, err := p.keys.MakeFingerprint(ctx, purpose)
		if err != nil {
			return fmt.Errorf("fingerprint of the %s key: %w", purpose, err)
		}
		g.Fingerprints = append(g.Fingerprints, fingerprint{Purpose: uint8(purpose), Value: value})
	}
	slices.SortFunc(g.Fingerprints, func(a, b fingerprint) int { return int(a.Purpose) - int(b.Purpose) })
	p.doc.Generations = []generation{g}
	return nil
}

// approve has the token's policy key sign the present measured state.
func (p *provisioning) approve(ctx context.Context) error {
	key, err := p.keys.Public(hsm.Policy)
	if err != nil {
		return err
	}
	if p.doc.PolicyKey, err = key.Bytes(); err != nil {
		return err
	}
	signer, err := p.keys.Signer(hsm.Policy)
	if err != nil {
		return err
	}
	values, err := p.devices.tpm.ReadPCRs(ctx, p.profile.PCRs())
	if err != nil {
		return err
	}
	if err := checkMeasured(p.profile, values, p.config.TPM.Force); err != nil {
		return err
	}
	a, err := tpm.Approve(signer, p.doc.ID, p.profile, values)
	if err != nil {
		return err
	}
	data, err := a.MarshalBinary()
	if err != nil {
		return err
	}
	p.doc.Approvals = [][]byte{data}
	p.doc.Profile, p.doc.PCRs = p.profile.Name(), p.profile.PCRs()
	p.doc.SRKName = p.devices.tpm.SRKName()
	p.say("TPM: %s, firmware %s, bound to PCRs %s", p.devices.chip.Manufacturer, p.devices.chip.FirmwareVersion, p.profile.PCRs())
	return nil
}

// hostValue makes the host key's value out of the TPM's, the token's and the
// kernel's randomness: HKDF-SHA256 over 32 bytes of each.
func (p *provisioning) hostValue(ctx context.Context) ([]byte, error) {
	chip, err := p.devices.tpm.Random(ctx, 32)
	defer clear(chip)
	if err != nil {
		return nil, err
	}
	module, err := p.devices.token.Random(ctx, 32)
	defer clear(module)
	if err != nil {
		return nil, err
	}
	kernel := make([]byte, 32)
	defer clear(kernel)
	rand.Read(kernel)
	return mixHostKey(kernel, chip, module)
}

func mixHostKey(kernel, chip, token []byte) (host []byte, err error) {
	wipe.Do(func() {
		ikm := slices.Concat(kernel, chip, token)
		defer clear(ikm)
		host, err = hkdf.Key(sha256.New, ikm, nil, "sigild/host-key/v1", 32)
	})
	return host, err
}

// bind gives the TPM the host key and, where the configuration says so, the
// token's user PIN, and sees that it uses both as later starts will.
func (p *provisioning) bind(ctx context.Context, host, pin []byte) error {
	authority, approvals, err := p.doc.authority()
	if err != nil {
		return err
	}
	blob, err := p.devices.tpm.CreateHMACKey(ctx, host, authority)
	if err != nil {
		return err
	}
	if err := p.checkHost(ctx, blob, authority, approvals, host); err != nil {
		return err
	}
	data, err := blob.MarshalBinary()
	if err != nil {
		return err
	}
	p.doc.HostKeys = []hostKey{{Number: 1, Blob: data}}
	if kind, _ := p.config.Token.PINSource(); kind != "tpm" {
		return nil
	}
	return p.sealPIN(ctx, authority, pin)
}

func (p *provisioning) checkHost(ctx context.Context, b tpm.Blob, a tpm.Authority, approvals []tpm.Approval, host []byte) error {
	key, err := p.devices.tpm.LoadHMACKey(ctx, b, a, approvals)
	if err != nil {
		return err
	}
	got, err := key.HMAC(ctx, []byte("sigild/rehearsal"))
	if err = errors.Join(err, key.Close()); err != nil {
		return err
	}
	m := hmac.New(sha256.New, host)
	m.Write([]byte("sigild/rehearsal"))
	if !hmac.Equal(got[:], m.Sum(nil)) {
		return errors.New("the TPM computes a wrong HMAC with the host key")
	}
	return nil
}

func (p *provisioning) sealPIN(ctx context.Context, authority tpm.Authority, pin []byte) error {
	blob, err := p.devices.tpm.Seal(ctx, pin, authority)
	if err != nil {
		return fmt.Errorf("seal the token's PIN: %w", err)
	}
	if p.doc.TokenPIN, err = blob.MarshalBinary(); err != nil {
		return err
	}
	again, err := unsealPIN(p.devices.tpm, p.doc)(ctx)
	defer clear(again)
	if err != nil {
		return err
	}
	if !hmac.Equal(again, pin) {
		return errors.New("the TPM gives another PIN than it sealed")
	}
	return nil
}

// finish shows the recovery code and then writes, in one transaction, what
// makes the installation valid.
func (p *provisioning) finish(ctx context.Context, host, pin []byte) error {
	code := seal.NewRecoveryCode()
	defer clear(code)
	secret := seal.HostSecret{Host: host}
	if len(p.doc.TokenPIN) > 0 {
		secret.TokenPIN = pin
	}
	blob, err := seal.SealHost(code, p.doc.ID, 1, &secret)
	if err != nil {
		return err
	}
	p.doc.HostKeys[0].Recovery = blob
	p.doc.Finished = true
	document, err := encodeInstallation(ctx, p.doc, p.mac)
	if err != nil {
		return err
	}
	root, err := p.root(ctx)
	if err != nil {
		return err
	}
	p.say("recovery code: it comes now; provisioning is complete when it was taken")
	if err := p.options.Split.show(code, p.options.ShowCode); err != nil {
		return fmt.Errorf("the recovery code was not shown, so nothing was completed: %w", err)
	}
	return p.db.Put(ctx, map[store.Document][]byte{store.Installation: document, store.GuardRoot: root})
}

func (p *provisioning) mac(ctx context.Context, m []byte) ([32]byte, error) {
	return p.keys.HMAC(ctx, hsm.Record, m)
}

// root is the guard root of the empty database.
func (p *provisioning) root(ctx context.Context) ([]byte, error) {
	clock, err := p.devices.tpm.Clock(ctx)
	if err != nil {
		return nil, err
	}
	return guard.NewRoot(ctx, p.doc.ID, p.doc.keysDigest(), p.anchor.anchor, p.anchor.unclean, clock.ResetCount, p.mac)
}
