package hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"
)

// Skipped is a key that was not made.
type Skipped struct {
	Purpose Purpose
	Reason  string
}

// KeysReport says what EnsureKeys did.
type KeysReport struct {
	Created     []Purpose
	Kept        []Purpose  // were there already, and are as they must be
	Skipped     []Skipped  // WrapTransit, on a token without AES-GCM
	Weaknesses  []Weakness // optional attributes that the token does not take
	Enforcement string     // see Keys.Enforcement
	Proofs      []Proof    // what the enforcement was judged by
}

// EnsureKeys makes the long-lived keys of an installation and generation that
// are not on the token yet, and checks those that are. mech is the wrap
// mechanism, from NegotiateWrap; the wrap keys allow no other.
//
// It may be run again after an interruption: it goes on where it stopped. A
// duplicate (ErrKeyDuplicate), half a pair (ErrKeyMissing) or a key that is not
// as it must be (ErrKeyAttributes) stops it, since only people can know which
// object is the right one. It never deletes a long-lived key.
func (t *Token) EnsureKeys(ctx context.Context, installation [16]byte, generation uint32, mech uint) (KeysReport, error) {
	var report KeysReport
	if !slices.Contains(wrapMechanisms(), mech) {
		return report, fmt.Errorf("%w: 0x%x is not an allowed wrap mechanism", ErrNoWrapMechanism, mech)
	}
	o := owner{installation, generation}
	for _, p := range Purposes() {
		if err := t.ensureKey(ctx, o, p, mech, &report); err != nil {
			return report, err
		}
	}
	keys, err := t.OpenKeys(ctx, installation, generation, mech)
	if err != nil {
		return report, err
	}
	report.Enforcement, report.Proofs = keys.enforcement, keys.proofs
	report.Weaknesses = keys.weaknesses
	return report, nil
}

// ensureKey looks for one key and makes it when it is missing.
func (t *Token) ensureKey(ctx context.Context, o owner, p Purpose, mech uint, report *KeysReport) error {
	if !t.loggedIn.Load() {
		return ErrNotLoggedIn
	}
	spec, _ := specOf(p)
	created, err := do(ctx, t.keepers, "ensure the key "+p.String(), work[bool]{
		once: true,
		run:  func(s *session) (bool, error) { return s.ensure(o, spec, mech) },
	})
	switch {
	case errors.Is(err, errNoMechanism):
		report.Skipped = append(report.Skipped, Skipped{p, err.Error()})
		return nil
	case err != nil:
		return err
	case created:
		report.Created = append(report.Created, p)
	default:
		report.Kept = append(report.Kept, p)
	}
	return nil
}

// errNoMechanism says that a key is of no use on this token.
var errNoMechanism = errors.New("hsm: the token has no AES-GCM")

// ensure reports whether it made the key.
func (s *session) ensure(o owner, spec keySpec, mech uint) (bool, error) {
	l, err := s.locate(o, spec)
	if err == nil {
		_, err = s.inspect(&l, spec, mech)
		return false, err
	}
	if !absent(l, err) {
		return false, err
	}
	if spec.kind == transitKind {
		if err := s.hasGCM(); err != nil {
			return false, err
		}
	}
	return true, s.make(o, spec, mech)
}

func (s *session) hasGCM() error {
	list, err := s.pool.token.mechanisms()
	if err != nil {
		return err
	}
	if !slices.Contains(list, pkcs11.CKM_AES_GCM) {
		return errNoMechanism
	}
	return nil
}

// make generates a long-lived key with as many of the optional attributes as
// the token takes.
func (s *session) make(o owner, spec keySpec, mech uint) error {
	id, name := o.id(spec.purpose), label(spec.purpose, o.generation)
	full := spec.secretHalf(mech).named(id, name)
	if spec.kind == wrapKind {
		var inner template
		err := s.scratch(func(x *session) (err error) { inner, err = x.bestUnwrapTemplate(spec, mech); return err })
		if err != nil {
			return fmt.Errorf("hsm: the key %v: %w", spec.purpose, err)
		}
		if inner != nil {
			full = append(full, nested(pkcs11.CKA_UNWRAP_TEMPLATE, inner))
		}
	}
	_, err := climb(full.ladder(), func(d drop) (err error) {
		if spec.isPair() {
			public := spec.publicHalf().named(id, name).dropping(d)
			_, err = s.native().generateKeyPair(s.handle, spec.generation(), public, full.dropping(d))
		} else {
			_, err = s.native().generateKey(s.handle, spec.generation(), full.dropping(d))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("hsm: make the key %v: %w", spec.purpose, err)
	}
	return nil
}

// bestUnwrapTemplate finds the fullest CKA_UNWRAP_TEMPLATE with which a key
// still comes back, on throw-away wrap keys: some tokens take a template that
// nothing can be unwrapped with afterwards. SoftHSM 2.6.1 is one: it takes
// CKA_MODIFIABLE=false there and then cannot set the attributes of what it
// unwraps. It returns nil when the token takes none.
func (s *session) bestUnwrapTemplate(spec keySpec, mech uint) (template, error) {
	sm, err := s.newSample(spec.subject)
	if err != nil {
		return nil, err
	}
	for _, inner := range spec.subject.enforced(spec.exportable) {
		err = s.tryUnwrapTemplate(spec, mech, sm, inner)
		if err == nil {
			return inner, s.destroy(sm.handle)
		}
		if !refusedTemplate(err) {
			break
		}
	}
	return nil, errors.Join(err, s.destroy(sm.handle))
}

func (s *session) tryUnwrapTemplate(spec keySpec, mech uint, sm sample, inner template) error {
	key, err := s.sessionWrapKey(mech, inner)
	if err != nil {
		return err
	}
	_, _, err = s.roundTrip(mech, key, sm, spec.subject.object(spec.exportable))
	return errors.Join(err, s.destroy(key))
}
