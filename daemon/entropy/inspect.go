package entropy

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// maxPeriod is the longest block, in bytes, that is looked for as a repetition.
// For an honest source of 32 bytes the chance of a false alarm is below 2^-120.
const maxPeriod = 16

// labelAnswer separates the stored digests from every other use of SHA-256.
const labelAnswer = "sigild/entropy-answer/v1"

// inspect checks one answer by itself. The order matters to the operator: the
// length first, since a pattern in a short answer says little.
func inspect(source string, n int, r Reading) *SourceError {
	switch {
	case len(r.Bytes) != n:
		return &SourceError{Source: source, Reason: ReasonShort, Err: fmt.Errorf("asked for %d bytes, got %d", n, len(r.Bytes))}
	case repeats(r.Bytes, 1):
		return &SourceError{Source: source, Reason: ReasonConstant}
	case patterned(r.Bytes):
		return &SourceError{Source: source, Reason: ReasonPattern}
	case !r.Provenance.complete(source, n):
		return &SourceError{Source: source, Reason: ReasonProvenance}
	default:
		return nil
	}
}

// patterned reports whether a block of 2 to maxPeriod bytes repeats up to the
// end of b.
func patterned(b []byte) bool {
	found := false
	for period := 2; period <= maxPeriod; period++ {
		found = repeats(b, period) || found
	}
	return found
}

// repeats reports whether every byte of b equals the one period bytes before
// it: b compared with itself, shifted, in constant time.
func repeats(b []byte, period int) bool {
	return len(b) > period && subtle.ConstantTimeCompare(b[period:], b[:len(b)-period]) == 1
}

// distinct checks that no two sources gave the same answer: one device behind
// two names counts only once.
func distinct(readings []Reading) *SourceError {
	for i, r := range readings {
		for _, earlier := range readings[:i] {
			if subtle.ConstantTimeCompare(r.Bytes, earlier.Bytes) == 1 {
				return &SourceError{
					Source: r.Provenance.Source,
					Reason: ReasonDuplicate,
					Err:    fmt.Errorf("same answer as source %s", earlier.Provenance.Source),
				}
			}
		}
	}
	return nil
}

// AnswerDigest is what is kept of a source's last answer:
//
//	SHA-256("sigild/entropy-answer/v1" ‖ len32be(name) ‖ name ‖ bytes)
//
// where len32be is the length as 4 bytes, big-endian. The name keeps equal
// bytes of two sources apart.
func AnswerDigest(source string, answer []byte) [32]byte {
	h := sha256.New()
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(source)))
	h.Write([]byte(labelAnswer))
	h.Write(size[:])
	h.Write([]byte(source))
	h.Write(answer)
	return [32]byte(h.Sum(nil))
}
