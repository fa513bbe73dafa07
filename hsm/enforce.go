package hsm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// The answers of Keys.Enforcement: who sees to it that an unwrapped key cannot
// leave the token.
const (
	// EnforcedByToken: the token refuses to unwrap a key as not sensitive,
	// extractable, permanent, or of another class, also for a program that has
	// the user PIN and the wrapped key.
	EnforcedByToken = "token"
	// EnforcedInPart: the token refuses some of these.
	EnforcedInPart = "token-partial"
	// EnforcedByDaemon: the token refuses none of these; only the daemon asks for
	// the right attributes.
	EnforcedByDaemon = "daemon"
)

// Proof is one attempt to unwrap a key in a way that must be refused.
type Proof struct {
	Purpose  Purpose
	Attempt  string // as in "CKA_SENSITIVE=false"
	Required bool   // counts for the enforcement; others are reported only
	Refused  bool
	Answer   string // the token's answer
}

// attempt is a template that a wrap key must refuse.
type attempt struct {
	name     string
	required bool
	template template
}

// attempts lists what a thief with the user PIN and a wrapped key would ask for:
// another value, the attribute left to the token's default, and the attribute
// given twice.
func (s subject) attempts(right template) []attempt {
	var out []attempt
	add := func(kind uint, name string, required bool) {
		wrong := flipped(right, kind)
		out = append(out,
			attempt{attributeName(kind) + "=" + name, required, right.with(wrong)},
			attempt{attributeName(kind) + " given twice", required, append(right.with(wrong), boolean(kind, name == "false"))},
			attempt{attributeName(kind) + " given twice, wrong last", required, append(right.without(), wrong)})
	}
	add(pkcs11.CKA_SENSITIVE, "false", true)
	add(pkcs11.CKA_EXTRACTABLE, "true", true)
	add(pkcs11.CKA_TOKEN, "true", true)
	out = append(out,
		attempt{"CKA_SENSITIVE left out", true, right.without(pkcs11.CKA_SENSITIVE)},
		attempt{"CKA_EXTRACTABLE left out", true, right.without(pkcs11.CKA_EXTRACTABLE)},
		attempt{"another CKA_CLASS", true, s.otherClass(right)},
		attempt{"CKA_DERIVE=true", false, right.with(boolean(pkcs11.CKA_DERIVE, true))},
		attempt{"CKA_DECRYPT=true", false, right.with(boolean(pkcs11.CKA_DECRYPT, true))},
		attempt{"CKA_UNWRAP=true", false, right.with(boolean(pkcs11.CKA_UNWRAP, true))})
	if right.has(pkcs11.CKA_COPYABLE) {
		out = append(out, attempt{"CKA_COPYABLE=true", false, right.with(boolean(pkcs11.CKA_COPYABLE, true))})
	}
	if right.has(pkcs11.CKA_ALLOWED_MECHANISMS) {
		out = append(out, attempt{"no CKA_ALLOWED_MECHANISMS", false, right.without(pkcs11.CKA_ALLOWED_MECHANISMS)})
	}
	return out
}

// flipped returns the boolean attribute with its other value.
func flipped(t template, kind uint) attribute {
	for _, a := range t {
		if a.kind == kind && len(a.value) == 1 {
			return boolean(kind, a.value[0] == 0)
		}
	}
	return boolean(kind, true)
}

// other returns the subject of the other class.
func (s subject) other() subject {
	if s == privateKey {
		return secretKey
	}
	return privateKey
}

// otherClass asks for the same protections on an object of the other class. A
// generic secret made of a private key's encoding signs HMACs whose key is the
// encoding, which is no leak by itself, but it is not what the key is for.
func (s subject) otherClass(right template) template {
	t := s.other().object(false)
	for _, kind := range optional() {
		if !right.has(kind) {
			t = t.without(kind)
		}
	}
	return t
}

// victim returns the subject of the sample to unwrap in an attempt. The class
// must be refused because of the template, so the wrapped key is one that the
// other class can be made of.
func (s subject) victim(name string) subject {
	if s == secretKey && name == "another CKA_CLASS" {
		return privateKey
	}
	return s
}

