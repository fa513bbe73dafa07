package hsm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// ErrKnownWrap is returned for a ciphertext that is not a private key of
// secp256k1 under the known key: it was changed, is under another key, or is of
// a form that this package does not know.
var ErrKnownWrap = errors.New("hsm: this is not a secp256k1 key under the known wrap key")

// UnwrapKnown undoes Keys.WrapKnown in software: key wrap with padding (RFC 5649)
// around a PKCS#8 private key (RFC 5958, SEC 1). It puts the private key, 32
// bytes, big endian, 1 to n-1, into scalar, which is zero after ErrKnownWrap. It
// calls no C, and wipes every buffer of its own; the key schedule of package aes
// is out of its reach, so run it inside wipe.Do.
func UnwrapKnown(key *[32]byte, wrapped []byte, scalar *[32]byte) error {
	clear(scalar[:])
	plain, err := unwrapPadded(key[:], wrapped)
	defer clear(plain)
	if err != nil {
		return err
	}
	return parsePrivateKey(plain, scalar)
}

// Parts of RFC 5649: semi-blocks of 8 bytes, and the constant of section 3.
const (
	semiBlock = 8
	aivPrefix = 0xA65959A6
)

// unwrapPadded undoes AES key wrap with padding (RFC 5649, section 4.2). The
// checks of the integrity value, the length and the padding have one answer and
// take the same time. The caller wipes the result.
//
// The one maintained Go library that has it, Tink's kwp/subtle, leaves its
// buffers to the collector, and refuses the 192-bit keys of the RFC's vectors.
func unwrapPadded(key, wrapped []byte) ([]byte, error) {
	if len(wrapped)%semiBlock != 0 || len(wrapped) < 2*semiBlock || len(wrapped) > maxWrapped {
		return nil, ErrKnownWrap
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	buffer := append(make([]byte, 0, len(wrapped)), wrapped...)
	if len(buffer) == aes.BlockSize {
		block.Decrypt(buffer, buffer)
	} else {
		unwrapSemiBlocks(block, buffer)
	}
	n, ok := checkPadded(buffer)
	if !ok {
		clear(buffer)
		return nil, ErrKnownWrap
	}
	return buffer[semiBlock : semiBlock+n], nil
}

// unwrapSemiBlocks is the inverse of W (RFC 3394, section 2.2.2), in place: the
// integrity value comes to stand before the plaintext.
func unwrapSemiBlocks(block cipher.Block, buffer []byte) {
	var b [aes.BlockSize]byte
	defer clear(b[:])
	n := len(buffer)/semiBlock - 1
	for t := 6 * n; t > 0; t-- {
		r := buffer[semiBlock*(1+(t-1)%n):][:semiBlock]
		copy(b[:semiBlock], buffer)
		binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^uint64(t))
		copy(b[semiBlock:], r)
		block.Decrypt(b[:], b[:])
		copy(buffer, b[:semiBlock])
		copy(r, b[semiBlock:])
	}
}

// checkPadded gives the length of the plaintext behind its integrity value
// (RFC 5649, section 3).
func checkPadded(buffer []byte) (length int, ok bool) {
	room := len(buffer) - semiBlock
	length = int(binary.BigEndian.Uint32(buffer[4:semiBlock]) & 0x7fffffff)
	good := subtle.ConstantTimeEq(int32(binary.BigEndian.Uint32(buffer)>>16), aivPrefix>>16) &
		subtle.ConstantTimeEq(int32(binary.BigEndian.Uint32(buffer)&0xffff), aivPrefix&0xffff) &
		subtle.ConstantTimeEq(int32(buffer[4]>>7), 0) &
		subtle.ConstantTimeLessOrEq(room-semiBlock+1, length) & subtle.ConstantTimeLessOrEq(length, room)
	rest := byte(0)
	for i := room - semiBlock; i < room; i++ {
		behind := subtle.ConstantTimeLessOrEq(length, i)
		rest |= byte(subtle.ConstantTimeSelect(behind, int(buffer[semiBlock+i]), 0))
	}
	return length, good&subtle.ConstantTimeByteEq(rest, 0) == 1
}
