package seal

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
)

const (
	recoveryLabel     = "sigild/recovery/v1"
	checkLabel        = "sigild/recovery-check/v1"
	recoveryCodeBytes = 20 // 160 bits
	recoveryGroup     = 4
)

// crockford has no I, L, O and U, which people misread.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// ErrRecoveryCode is returned for text that is not a recovery code: a letter
// was mistyped, or groups are missing. A well-formed code of another
// installation gives ErrOpen.
var ErrRecoveryCode = errors.New("this is not a recovery code: check each group")

// HostSecret is what the recovery code protects: who holds the code, this blob
// and the token can make another host. Secret; wipe it.
type HostSecret struct {
	Host     []byte `cbor:"1,keyasint"`           // 32 bytes, the value of the TPM host key
	TokenPIN []byte `cbor:"2,keyasint,omitempty"` // the token's user PIN where the TPM keeps it
}

// Wipe overwrites the secret.
func (s *HostSecret) Wipe() {
	clear(s.Host)
	clear(s.TokenPIN)
}

// NewRecoveryCode makes a code of 160 random bits: 36 characters of Crockford's
// base 32 in nine groups of four, the last group a check. Secret; wipe it.
func NewRecoveryCode() []byte {
	raw := make([]byte, recoveryCodeBytes)
	defer clear(raw)
	rand.Read(raw)
	return formatCode(raw)
}

func formatCode(raw []byte) []byte {
	text := crockford.AppendEncode(make([]byte, 0, 64), raw)
	defer clear(text)
	text = append(text, hashGroup(checkLabel, raw)...)
	return grouped(text)
}

// grouped puts a dash between each four characters.
func grouped(text []byte) []byte {
	code := make([]byte, 0, len(text)+len(text)/recoveryGroup)
	for i := 0; i < len(text); i += recoveryGroup {
		if i > 0 {
			code = append(code, '-')
		}
		code = append(code, text[i:i+recoveryGroup]...)
	}
	return code
}

// ParseRecoveryCode reads a code as people type it: case, blanks and dashes do
// not count, O is 0, I and L are 1. It returns 20 secret bytes to wipe.
func ParseRecoveryCode(code []byte) ([]byte, error) {
	text := canonicalCode(code)
	defer clear(text)
	size := crockford.EncodedLen(recoveryCodeBytes)
	if len(text) != size+recoveryGroup {
		return nil, ErrRecoveryCode
	}
	raw := make([]byte, recoveryCodeBytes)
	if n, err := crockford.Decode(raw, text[:size]); err != nil || n != recoveryCodeBytes {
		clear(raw)
		return nil, ErrRecoveryCode
	}
	if subtle.ConstantTimeCompare(hashGroup(checkLabel, raw), text[size:]) != 1 {
		clear(raw)
		return nil, ErrRecoveryCode
	}
	return raw, nil
}

func canonicalCode(code []byte) []byte {
	text := make([]byte, 0, len(code))
	for _, c := range code {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		switch c {
		case '-', ' ', '\t', '\r', '\n':
		case 'O':
			text = append(text, '0')
		case 'I', 'L':
			text = append(text, '1')
		default:
			text = append(text, c)
		}
	}
	return text
}

// SealHost encrypts the host secret under a recovery code: 12-byte nonce ‖
// AES-256-GCM ‖ tag, key HKDF-SHA256(code, salt installation, "sigild/recovery/v1"),
// associated data "sigild/recovery/v1" ‖ installation ‖ number of the host key (4 bytes, big endian).
func SealHost(code []byte, installation ID, number uint32, s *HostSecret) ([]byte, error) {
	key, err := recoveryKey(code, installation)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	plain, err := encodeSecret(s, 64+len(s.Host)+len(s.TokenPIN))
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return seal(key, plain, recoveryAD(installation, number))
}

// OpenHost undoes SealHost. It returns ErrRecoveryCode or ErrOpen.
func OpenHost(code []byte, installation ID, number uint32, blob []byte) (*HostSecret, error) {
	key, err := recoveryKey(code, installation)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	plain, err := open(key, blob, recoveryAD(installation, number))
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	var s HostSecret
	if err := decode(plain, &s); err != nil {
		s.Wipe()
		return nil, ErrFormat // without detail: it is about a secret
	}
	return &s, nil
}

func recoveryKey(code []byte, installation ID) ([]byte, error) {
	raw, err := ParseRecoveryCode(code)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	return hkdf.Key(sha256.New, raw, installation[:], recoveryLabel, 32)
}

func recoveryAD(installation ID, number uint32) []byte {
	n := []byte{byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number)}
	return append(append([]byte(recoveryLabel), installation[:]...), n...)
}