// prove tries everything that the wrap key must refuse. right is the template
// that it takes. Only a refusal because of the template counts; that the right
// template still works afterwards shows that it was not for another reason.
func (s *session) prove(spec keySpec, key objectHandle, mech uint, right template) ([]Proof, error) {
	samples, err := s.wrappedSamples(key, mech)
	if err != nil {
		return nil, err
	}
	var proofs []Proof
	for _, a := range spec.subject.attempts(right) {
		answer, err := s.attempt(mech, key, samples[spec.subject.victim(a.name)].wrapped, a.template, spec.subject)
		if err != nil {
			return nil, errors.Join(err, s.destroySamples(samples))
		}
		proofs = append(proofs, Proof{spec.purpose, a.name, a.required, answer.refused, answer.text})
	}
	own := samples[spec.subject]
	err = s.returns(mech, key, own.wrapped, own.sample, right)
	return proofs, errors.Join(err, s.destroySamples(samples))
}

type wrappedSample struct {
	sample
	wrapped []byte
}

// wrappedSamples makes one sample of each subject and wraps both.
func (s *session) wrappedSamples(key objectHandle, mech uint) (map[subject]wrappedSample, error) {
	out := make(map[subject]wrappedSample)
	for _, sub := range []subject{privateKey, secretKey} {
		sm, err := s.newSample(sub)
		if err != nil {
			return nil, errors.Join(err, s.destroySamples(out))
		}
		wrapped, err := s.native().wrapKey(s.handle, mech, key, sm.handle)
		out[sub] = wrappedSample{sm, wrapped}
		if err != nil {
			return nil, errors.Join(err, s.destroySamples(out))
		}
	}
	return out, nil
}

func (s *session) destroySamples(samples map[subject]wrappedSample) error {
	var errs []error
	for _, sm := range samples {
		errs = append(errs, s.destroy(sm.handle))
	}
	return errors.Join(errs...)
}

type answer struct {
	refused bool
	text    string
}

// attempt unwraps with a wrong template. An object that comes out all the same
// is examined and destroyed; a permanent one that cannot be is an error.
func (s *session) attempt(mech uint, key objectHandle, wrapped []byte, t template, sub subject) (answer, error) {
	h, err := s.unwrap(mech, key, wrapped, t)
	if err == nil {
		result := answer{s.corrected(mech, key, h, sub), "unwrapped"}
		if result.refused {
			result.text = "unwrapped with the right attributes"
		}
		if err := s.destroy(h); err != nil {
			return answer{}, fmt.Errorf("hsm: a key unwrapped for a test cannot be destroyed: delete it by hand: %w", err)
		}
		return result, nil
	}
	if class := classOf(err); class != GiveUp && class != NewSession {
		return answer{}, err
	}
	return answer{refusesAttempt(codeOf(err)), err.Error()}, nil
}

// corrected reports whether the token unwrapped with its own template in place
// of the one asked for: the value cannot be read, the key cannot be wrapped
// again, and it is a session object of the right class.
func (s *session) corrected(mech uint, key, h objectHandle, sub subject) bool {
	value, err := s.read(h, pkcs11.CKA_VALUE)
	clear(value)
	if codeOf(err) != pkcs11.CKR_ATTRIBUTE_SENSITIVE {
		return false
	}
	if _, err = s.native().wrapKey(s.handle, mech, key, h); codeOf(err) != pkcs11.CKR_KEY_UNEXTRACTABLE {
		return false
	}
	for _, want := range []attribute{boolean(pkcs11.CKA_TOKEN, false), number(pkcs11.CKA_CLASS, sub.class())} {
		got, err := s.read(h, want.kind)
		if err != nil || !bytes.Equal(got, want.value) {
			return false
		}
	}
	return true
}

// refusesAttempt lists the codes by which a token refuses a template, as
// opposed to failing.
func refusesAttempt(code uint) bool {
	switch code {
	case pkcs11.CKR_TEMPLATE_INCONSISTENT, pkcs11.CKR_TEMPLATE_INCOMPLETE,
		pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_ATTRIBUTE_READ_ONLY,
		pkcs11.CKR_ACTION_PROHIBITED, pkcs11.CKR_FUNCTION_REJECTED:
		return true
	}
	return false
}

// judge sums the proofs of all wrap keys up.
func judge(proofs []Proof) string {
	refused, required := 0, 0
	for _, p := range proofs {
		if !p.Required {
			continue
		}
		required++
		if p.Refused {
			refused++
		}
	}
	switch {
	case required > 0 && refused == required:
		return EnforcedByToken
	case leaks(proofs):
		return EnforcedByDaemon
	}
	return EnforcedInPart
}

// leaks reports whether a key comes out readable: then the refusals of other
// attempts are worth nothing.
func leaks(proofs []Proof) bool {
	if len(proofs) == 0 {
		return true
	}
	for _, p := range proofs {
		if p.Required && !p.Refused && p.Attempt != "CKA_TOKEN=true" && p.Attempt != "another CKA_CLASS" {
			return true
		}
	}
	return false
}
