package hsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"
)

// State is the outcome for one ability.
type State string

// The states of an ability.
const (
	Available State = "ok"
	Missing   State = "missing" // the token does not do it, or does not enforce it
	Failed    State = "error"   // the token failed while it was tried
)

// Ability is one thing that a token can do, or not.
type Ability struct {
	Name   string
	State  State
	Detail string // the token's answer, or what was found
}

// ProbeReport says what a token can do.
type ProbeReport struct {
	Info      Info
	Abilities []Ability
}

// mechanismAbility is an ability that the mechanism list promises.
type mechanismAbility struct {
	name string
	mech uint
}

// Mechanisms of Ed25519 (PKCS#11 v3.0 section 2.3.5).
const (
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEDDSA               = 0x1057
	ckkECEdwards           = 0x40
)

// listed are the mechanisms that matter.
func listed() []mechanismAbility {
	return []mechanismAbility{
		{"EC key pairs", pkcs11.CKM_EC_KEY_PAIR_GEN},
		{"ECDSA", pkcs11.CKM_ECDSA},
		{"generic secret keys", pkcs11.CKM_GENERIC_SECRET_KEY_GEN},
		{"HMAC-SHA256", pkcs11.CKM_SHA256_HMAC},
		{"HMAC-SHA512", pkcs11.CKM_SHA512_HMAC},
		{"AES keys", pkcs11.CKM_AES_KEY_GEN},
		{"key wrap (KWP)", ckmAESKeyWrapKWP},
		{"key wrap (PAD)", ckmAESKeyWrapPAD},
		{"key wrap (PKCS7)", ckmAESKeyWrapPKCS7},
		{"key wrap (CloudHSM)", ckmCloudHSMZeroPad},
		{"AES-GCM", pkcs11.CKM_AES_GCM},
		{"Ed25519 key pairs", ckmECEdwardsKeyPairGen},
		{"EdDSA", ckmEDDSA},
	}
}

// ProbeToken finds out what a token can do, by trying it with session objects
// only, and leaves nothing behind. It opens and closes the token itself. Without
// a PIN it does not log in and only reads the mechanism list. With one it logs
// in once; a refusal is an error.
func ProbeToken(ctx context.Context, cfg Config, pin []byte) (report ProbeReport, err error) {
	t, err := Open(ctx, cfg)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if report.Info, err = t.Info(ctx); err != nil {
		return report, err
	}
	if err = t.probeMechanisms(ctx, &report); err != nil || len(pin) == 0 {
		return report, err
	}
	if err = t.Login(ctx, pin); err != nil {
		return report, err
	}
	for _, trial := range trials() {
		if err = t.try(ctx, &report, trial); err != nil {
			return report, err
		}
	}
	return report, t.probeWrapping(ctx, &report)
}

func (t *Token) probeMechanisms(ctx context.Context, report *ProbeReport) error {
	type facts struct {
		list []uint
		info pkcs11.TokenInfo
	}
	got, err := do(ctx, t.signing, "read the mechanism list", work[facts]{
		bare: true,
		run: func(*session) (facts, error) {
			list, err := t.mechanisms()
			if err != nil {
				return facts{}, err
			}
			info, err := t.module.GetTokenInfo(t.slot)
			return facts{list, info}, fromModule("C_GetTokenInfo", err)
		},
	})
	if err != nil {
		return err
	}
	for _, m := range listed() {
		a := Ability{"mechanism: " + m.name, Missing, fmt.Sprintf("0x%x", m.mech)}
		if slices.Contains(got.list, m.mech) {
			a.State = Available
		}
		report.Abilities = append(report.Abilities, a)
	}
	report.Abilities = append(report.Abilities, sessionsAbility(got.info))
	return nil
}

func sessionsAbility(info pkcs11.TokenInfo) Ability {
	limit := fmt.Sprint(info.MaxSessionCount)
	switch info.MaxSessionCount {
	case pkcs11.CK_EFFECTIVELY_INFINITE:
		limit = "no limit"
	case pkcs11.CK_UNAVAILABLE_INFORMATION:
		limit = "limit not told"
	}
	return Ability{"sessions", Available, limit}
}

// trial is one ability that is tried on a session of its own.
type trial struct {
	name string
	run  func(*session) error
}

// errNotEnforced is what a trial returns when the token allows what it should
// refuse.
var errNotEnforced = errors.New("the token allows it")

// try runs a trial. Only an error that ends all further trials is returned.
func (t *Token) try(ctx context.Context, report *ProbeReport, trial trial) error {
	_, err := do(ctx, t.keepers, trial.name, work[struct{}]{
		run: func(s *session) (struct{}, error) { return struct{}{}, s.scratch(trial.run) },
	})
	report.Abilities = append(report.Abilities, ability(trial.name, err))
	if class := classOf(err); class > FindKeys || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return ctx.Err()
}

