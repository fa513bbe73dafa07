package wallet

import (
	"crypto/rand"
	"crypto/subtle"
	"math/big"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/ethereum/go-ethereum/crypto"
	ethsecp "github.com/ethereum/go-ethereum/crypto/secp256k1"

	"github.com/sigild/sigild/daemon/wipe"
)

// twoTo256 is 2^256 mod n, for the wide reduction.
var twoTo256 = [32]byte{
	15: 0x01, 16: 0x45, 17: 0x51, 18: 0x23, 19: 0x19, 20: 0x50, 21: 0xb7, 22: 0x5f,
	23: 0xc4, 24: 0x40, 25: 0x2d, 26: 0xa1, 27: 0x73, 28: 0x2f, 29: 0xc9, 30: 0xbe, 31: 0xbf,
}

// tweak is an account's t, a scalar of secp256k1. Secret; wipe it.
type tweak struct{ t secp.ModNScalar }

func (w *tweak) wipe() { w.t.Zero() }

// String keeps the tweak out of logs.
func (w *tweak) String() string { return "redacted" }

// newTweak reduces 512 bits, big endian, modulo n: the bias against uniform is
// below 2^-256. It takes the same time whatever the bits are. ErrToken when the
// result is 0, which no honest HMAC gives in practice.
func newTweak(wide *[64]byte) (w *tweak, err error) {
	wipe.Do(func() { w, err = reduce(wide) })
	return w, err
}

func reduce(wide *[64]byte) (*tweak, error) {
	var hi, lo, shift secp.ModNScalar
	defer hi.Zero()
	defer lo.Zero()
	hi.SetBytes((*[32]byte)(wide[:32]))
	lo.SetBytes((*[32]byte)(wide[32:]))
	shift.SetBytes(&twoTo256)
	w := new(tweak)
	w.t.Set(hi.Mul(&shift).Add(&lo))
	if w.t.IsZeroBit() == 1 {
		return nil, ErrToken
	}
	return w, nil
}

// oneTweak is the tweak of an account whose root is its whole private key.
func oneTweak() *tweak {
	w := new(tweak)
	w.t.SetInt(1)
	return w
}

// apply puts t·key mod n in the place of key, a private key, big endian. ErrToken
// for one that is 0 or not below n. It takes the same time for every key.
func (w *tweak) apply(key *[32]byte) (err error) {
	wipe.Do(func() {
		var d secp.ModNScalar
		defer d.Zero()
		if d.SetBytes(key)|d.IsZeroBit() != 0 {
			err = ErrToken
			return
		}
		d.Mul(&w.t).PutBytes(key)
	})
	return err
}

// checkKey reports ErrKey for what is no private key: another length, 0, n or
// more. It takes the same time for every key.
func checkKey(key []byte) (err error) {
	if len(key) != 32 {
		return ErrKey
	}
	wipe.Do(func() {
		var d secp.ModNScalar
		defer d.Zero()
		if d.SetBytes((*[32]byte)(key))|d.IsZeroBit() != 0 {
			err = ErrKey
		}
	})
	return err
}

// publicOf gives the public key of a private one, uncompressed. libsecp256k1
// multiplies in constant time.
func publicOf(key *[32]byte) ([65]byte, error) {
	var x, y *big.Int
	wipe.Quiet(func() { x, y = ethsecp.S256().ScalarBaseMult(key[:]) })
	return uncompressed(x, y)
}

// public gives t·P_h, uncompressed. libsecp256k1 multiplies in constant time.
func (w *tweak) public(root [65]byte) ([65]byte, error) {
	x, y, err := point(root)
	if err != nil {
		return [65]byte{}, err
	}
	var px, py *big.Int
	t := new([32]byte)
	defer clear(t[:])
	wipe.Do(func() { w.t.PutBytes(t) })
	wipe.Quiet(func() { px, py = ethsecp.S256().ScalarMult(x, y, t[:]) })
	return uncompressed(px, py)
}

