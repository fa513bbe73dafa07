package argon2

import "math/bits"

// blockSize is a block's length in bytes.
const blockSize = 1024

// block is the matrix of section 3.5: 8 rows and 8 columns of registers. Each has
// 16 bytes, two words. With constant indices and loops over its own length the
// compiler checks no bounds.
type block [8][8]register

type register [2]uint64

// word is the n-th of a block's 128 words.
func (b *block) word(n int) *uint64 { return &b[n>>4&7][n>>1&7][n&1] }

// compress sets out to G(x, y) of section 3.5 or, where again, to the XOR of that
// and what it was, as every pass but the first does. state is overwritten. out is
// neither x nor y.
func compress(out, x, y, state *block, again bool) {
	state.xor(x, y)
	if again {
		out.xor(out, state)
	} else {
		*out = *state
	}
	for i := range state {
		r := &state[i]
		permute(&r[0], &r[1], &r[2], &r[3], &r[4], &r[5], &r[6], &r[7])
	}
	for i := range 8 {
		permute(&state[0][i], &state[1][i], &state[2][i], &state[3][i],
			&state[4][i], &state[5][i], &state[6][i], &state[7][i])
	}
	out.xor(out, state)
}

// xor sets b to x XOR y. It has no loop over a row, which takes a fifth longer.
func (b *block) xor(x, y *block) {
	for i := range b {
		r, s, t := &b[i], &x[i], &y[i]
		r[0][0] = s[0][0] ^ t[0][0]
		r[0][1] = s[0][1] ^ t[0][1]
		r[1][0] = s[1][0] ^ t[1][0]
		r[1][1] = s[1][1] ^ t[1][1]
		r[2][0] = s[2][0] ^ t[2][0]
		r[2][1] = s[2][1] ^ t[2][1]
		r[3][0] = s[3][0] ^ t[3][0]
		r[3][1] = s[3][1] ^ t[3][1]
		r[4][0] = s[4][0] ^ t[4][0]
		r[4][1] = s[4][1] ^ t[4][1]
		r[5][0] = s[5][0] ^ t[5][0]
		r[5][1] = s[5][1] ^ t[5][1]
		r[6][0] = s[6][0] ^ t[6][0]
		r[6][1] = s[6][1] ^ t[6][1]
		r[7][0] = s[7][0] ^ t[7][0]
		r[7][1] = s[7][1] ^ t[7][1]
	}
}

// permute is P of section 3.6: v_0 to v_15 are a, b, c and d, four each. The rounds
// alternate between columns and diagonals. All values are in variables, so that the
// compiler keeps in registers what there are registers for; the four that are side by
// side do not wait for each other.
func permute(s0, s1, s2, s3, s4, s5, s6, s7 *register) {
	a0, a1, a2, a3 := s0[0], s0[1], s1[0], s1[1]
	b0, b1, b2, b3 := s2[0], s2[1], s3[0], s3[1]
	c0, c1, c2, c3 := s4[0], s4[1], s5[0], s5[1]
	d0, d1, d2, d3 := s6[0], s6[1], s7[0], s7[1]

	a0, b0, c0, d0 = mixFirst(a0, b0, c0, d0)
	a1, b1, c1, d1 = mixFirst(a1, b1, c1, d1)
	a2, b2, c2, d2 = mixFirst(a2, b2, c2, d2)
	a3, b3, c3, d3 = mixFirst(a3, b3, c3, d3)

	a0, b0, c0, d0 = mixSecond(a0, b0, c0, d0)
	a1, b1, c1, d1 = mixSecond(a1, b1, c1, d1)
	a2, b2, c2, d2 = mixSecond(a2, b2, c2, d2)
	a3, b3, c3, d3 = mixSecond(a3, b3, c3, d3)

	a0, b1, c2, d3 = mixFirst(a0, b1, c2, d3)
	a1, b2, c3, d0 = mixFirst(a1, b2, c3, d0)
	a2, b3, c0, d1 = mixFirst(a2, b3, c0, d1)
	a3, b0, c1, d2 = mixFirst(a3, b0, c1, d2)

	a0, b1, c2, d3 = mixSecond(a0, b1, c2, d3)
	a1, b2, c3, d0 = mixSecond(a1, b2, c3, d0)
	a2, b3, c0, d1 = mixSecond(a2, b3, c0, d1)
	a3, b0, c1, d2 = mixSecond(a3, b0, c1, d2)

	s0[0], s0[1], s1[0], s1[1] = a0, a1, a2, a3
	s2[0], s2[1], s3[0], s3[1] = b0, b1, b2, b3
	s4[0], s4[1], s5[0], s5[1] = c0, c1, c2, c3
	s6[0], s6[1], s7[0], s7[1] = d0, d1, d2, d3
}

// mixFirst and mixSecond are the halves of GB of section 3.6. GB in one is more than
// the compiler inlines.
func mixFirst(a, b, c, d uint64) (uint64, uint64, uint64, uint64) {
	a = multiplyAdd(a, b)
	d = bits.RotateLeft64(d^a, -32)
	c = multiplyAdd(c, d)
	b = bits.RotateLeft64(b^c, -24)
	return a, b, c, d
}

func mixSecond(a, b, c, d uint64) (uint64, uint64, uint64, uint64) {
	a = multiplyAdd(a, b)
	d = bits.RotateLeft64(d^a, -16)
	c = multiplyAdd(c, d)
	b = bits.RotateLeft64(b^c, -63)
	return a, b, c, d
}

// multiplyAdd is a + b + 2 * trunc(a) * trunc(b). The sum does not wait for the
// product.
func multiplyAdd(a, b uint64) uint64 {
	return (a + b) + 2*uint64(uint32(a))*uint64(uint32(b))
}
