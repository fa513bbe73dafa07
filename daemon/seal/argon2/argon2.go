package argon2

import (
	"encoding/binary"
	"errors"

	"golang.org/x/crypto/blake2b"
)

// TagSize is the length of what Key computes, in bytes.
const TagSize = 32

// Of section 3.1.
const (
	version = 0x13
	typeID  = 2 // Argon2id
)

var errCost = errors.New("argon2: at least one pass, one lane and 8 KiB a lane")

// Key sets dst to Argon2id over pin and salt: time passes over memoryKiB KiB in
// lanes that are computed one after another. It takes that memory, outside of Go's
// heap, and leaves nothing in it. An error says that dst is unchanged: the cost is
// outside of what RFC 9106 allows, or the system has no memory.
func Key(dst *[TagSize]byte, pin, salt []byte, time, memoryKiB uint32, lanes uint8) error {
	if time < 1 || lanes < 1 || memoryKiB < minMemory(lanes) {
		return errCost
	}
	c := cost{time, memoryKiB, uint32(lanes)}
	return withMemory(c.blocks(), func(memory []block) {
		derive(dst, inputs{pin: pin, salt: salt}, c, memory)
	})
}

func minMemory(lanes uint8) uint32 { return 8 * uint32(lanes) }

// inputs are the byte strings of section 3.1, in the order in which H_0 takes them.
type inputs struct {
	pin, salt, secret, data []byte
}

// cost is t, m and p of section 3.1.
type cost struct {
	time, memory, lanes uint32
}

// derive computes a tag in memory of c.blocks() blocks, which it leaves clear.
func derive(dst *[TagSize]byte, in inputs, c cost, memory []block) {
	defer clear(memory)
	m := newMatrix(c, memory)
	h0 := initial(in, c)
	defer clear(h0[:])
	for lane := range m.lanes {
		for column := range 2 {
			m.at(lane, column).expand(&h0, column, lane)
		}
	}
	m.fill()
	m.tag(dst)
}

// initial is H_0 of section 3.2, step 1.
func initial(in inputs, c cost) [blake2b.Size]byte {
	var message []byte
	defer func() { clear(message) }()
	parts := [][]byte{in.pin, in.salt, in.secret, in.data}
	size := 4 * (6 + len(parts))
	for _, part := range parts {
		size += len(part)
	}
	message = make([]byte, 0, size) // so that it does not move and leave a copy
	for _, n := range []uint32{c.lanes, TagSize, c.memory, c.time, version, typeID} {
		message = binary.LittleEndian.AppendUint32(message, n)
	}
	for _, part := range parts {
		message = binary.LittleEndian.AppendUint32(message, uint32(len(part)))
		message = append(message, part...)
	}
	return blake2b.Sum512(message)
}

// expand sets b to H'^(1024)(H_0 || LE32(column) || LE32(lane)): the first blocks of
// section 3.2, steps 3 and 4, by the hash of section 3.3.
func (b *block) expand(h0 *[blake2b.Size]byte, column, lane int) {
	var message [4 + blake2b.Size + 4 + 4]byte
	defer clear(message[:])
	binary.LittleEndian.PutUint32(message[:], blockSize)
	copy(message[4:], h0[:])
	binary.LittleEndian.PutUint32(message[4+blake2b.Size:], uint32(column))
	binary.LittleEndian.PutUint32(message[4+blake2b.Size+4:], uint32(lane))
	v := blake2b.Sum512(message[:])
	defer clear(v[:])
	// Half of each V, but all of the last.
	const half = blake2b.Size / 2 / 8
	n := 0
	for ; n < blockSize/8-2*half; n += half {
		b.load(n, v[:blake2b.Size/2])
		v = blake2b.Sum512(v[:])
	}
	b.load(n, v[:])
}

// load sets b's words from the n-th on.
func (b *block) load(n int, from []byte) {
	for ; len(from) >= 8; from = from[8:] {
		*b.word(n) = binary.LittleEndian.Uint64(from)
		n++
	}
}

// tag sets dst to H'^(32) of the XOR of every lane's last block: section 3.2,
// steps 7 and 8.
func (m *matrix) tag(dst *[TagSize]byte) {
	final := m.state
	*final = *m.at(0, m.columns-1)
	for lane := 1; lane < m.lanes; lane++ {
		final.xor(final, m.at(lane, m.columns-1))
	}
	var message [4 + blockSize]byte
	defer clear(message[:])
	binary.LittleEndian.PutUint32(message[:], TagSize)
	for n := range blockSize / 8 {
		binary.LittleEndian.PutUint64(message[4+8*n:], *final.word(n))
	}
	*dst = blake2b.Sum256(message[:])
}
