package seal

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/sigild/sigild/daemon/wipe"
)

// MaxShares is the most shares that a recovery code is split into.
const MaxShares = 16

const (
	shareCheckLabel = "sigild/recovery-share-check/v1"
	shareBytes      = 35 // 25 bits of header and 255 of value
	scalarBytes     = 32
	setBits         = 15
)

// ErrShare is returned for text that is not a share: a letter was mistyped, or
// groups are missing.
var ErrShare = errors.New("this is not a share of a recovery code: check each group")

// SplitRecoveryCode splits a code into n shares, of which any needed ones give
// it back and fewer tell nothing about it (Shamir, over the scalars of
// Ristretto255). 2 <= needed <= n <= MaxShares. Each share is 60 characters of
// Crockford's base 32 in fifteen groups of four: three characters that all of a
// set have in common, one for the share's number, one for how many are needed,
// the value, and a check group. Two splits of one code are two sets. Secret;
// wipe them.
func SplitRecoveryCode(code []byte, n, needed int) (shares [][]byte, err error) {
	if needed < 2 || n < needed || n > MaxShares {
		return nil, fmt.Errorf("%d of %d shares: 2 to %d shares are made, and 2 or more of them are needed", needed, n, MaxShares)
	}
	raw, err := ParseRecoveryCode(code)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	var set [2]byte
	rand.Read(set[:])
	wipe.Do(func() { shares, err = split(raw, binary.BigEndian.Uint16(set[:])>>(16-setBits), n, needed) })
	return shares, err
}

func split(raw []byte, set uint16, n, needed int) ([][]byte, error) {
	secret := group.Ristretto255.NewScalar()
	defer secret.SetUint64(0)
	if err := setScalar(secret, raw); err != nil {
		return nil, err
	}
	points := secretsharing.New(rand.Reader, uint(needed-1), secret).Share(uint(n))
	shares := make([][]byte, n)
	for i, p := range points {
		defer p.Value.SetUint64(0)
		s := share{set: set, number: i + 1, needed: needed}
		if err := scalarInto(s.value[:], p.Value); err != nil {
			return nil, err
		}
		shares[i] = s.text()
		clear(s.value[:])
	}
	return shares, nil
}

// share is one point of a polynomial.
type share struct {
	set            uint16 // common to the shares of one split, 15 bits
	number, needed int    // 1 to MaxShares; 2 to MaxShares
	value          [scalarBytes]byte
}

func (s *share) text() []byte {
	raw := s.encode()
	defer clear(raw)
	text := crockford.AppendEncode(make([]byte, 0, 64), raw)
	defer clear(text)
	text = append(text, hashGroup(shareCheckLabel, raw)...)
	return grouped(text)
}

// encode packs set (15 bits), number (5), needed (5) and value (255), most
// significant bits first.
func (s *share) encode() []byte {
	header := uint32(s.set)<<10 | uint32(s.number)<<5 | uint32(s.needed)
	raw := binary.BigEndian.AppendUint32(make([]byte, 0, shareBytes), header<<7)
	raw[3] |= s.value[0]
	return append(raw, s.value[1:]...)
}

// looksLikeShare tells a share, also a mistyped one, from a code by its length.
func looksLikeShare(text []byte) bool {
	canonical := canonicalCode(text)
	defer clear(canonical)
	return len(canonical) > crockford.EncodedLen(recoveryCodeBytes)+2*recoveryGroup
}

// parseShare reads a share as people type it, as ParseRecoveryCode does.
func parseShare(typed []byte) (*share, error) {
	text := canonicalCode(typed)
	defer clear(text)
	size := crockford.EncodedLen(shareBytes)
	if len(text) != size+recoveryGroup {
		return nil, ErrShare
	}
	raw := make([]byte, shareBytes)
	defer clear(raw)
	if n, err := crockford.Decode(raw, text[:size]); err != nil || n != shareBytes {
		return nil, ErrShare
	}
	if subtle.ConstantTimeCompare(hashGroup(shareCheckLabel, raw), text[size:]) != 1 {
		return nil, ErrShare
	}
	return decodeShare(raw)
}

func decodeShare(raw []byte) (*share, error) {
	header := binary.BigEndian.Uint32(raw) >> 7
	s := &share{set: uint16(header >> 10), number: int(header >> 5 & 31), needed: int(header & 31)}
	if s.number < 1 || s.number > MaxShares || s.needed < 2 || s.needed > MaxShares {
		return nil, ErrShare
	}
	copy(s.value[:], raw[3:])
	s.value[0] &= 0x7f
	return s, nil
}

// setName is what the shares of a set begin with.
func (s *share) setName() string {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], s.set<<(16-setBits))
	return crockford.EncodeToString(b[:])[:3]
}

// setScalar reads a number, most significant byte first, below the group's order.
func setScalar(to group.Scalar, number []byte) error {
	var b [scalarBytes]byte
	defer clear(b[:])
	copy(b[scalarBytes-len(number):], number)
	slices.Reverse(b[:]) // RFC 9496, section 4.4: least significant first
	return to.UnmarshalBinary(b[:])
}

func scalarInto(number []byte, from group.Scalar) error {
	b, err := from.MarshalBinary()
	if err != nil {
		return err
	}
	defer clear(b)
	slices.Reverse(b)
	copy(number, b)
	return nil
}

// hashGroup is the first 20 bits of a labelled hash, as four characters.
func hashGroup(label string, raw []byte) []byte {
	message := append([]byte(label), raw...)
	defer clear(message)
	sum := sha256.Sum256(message)
	defer clear(sum[:])
	return crockford.AppendEncode(nil, sum[:5])[:recoveryGroup]
}
