package channel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"
)

// ErrIdentity is returned for a key of the channel that the pinned identity key
// did not sign: somebody put another one in its place, or the installation is
// another one than was pinned.
var ErrIdentity = errors.New("the PIN key is not signed by the pinned identity key")

// ErrKeyTime is returned for a key that is not valid now by this host's clock.
var ErrKeyTime = errors.New("the PIN key is not valid at this time: compare the clocks")

const (
	// skew is how far a client's clock may be from the daemon's when it looks at
	// the validity of a key whose statement has no time.
	skew = 2 * time.Minute
	// maxOffset is how far it may be from the time in a statement: a statement
	// from long ago is none of this daemon's keys.
	maxOffset = 5 * time.Minute
)

// Statement is what the identity key signs of a key: SHA-256 over
// StatementLabel ‖ the statement's text, ECDSA P-256, ASN.1 DER.
type Statement struct {
	KeyID        string `json:"keyId"`     // 16 bytes, 0x and hexadecimal
	PublicKey    string `json:"publicKey"` // 1216 bytes, 0x and hexadecimal
	Suite        string `json:"suite"`
	NotBefore    string `json:"notBefore"` // RFC 3339, UTC
	NotAfter     string `json:"notAfter"`
	Installation string `json:"installation"`   // 16 bytes, 0x and hexadecimal
	Time         string `json:"time,omitempty"` // the daemon's clock, at most StatementAge before it was given
}

func statementDigest(text string) [32]byte {
	return sha256.Sum256([]byte(StatementLabel + text))
}

// ParseIdentity reads an identity key: the uncompressed point, 65 bytes (SEC 1,
// section 2.3.3).
func ParseIdentity(point []byte) (*ecdsa.PublicKey, error) {
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

// Verify checks a statement's signature and validity, and returns the key.
func Verify(identity *ecdsa.PublicKey, text string, signature []byte, now time.Time) (*Key, error) {
	digest := statementDigest(text)
	if !ecdsa.VerifyASN1(identity, digest[:], signature) {
		return nil, ErrIdentity
	}
	var s Statement
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, ErrIdentity
	}
	k, err := s.key()
	if err != nil {
		return nil, ErrIdentity
	}
	if !k.valid(now) {
		return nil, ErrKeyTime
	}
	return k, nil
}

// valid sets the key's clock, and looks at it.
func (k *Key) valid(now time.Time) bool {
	k.verified = now
	if k.time.IsZero() {
		return !now.Before(k.NotBefore.Add(-skew)) && !now.After(k.NotAfter.Add(skew))
	}
	return now.Sub(k.time).Abs() <= maxOffset && !k.time.Before(k.NotBefore) && !k.time.After(k.NotAfter)
}

func (s *Statement) key() (*Key, error) {
	if s.Suite != Suite {
		return nil, errors.New("unknown suite")
	}
	var k Key
	var errs [7]error
	var id, installation, public []byte
	id, errs[0] = hex.DecodeString(trimHex(s.KeyID))
	installation, errs[1] = hex.DecodeString(trimHex(s.Installation))
	public, errs[2] = hex.DecodeString(trimHex(s.PublicKey))
	k.NotBefore, errs[3] = time.Parse(time.RFC3339, s.NotBefore)
	k.NotAfter, errs[4] = time.Parse(time.RFC3339, s.NotAfter)
	kem, _, _ := suite()
	k.public, errs[5] = kem.NewPublicKey(public)
	if s.Time != "" {
		k.time, errs[6] = time.Parse(time.RFC3339, s.Time)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if len(id) != len(ID{}) || len(installation) != len(ID{}) {
		return nil, errors.New("an id is not 16 bytes")
	}
	k.ID, k.Installation = ID(id), ID(installation)
	return &k, nil
}