func ability(name string, err error) Ability {
	switch {
	case err == nil:
		return Ability{name, Available, ""}
	case errors.Is(err, ErrUnsupported), errors.Is(err, errNotEnforced), errors.Is(err, errNoMechanism),
		errors.Is(err, ErrNoWrapMechanism), codeOf(err) == pkcs11.CKR_KEY_NOT_WRAPPABLE:
		return Ability{name, Missing, err.Error()}
	}
	return Ability{name, Failed, err.Error()}
}

func trials() []trial {
	return []trial{
		{"random bytes", func(s *session) error { return s.native().random(s.handle, make([]byte, 32)) }},
		{"seed the generator", (*session).trySeed},
		{"secp256k1 session pair and raw ECDSA", func(s *session) error { return s.trySubject(privateKey) }},
		{"generic secret import and HMAC-SHA512", func(s *session) error { return s.trySubject(secretKey) }},
		{"HMAC-SHA256", (*session).tryMAC},
		{"P-256 session pair and ECDSA", (*session).tryP256},
		{"AES-GCM", (*session).tryGCM},
		{"CKA_ALLOWED_MECHANISMS enforced", (*session).tryAllowed},
		{"CKA_COPYABLE=false enforced", (*session).tryCopy},
		{"CKA_MODIFIABLE=false enforced", (*session).tryModify},
		{"Ed25519 generate", (*session).tryEd25519},
		{"Ed25519 import", (*session).tryEd25519Import},
		{"Ed25519 wrap", (*session).tryEd25519Wrap},
	}
}

func (s *session) trySeed() error {
	seed := newSecret([]byte("sigild probe: no entropy, harmless"))
	defer seed.free()
	return s.native().seed(s.handle, seed)
}

// trySubject makes a key and checks what it computes.
func (s *session) trySubject(sub subject) error {
	sm, err := s.newSample(sub)
	if err != nil {
		return err
	}
	return s.recognise(sub, sm.handle, sm.proof)
}

// sessionKey makes the key of a purpose as a session object, with the fullest
// template that the token takes.
func (s *session) sessionKey(p Purpose) (key longLived, err error) {
	spec, _ := specOf(p)
	private := spec.secretHalf(ckmAESKeyWrapPAD).with(boolean(pkcs11.CKA_TOKEN, false))
	public := spec.publicHalf().with(boolean(pkcs11.CKA_TOKEN, false))
	_, err = climb(private.ladder(), func(d drop) error {
		if !spec.isPair() {
			key.secret, err = s.native().generateKey(s.handle, spec.generation(), private.dropping(d))
			return err
		}
		p, err := s.native().generateKeyPair(s.handle, spec.generation(), public.dropping(d), private.dropping(d))
		key.public, key.secret = p.public, p.private
		return err
	})
	if err == nil && spec.isPair() {
		key.point, err = s.point(key.public)
	}
	return key, err
}

func (s *session) tryMAC() error {
	key, err := s.sessionKey(Record)
	if err != nil {
		return err
	}
	var out [32]byte
	return s.sign(pkcs11.CKM_SHA256_HMAC, key.secret, []byte(sampleLabel), out[:])
}

func (s *session) tryP256() error {
	key, err := s.sessionKey(Identity)
	if err != nil {
		return err
	}
	return s.proveP256(key)
}

func (s *session) tryGCM() error {
	key, err := s.sessionKey(WrapTransit)
	if err != nil {
		return err
	}
	c, err := s.transitCanary(key.secret)
	if err != nil {
		return err
	}
	text, err := s.gcm(false, key.secret, c.first, c.second)
	if err == nil && !bytes.Equal(text, []byte(fingerprintLabel)) {
		return fmt.Errorf("hsm: AES-GCM does not decrypt what it encrypted: %w", ErrTokenAnswer)
	}
	return err
}

// tryAllowed uses a key with a mechanism that it does not allow.
func (s *session) tryAllowed() error {
	key, err := s.sessionKey(Record)
	if err != nil {
		return err
	}
	var out [64]byte
	return mustRefuse(s.sign(pkcs11.CKM_SHA512_HMAC, key.secret, []byte(sampleLabel), out[:]))
}

func (s *session) tryCopy() error {
	key, err := s.sessionKey(Record)
	if err != nil {
		return err
	}
	_, err = s.module().CopyObject(s.handle, key.secret, template{boolean(pkcs11.CKA_TOKEN, false)}.plain())
	return mustRefuse(fromModule("C_CopyObject", err))
}

func (s *session) tryModify() error {
	key, err := s.sessionKey(Record)
	if err != nil {
		return err
	}
	err = s.module().SetAttributeValue(s.handle, key.secret, template{boolean(pkcs11.CKA_DERIVE, true)}.plain())
	return mustRefuse(fromModule("C_SetAttributeValue", err))
}

// mustRefuse turns success into errNotEnforced and a refusal into success.
func mustRefuse(err error) error {
	if err == nil {
		return errNotEnforced
	}
	if classOf(err) != GiveUp {
		return err
	}
	return nil
}
