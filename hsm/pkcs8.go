package hsm

import (
	"bytes"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// oidECPublicKey is 1.2.840.10045.2.1, id-ecPublicKey (RFC 5480), in DER.
func oidECPublicKey() []byte {
	return []byte{0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01}
}

// parsePrivateKey reads a PKCS#8 PrivateKeyInfo (RFC 5958, version 0) of
// secp256k1, in DER, as a token wraps it, and puts the private key into scalar.
// Anything else, also attributes, other parameters, bytes behind the end, 0 and
// n, is ErrKnownWrap. It makes no copy of der but scalar.
func parsePrivateKey(der []byte, scalar *[32]byte) error {
	input := cryptobyte.String(der)
	var info, algorithm, inner cryptobyte.String
	var version uint
	ok := input.ReadASN1(&info, asn1.SEQUENCE) && input.Empty() &&
		info.ReadASN1Integer(&version) && version == 0 &&
		info.ReadASN1(&algorithm, asn1.SEQUENCE) &&
		bytes.Equal(algorithm, append(oidECPublicKey(), oidSecp256k1()...)) &&
		info.ReadASN1(&inner, asn1.OCTET_STRING) && info.Empty() &&
		readECPrivateKey(inner, scalar)
	if !ok || !validScalar(scalar) {
		clear(scalar[:])
		return ErrKnownWrap
	}
	return nil
}

// readECPrivateKey reads an ECPrivateKey (SEC 1, section C.4). The curve and the
// public key that may stand behind the private one must have their form; whether
// the public key is right is for whoever knows the point.
func readECPrivateKey(der cryptobyte.String, scalar *[32]byte) bool {
	var key, private, params, public cryptobyte.String
	var version uint
	if !der.ReadASN1(&key, asn1.SEQUENCE) || !der.Empty() ||
		!key.ReadASN1Integer(&version) || version != 1 ||
		!key.ReadASN1(&private, asn1.OCTET_STRING) || len(private) != len(scalar) {
		return false
	}
	var named, given bool
	tag := func(n uint8) asn1.Tag { return asn1.Tag(n).Constructed().ContextSpecific() }
	if !key.ReadOptionalASN1(&params, &named, tag(0)) || named && !bytes.Equal(params, oidSecp256k1()) {
		return false
	}
	if !key.ReadOptionalASN1(&public, &given, tag(1)) || given && !isPointBits(public) || !key.Empty() {
		return false
	}
	copy(scalar[:], private)
	return true
}

// isPointBits reports whether b is a BIT STRING of the size of a point.
func isPointBits(b cryptobyte.String) bool {
	var point []byte
	return b.ReadASN1BitStringAsBytes(&point) && b.Empty() && (len(point) == 33 || len(point) == pointSize)
}

// validScalar reports whether a private key is 1 to n-1. It takes the same time
// for all of these.
func validScalar(scalar *[32]byte) bool {
	var d secp256k1.ModNScalar
	defer d.Zero()
	return d.SetBytes(scalar)|d.IsZeroBit() == 0
}
