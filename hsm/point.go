package hsm

import (
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// pointSize is the length of an uncompressed point: 0x04 ‖ X (32) ‖ Y (32).
const pointSize = 65

// parsePoint returns the uncompressed point in a CKA_EC_POINT. The standard
// wants a DER OCTET STRING around it (PKCS#11 v2.40 section 2.3.3); some tokens
// give the bare point. The lengths tell them apart.
func parsePoint(b []byte) ([]byte, error) {
	if len(b) == pointSize+2 && b[0] == 0x04 && b[1] == pointSize {
		b = b[2:]
	}
	if len(b) != pointSize || b[0] != 0x04 {
		return nil, fmt.Errorf("hsm: CKA_EC_POINT is not an uncompressed 256-bit point: %w", ErrTokenAnswer)
	}
	return b, nil
}

// onSecp256k1 checks that an uncompressed point lies on secp256k1.
func onSecp256k1(point []byte) (*secp256k1.PublicKey, error) {
	key, err := secp256k1.ParsePubKey(point)
	if err != nil {
		return nil, fmt.Errorf("hsm: the token's public key is not a secp256k1 point: %w", ErrTokenAnswer)
	}
	return key, nil
}

// verifySecp256k1 checks a raw signature r ‖ s. High s values are valid ECDSA.
func verifySecp256k1(point []byte, digest [32]byte, signature [64]byte) error {
	key, err := onSecp256k1(point)
	if err != nil {
		return err
	}
	var r, s secp256k1.ModNScalar
	overflow := r.SetByteSlice(signature[:32])
	overflow = s.SetByteSlice(signature[32:]) || overflow
	if overflow || !secpecdsa.NewSignature(&r, &s).Verify(digest[:], key) {
		return fmt.Errorf("hsm: with a secp256k1 key: %w", ErrWrongSignature)
	}
	return nil
}