func uncompressed(x, y *big.Int) (p [65]byte, err error) {
	if x == nil || y == nil {
		return p, ErrToken
	}
	p[0] = 4
	x.FillBytes(p[1:33])
	y.FillBytes(p[33:])
	return p, nil
}

// point checks that an uncompressed point is on the curve.
func point(p [65]byte) (x, y *big.Int, err error) {
	key, err := secp.ParsePubKey(p[:])
	if err != nil || p[0] != 4 || !key.IsOnCurve() {
		return nil, nil, ErrToken
	}
	return key.X(), key.Y(), nil
}

// blind gives z·t⁻¹ mod n, what the token signs in place of z.
func (w *tweak) blind(z [32]byte) (out [32]byte, err error) {
	wipe.Do(func() { out, err = w.divide(z) })
	return out, err
}

func (w *tweak) divide(z [32]byte) ([32]byte, error) {
	var d secp.ModNScalar
	d.SetBytes(&z)
	if d.IsZero() {
		return [32]byte{}, ErrDigest
	}
	inverse := w.inverse()
	defer inverse.Zero()
	return d.Mul(&inverse).Bytes(), nil
}

// inverse computes t⁻¹ as (t·b)⁻¹·b for a random b, so that the library's
// inversion, which takes a time that depends on its input, sees only a
// uniformly random value.
func (w *tweak) inverse() secp.ModNScalar {
	b := randomScalar()
	defer b.Zero()
	var u secp.ModNScalar
	u.Mul2(&w.t, &b).InverseNonConst()
	return *u.Mul(&b)
}

func randomScalar() secp.ModNScalar {
	var buf [32]byte
	defer clear(buf[:])
	for {
		rand.Read(buf[:])
		var b secp.ModNScalar
		if overflow := b.SetBytes(&buf); overflow == 0 && !b.IsZero() {
			return b
		}
	}
}

// Signature is an ECDSA signature over secp256k1 that was verified against the
// account's public key.
type Signature struct {
	R, S       [32]byte
	RecoveryID byte // 0 or 1: the y parity of the nonce point
}

// finish turns the token's r ‖ s' into the signature of z by t·d_h: s = t·s',
// made low (BIP 62, EIP-2), with the recovery id found by recovering public.
// That recovery is the verification. ErrToken when neither id recovers it.
func (w *tweak) finish(raw [64]byte, z [32]byte, public [65]byte) (*Signature, error) {
	var r, s secp.ModNScalar
	if r.SetBytes((*[32]byte)(raw[:32])) != 0 || r.IsZero() {
		return nil, ErrToken
	}
	if s.SetBytes((*[32]byte)(raw[32:])) != 0 || s.IsZero() {
		return nil, ErrToken
	}
	wipe.Do(func() { s.Mul(&w.t) })
	if s.IsOverHalfOrder() {
		s.Negate()
	}
	return recoverable(r.Bytes(), s.Bytes(), z, public)
}

func recoverable(r, s, z [32]byte, public [65]byte) (*Signature, error) {
	var sig [65]byte
	copy(sig[:32], r[:])
	copy(sig[32:], s[:])
	for id := range byte(2) {
		sig[64] = id
		got, err := crypto.Ecrecover(z[:], sig[:])
		if err == nil && subtle.ConstantTimeCompare(got, public[:]) == 1 {
			return &Signature{R: r, S: s, RecoveryID: id}, nil
		}
	}
	return nil, ErrToken
}

// compress gives the 33-byte form of an uncompressed point (SEC 1, 2.3.3).
func compress(p [65]byte) []byte {
	c := make([]byte, 33)
	c[0] = 2 + p[64]&1
	copy(c[1:], p[1:33])
	return c
}

// decompress undoes compress, checking the point.
func decompress(c []byte) ([65]byte, error) {
	key, err := secp.ParsePubKey(c)
	if err != nil || len(c) != 33 {
		return [65]byte{}, ErrToken
	}
	return [65]byte(key.SerializeUncompressed()), nil
}

// address is the last 20 bytes of Keccak-256 over the point's coordinates.
func address(p [65]byte) [20]byte {
	return [20]byte(crypto.Keccak256(p[1:])[12:])
}
