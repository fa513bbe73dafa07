// Package wipetest looks for secrets in the memory of the test's own process. Only
// tests may import it.
package wipetest

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Masked is a secret that a test remembers without keeping a copy of it.
type Masked []byte

const mask = 0x55

// Mask masks a secret, which stays the caller's to wipe.
func Mask(secret []byte) Masked {
	m := make(Masked, len(secret))
	for i, b := range secret {
		m[i] = b ^ mask
	}
	return m
}

// Unmask puts the secret where the caller wipes it.
func (m Masked) Unmask(to []byte) {
	for i, b := range m {
		to[i] = b ^ mask
	}
}

// Place is where a secret was found.
type Place struct {
	Secret  int // which of those that were looked for
	Address uint64
	Region  string // the line of /proc/self/maps
}

// Go reports whether it is the Go runtime's memory. Below is the program and
// libc's heap, above are mappings: libraries, the stacks of threads.
func (p Place) Go() bool { return p.Address>>36 > 0 && p.Address < 0x7000_0000_0000 }

// Places finds the secret in all memory that this process can write.
func (m Masked) Places(t testing.TB) []Place {
	t.Helper()
	return Search(t, m)
}

// Search finds secrets in all memory that this process can write.
func Search(t testing.TB, secrets ...Masked) (places []Place) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var low, high uint64
		var flags string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &low, &high, &flags); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(flags, "rw") {
			continue
		}
		for _, p := range within(mem, low, high, secrets) {
			p.Region = strings.TrimSpace(line)
			places = append(places, p)
		}
	}
	return places
}

// Memory is read in pieces that overlap by as much as a secret may be long.
const (
	piece   = 1 << 18
	overlap = 1 << 10
)

func within(mem *os.File, low, high uint64, secrets []Masked) (places []Place) {
	buffer := make([]byte, piece)
	defer clear(buffer)
	for at := low; at < high; at += piece - overlap {
		n, _ := mem.ReadAt(buffer[:min(piece, high-at)], int64(at)) // parts may be unmapped meanwhile
		for which, m := range secrets {
			for from := 0; ; from++ {
				i := m.index(buffer[from:n])
				if i < 0 || from+i >= piece-overlap { // the next piece has it too
					break
				}
				from += i
				places = append(places, Place{Secret: which, Address: at + uint64(from)})
			}
		}
	}
	return places
}

// index is bytes.Index for the secret, which has 8 bytes at least.
func (m Masked) index(b []byte) int {
	var begin [8]byte
	m[:len(begin)].Unmask(begin[:])
	for at := 0; ; at++ {
		i := bytes.Index(b[at:], begin[:])
		at += i
		if i < 0 || at+len(m) > len(b) {
			return -1
		}
		if m.is(b[at:]) {
			return at
		}
	}
}

func (m Masked) is(b []byte) bool {
	for i := range m {
		if b[i]^mask != m[i] {
			return false
		}
	}
	return true
}
