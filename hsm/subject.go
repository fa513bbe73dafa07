package hsm

import (
	"slices"

	"github.com/miekg/pkcs11"
)

// subject is a sort of key that is wrapped: the private half of a wallet's root
// pair, or a wallet's derivation key.
type subject byte

const (
	privateKey subject = iota + 1 // secp256k1 private key, signs with CKM_ECDSA
	secretKey                     // generic secret, signs with CKM_SHA512_HMAC
)

func (s subject) String() string {
	if s == privateKey {
		return "private key"
	}
	return "secret key"
}

func (s subject) class() uint {
	if s == privateKey {
		return pkcs11.CKO_PRIVATE_KEY
	}
	return pkcs11.CKO_SECRET_KEY
}

func (s subject) keyType() uint {
	if s == privateKey {
		return pkcs11.CKK_EC
	}
	return pkcs11.CKK_GENERIC_SECRET
}

// signs returns the only mechanism that the key is for.
func (s subject) signs() uint {
	if s == privateKey {
		return pkcs11.CKM_ECDSA
	}
	return pkcs11.CKM_SHA512_HMAC
}

// object is the template of such a key as a session object. Only a key that is
// yet to be wrapped, or that belongs to an exportable wallet, is extractable.
//
// The same template goes into CKA_UNWRAP_TEMPLATE of the wrap key. A token may
// compare the two literally, as SoftHSM does: each attribute that the wrap key
// lists must then be given with exactly that value.
func (s subject) object(extractable bool) template {
	t := template{
		number(pkcs11.CKA_CLASS, s.class()),
		number(pkcs11.CKA_KEY_TYPE, s.keyType()),
		boolean(pkcs11.CKA_TOKEN, false),
		boolean(pkcs11.CKA_PRIVATE, true),
		boolean(pkcs11.CKA_SENSITIVE, true),
		boolean(pkcs11.CKA_EXTRACTABLE, extractable),
		boolean(pkcs11.CKA_COPYABLE, false),
		boolean(pkcs11.CKA_MODIFIABLE, false),
		mechanisms(s.signs()),
	}
	if s == privateKey {
		return append(t, usages(privateUsages(), pkcs11.CKA_SIGN)...)
	}
	return append(t, usages(secretUsages(), pkcs11.CKA_SIGN)...)
}

// enforced returns the templates to try as CKA_UNWRAP_TEMPLATE, the fullest
// first and nil, which enforces nothing, last.
func (s subject) enforced(extractable bool) []template {
	full := s.object(extractable)
	var out []template
	for _, d := range full.ladder() {
		out = append(out, full.dropping(d))
	}
	core := full.only(pkcs11.CKA_CLASS, pkcs11.CKA_TOKEN, pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE)
	return append(out, core, core.without(pkcs11.CKA_CLASS), nil)
}

// only returns t with just the attributes of these kinds.
func (t template) only(kinds ...uint) template {
	return slices.DeleteFunc(slices.Clone(t), func(a attribute) bool {
		return !slices.Contains(kinds, a.kind)
	})
}
