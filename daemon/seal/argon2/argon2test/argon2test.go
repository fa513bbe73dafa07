// Package argon2test computes Argon2id as section 3 of RFC 9106 reads, one formula
// after another and without regard to time, and shows every state on the way. Tests
// compare with it, and look for its states in a process's memory.
package argon2test

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/crypto/blake2b"
)

// Words are 1,024 bytes, little endian.
type Words [128]uint64

// Cost is t, m in KiB, and p.
type Cost struct {
	Time, Memory, Lanes uint32
}

// Inputs are the password, which a PIN is here, and the rest of section 3.1.
type Inputs struct {
	PIN, Salt, Secret, Data []byte
}

// Key is a tag of 32 bytes. It calls seen, unless it is nil, with each state that tells
// about the PIN: the block, and before it what the rounds of its compression made.
func Key(in Inputs, c Cost, seen func(*Words)) [32]byte {
	f := &filling{Cost: c, q: 4 * (c.Memory / (4 * c.Lanes)), seen: seen}
	if seen == nil {
		f.seen = func(*Words) {}
	}
	f.begin(in)
	for f.pass = range c.Time {
		for f.slice = range uint32(4) {
			for f.lane = range c.Lanes {
				f.segment()
			}
		}
	}
	var last Words
	for lane := range c.Lanes {
		last = xor(&last, f.at(lane, f.q-1))
	}
	f.seen(&last)
	return blake2b.Sum256(append(le32(32), last.bytes()...))
}

// filling is the computation at r, sl and l.
type filling struct {
	Cost
	q                 uint32
	blocks            []Words
	seen              func(*Words)
	pass, slice, lane uint32
}

func (f *filling) at(lane, column uint32) *Words { return &f.blocks[lane*f.q+column] }

// begin is section 3.2, steps 1 to 4.
func (f *filling) begin(in Inputs) {
	message := le32(f.Lanes, 32, f.Memory, f.Time, 0x13, 2)
	for _, part := range [][]byte{in.PIN, in.Salt, in.Secret, in.Data} {
		message = append(append(message, le32(uint32(len(part)))...), part...)
	}
	h0 := blake2b.Sum512(message)
	f.blocks = make([]Words, f.Lanes*f.q)
	for lane := range f.Lanes {
		for column := range uint32(2) {
			b := f.at(lane, column)
			*b = long(append(h0[:], le32(column, lane)...))
			f.seen(b)
		}
	}
}

// long is H'^(1024) of section 3.3.
func long(a []byte) (w Words) {
	var out []byte
	v := blake2b.Sum512(append(le32(1024), a...))
	for range 30 {
		out = append(out, v[:32]...)
		v = blake2b.Sum512(v[:])
	}
	out = append(out, v[:]...)
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(out[8*i:])
	}
	return w
}

// segment is section 3.2, steps 5 and 6, for one segment.
func (f *filling) segment() {
	length := f.q / 4
	for i := range length {
		column := f.slice*length + i
		if f.pass == 0 && column < 2 {
			continue
		}
		previous := f.at(f.lane, (column+f.q-1)%f.q)
		j := previous[0]
		if f.pass == 0 && f.slice < 2 {
			j = f.address(i)
		}
		b := f.at(f.lane, column)
		old := *b
		state := xor(previous, f.reference(column, j))
		*b = state
		state.round()
		f.seen(&state)
		*b = xor(b, &state)
		if f.pass > 0 {
			*b = xor(b, &old)
		}
		f.seen(b)
	}
}

// address is the i-th number of section 3.4.1.2.
func (f *filling) address(i uint32) uint64 {
	z := Words{uint64(f.pass), uint64(f.lane), uint64(f.slice), uint64(f.Lanes * f.q), uint64(f.Time), 2, uint64(i/128) + 1}
	for range 2 {
		state := z
		state.round()
		z = xor(&z, &state)
	}
	return z[i%128]
}

// reference lists W of section 3.4.2, in the order of computation, and picks from it.
func (f *filling) reference(column uint32, j uint64) *Words {
	length := f.q / 4
	lane := uint32(j>>32) % f.Lanes
	if f.pass == 0 && f.slice == 0 {
		lane = f.lane
	}
	first, finished := uint32(0), f.slice*length
	if f.pass > 0 { // the three segments before this one
		first, finished = f.q+(f.slice-3)*length, f.q+f.slice*length
	}
	var w []uint32
	for n := first; n != finished; n++ {
		w = append(w, n%f.q)
	}
	i := column - f.slice*length
	if lane == f.lane {
		for n := range i {
			w = append(w, f.slice*length+n)
		}
		w = w[:len(w)-1] // the previous block
	} else if i == 0 {
		w = w[:len(w)-1]
	}
	j1 := j & 0xffffffff
	x := j1 * j1 >> 32
	y := uint64(len(w)) * x >> 32
	return f.at(lane, w[uint64(len(w))-1-y])
}

// round is P of section 3.6 on each row and each column of section 3.5's matrix.
func (w *Words) round() {
	for row := range 8 {
		var at [16]int
		for k := range at {
			at[k] = 16*row + k
		}
		w.permute(at)
	}
	for column := range 8 {
		var at [16]int
		for k := range at {
			at[k] = 16*(k/2) + 2*column + k%2
		}
		w.permute(at)
	}
}

func (w *Words) permute(at [16]int) {
	for _, g := range [][4]int{
		{0, 4, 8, 12}, {1, 5, 9, 13}, {2, 6, 10, 14}, {3, 7, 11, 15},
		{0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13}, {3, 4, 9, 14},
	} {
		a, b, c, d := &w[at[g[0]]], &w[at[g[1]]], &w[at[g[2]]], &w[at[g[3]]]
		for _, by := range [][2]int{{32, 24}, {16, 63}} {
			*a += *b + 2*(*a&0xffffffff)*(*b&0xffffffff)
			*d = bits.RotateLeft64(*d^*a, -by[0])
			*c += *d + 2*(*c&0xffffffff)*(*d&0xffffffff)
			*b = bits.RotateLeft64(*b^*c, -by[1])
		}
	}
}

func xor(x, y *Words) (out Words) {
	for i := range out {
		out[i] = x[i] ^ y[i]
	}
	return out
}

func (w *Words) bytes() (out []byte) {
	for _, word := range w {
		out = binary.LittleEndian.AppendUint64(out, word)
	}
	return out
}

func le32(numbers ...uint32) (out []byte) {
	for _, n := range numbers {
		out = binary.LittleEndian.AppendUint32(out, n)
	}
	return out
}
