package main

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/seal/argon2/argon2test"
)

// states are all that Argon2 computes on the way to a stretched PIN, in windows of 32
// bytes by their first word. Any of them, with the salt, lets PINs be tried without
// the token and the TPM.
type states map[uint64][4]uint64

func statesOf(pin string, a seal.Argon2) states {
	s := states{}
	argon2test.Key(argon2test.Inputs{PIN: []byte(pin), Salt: a.Salt},
		argon2test.Cost{Time: a.Time, Memory: a.Memory, Lanes: uint32(a.Threads)},
		func(w *argon2test.Words) {
			for window := range slices.Chunk(w[:], 4) {
				s[window[0]] = [4]uint64(window)
			}
		})
	return s
}

// found counts windows in Go's memory, and elsewhere: Argon2's own memory is not Go's.
func (s states) found(memory []region) (inGo, elsewhere int) {
	for _, r := range memory {
		n := s.count(r.data)
		if r.goMemory() {
			inGo += n
		} else {
			elsewhere += n
		}
	}
	return inGo, elsewhere
}

func (s states) count(data []byte) (n int) {
	for ; len(data) >= 32; data = data[8:] {
		want, is := s[binary.LittleEndian.Uint64(data)]
		if !is {
			continue
		}
		for i, word := range want {
			is = is && binary.LittleEndian.Uint64(data[8*i:]) == word
		}
		if is {
			n++
		}
	}
	return n
}

// mustHoldNone fails the test for every window that is left.
func (s states) mustHoldNone(t *testing.T, when string, memory []region) {
	t.Helper()
	inGo, elsewhere := s.found(memory)
	t.Logf("%s: of Argon2's %d windows of 32 bytes %d in Go memory, %d in C memory", when, len(s), inGo, elsewhere)
	if inGo+elsewhere > 0 {
		t.Errorf("%s: Argon2 left %d windows of 32 bytes in Go's memory, %d elsewhere", when, inGo, elsewhere)
	}
}

// What the scan looks for is what Argon2 computes, and it is found where it is.
func TestStatesAreFound(t *testing.T) {
	a := seal.Argon2{Time: 1, Memory: 8 << 10, Threads: 1, Salt: seal.NewSalt()}
	var last argon2test.Words
	tag := argon2test.Key(argon2test.Inputs{PIN: []byte(rightPIN), Salt: a.Salt},
		argon2test.Cost{Time: a.Time, Memory: a.Memory, Lanes: 1}, func(w *argon2test.Words) { last = *w })
	stretched, err := seal.Stretch([]byte(rightPIN), a)
	if err != nil || [32]byte(stretched) != tag {
		t.Fatalf("Stretch gives %x, %v; the states are on the way to %x", stretched, err, tag)
	}
	data := make([]byte, 16)
	for _, word := range last {
		data = binary.LittleEndian.AppendUint64(data, word)
	}
	if n := statesOf(rightPIN, a).count(data); n != len(last)/4 {
		t.Errorf("%d of %d windows were found", n, len(last)/4)
	}
}
