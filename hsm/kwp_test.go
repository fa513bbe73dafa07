package hsm_test

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/sigild/sigild/hsm"
)

// RFC 5649, section 6.
func TestUnwrapPaddedVectors(t *testing.T) {
	key := unhex(t, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	for plain, wrapped := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		got, err := hsm.UnwrapPadded(key, unhex(t, wrapped))
		if err != nil || hex.EncodeToString(got) != plain {
			t.Errorf("got %x, %v, want %s", got, err, plain)
		}
	}
}

// wrapRaw is W of RFC 5649 over an integrity value and a padded plaintext, so
// that a test can make what no honest wrapper would.
func wrapRaw(t testing.TB, key []byte, aiv [8]byte, padded []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	out := append(aiv[:], padded...)
	if len(out) == aes.BlockSize {
		block.Encrypt(out, out)
		return out
	}
	n := len(padded) / 8
	for step := 1; step <= 6*n; step++ {
		r := out[8+(step-1)%n*8:][:8]
		var b [16]byte
		copy(b[:], out[:8])
		copy(b[8:], r)
		block.Encrypt(b[:], b[:])
		binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b[:])^uint64(step))
		copy(r, b[8:])
	}
	return out
}

func integrity(length int) (aiv [8]byte) {
	copy(aiv[:], []byte{0xa6, 0x59, 0x59, 0xa6})
	binary.BigEndian.PutUint32(aiv[4:], uint32(length))
	return aiv
}

func TestUnwrapPaddedEveryLength(t *testing.T) {
	key := make([]byte, 32)
	rand.Read(key)
	for length := 1; length <= 80; length++ {
		plain := make([]byte, length)
		rand.Read(plain)
		padded := append(bytes.Clone(plain), make([]byte, (8-length%8)%8)...)
		wrapped := wrapRaw(t, key, integrity(length), padded)
		before := bytes.Clone(wrapped)
		got, err := hsm.UnwrapPadded(key, wrapped)
		if err != nil || !bytes.Equal(got, plain) || !bytes.Equal(wrapped, before) {
			t.Fatalf("%d bytes: %v", length, err)
		}
		for bit := range len(wrapped) * 8 {
			wrapped[bit/8] ^= 1 << (bit % 8)
			if _, err := hsm.UnwrapPadded(key, wrapped); !errors.Is(err, hsm.ErrKnownWrap) {
				t.Fatalf("%d bytes: bit %d was changed: %v", length, bit, err)
			}
			wrapped[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// What only a holder of the key can make, and is not RFC 5649.
func TestUnwrapPaddedIsStrict(t *testing.T) {
	key := make([]byte, 32)
	padded := make([]byte, 24)
	copy(padded, "seventeen bytes!!")
	other := integrity(17)
	other[3] ^= 1
	first := integrity(17)
	first[0] ^= 0x80
	dirty := bytes.Clone(padded)
	dirty[23] = 1
	for name, wrapped := range map[string][]byte{
		"another constant":            wrapRaw(t, key, other, padded),
		"another first bit":           wrapRaw(t, key, first, padded),
		"padding that is not zero":    wrapRaw(t, key, integrity(17), dirty),
		"a length of 0":               wrapRaw(t, key, integrity(0), padded),
		"a whole semi-block too much": wrapRaw(t, key, integrity(16), padded),
		"longer than it is":           wrapRaw(t, key, integrity(25), padded),
		"a length of 2^31":            wrapRaw(t, key, integrity(1<<31|17), padded),
		"a length of 2^32-1":          wrapRaw(t, key, integrity(1<<32-1), padded),
		"RFC 3394":                    wrapRaw(t, key, [8]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}, padded),
		"one block, a length of 9":    wrapRaw(t, key, integrity(9), padded[:8]),
		"one block, a length of 0":    wrapRaw(t, key, integrity(0), make([]byte, 8)),
		"nothing":                     nil,
		"one semi-block":              make([]byte, 8),
		"half a semi-block too much":  make([]byte, 20),
		"longer than any key":         make([]byte, 4096),
	} {
		if got, err := hsm.UnwrapPadded(key, wrapped); !errors.Is(err, hsm.ErrKnownWrap) || got != nil {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	if _, err := hsm.UnwrapPadded(key, wrapRaw(t, key, integrity(17), padded)); err != nil {
		t.Errorf("the sound one: %v", err)
	}
	if _, err := hsm.UnwrapPadded(key[:31], make([]byte, 32)); err == nil {
		t.Error("a key of 31 bytes")
	}
}

// Parts of the encodings, in hexadecimal.
const (
	algorithm = "301006072a8648ce3d020106052b8104000a"
	scalarHex = "00c6b3d3d5b2e1f00102030405060708090a0b0c0d0e0f101112131415161718"
	order     = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
	pointHex  = "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
)

// der puts a head of one or two bytes of length before hexadecimal content.
func der(tag, content string) string {
	n := len(content) / 2
	if n < 128 {
		return tag + hex.EncodeToString([]byte{byte(n)}) + content
	}
	return tag + "81" + hex.EncodeToString([]byte{byte(n)}) + content
}

func keyInfo(version, algorithm, ec, more string) string {
	return der("30", version+algorithm+der("04", ec)+more)
}

func TestParsePrivateKey(t *testing.T) {
	const zero, one = "020100", "020101"
	key := der("04", scalarHex)
	sec1 := der("30", one+key)
	named := der("a0", "06052b8104000a")
	public := der("a1", der("03", "00"+pointHex))
	good := map[string]string{
		"as SoftHSM has it":     keyInfo(zero, algorithm, sec1, ""),
		"with the curve":        keyInfo(zero, algorithm, der("30", one+key+named), ""),
		"with the public key":   keyInfo(zero, algorithm, der("30", one+key+public), ""),
		"with both":             keyInfo(zero, algorithm, der("30", one+key+named+public), ""),
		"with a compressed one": keyInfo(zero, algorithm, der("30", one+key+der("a1", der("03", "00"+"02"+pointHex[2:66]))), ""),
	}
	for name, text := range good {
		var scalar [32]byte
		if err := hsm.ParsePrivateKey(unhex(t, text), &scalar); err != nil || hex.EncodeToString(scalar[:]) != scalarHex {
			t.Errorf("%s: %x, %v", name, scalar, err)
		}
	}
	bad := map[string]string{
		"nothing": "", "bytes behind the end": keyInfo(zero, algorithm, sec1, "") + "00",
		"bytes behind the key":     keyInfo(zero, algorithm, sec1+"00", ""),
		"attributes":               keyInfo(zero, algorithm, sec1, der("a0", "")),
		"version 1":                keyInfo(one, algorithm, sec1, ""),
		"a long version":           keyInfo("02020000", algorithm, sec1, ""),
		"SEC 1 version 0":          keyInfo(zero, algorithm, der("30", zero+key), ""),
		"another curve":            keyInfo(zero, "301306072a8648ce3d020106082a8648ce3d030107", sec1, ""),
		"RSA":                      keyInfo(zero, "300d06092a864886f70d0101010500", sec1, ""),
		"31 bytes":                 keyInfo(zero, algorithm, der("30", one+der("04", scalarHex[2:])), ""),
		"33 bytes":                 keyInfo(zero, algorithm, der("30", one+der("04", "00"+scalarHex)), ""),
		"the scalar as an INTEGER": keyInfo(zero, algorithm, der("30", one+der("02", scalarHex)), ""),
		"0":                        keyInfo(zero, algorithm, der("30", one+der("04", hex.EncodeToString(make([]byte, 32)))), ""),
		"n":                        keyInfo(zero, algorithm, der("30", one+der("04", order)), ""),
		"above n":                  keyInfo(zero, algorithm, der("30", one+der("04", hex.EncodeToString(bytes.Repeat([]byte{0xff}, 32)))), ""),
		"another named curve":      keyInfo(zero, algorithm, der("30", one+key+der("a0", "06082a8648ce3d030107")), ""),
		"a short public key":       keyInfo(zero, algorithm, der("30", one+key+der("a1", der("03", "00"+pointHex[2:]))), ""),
		"the two in another order": keyInfo(zero, algorithm, der("30", one+key+public+named), ""),
		"one more member":          keyInfo(zero, algorithm, der("30", one+key+named+public+"0500"), ""),
		"an indefinite length":     "3080" + keyInfo(zero, algorithm, sec1, "")[4:] + "0000",
	}
	for name, text := range bad {
		scalar := [32]byte{1}
		if err := hsm.ParsePrivateKey(unhex(t, text), &scalar); !errors.Is(err, hsm.ErrKnownWrap) || scalar != [32]byte{} {
			t.Errorf("%s: %x, %v", name, scalar, err)
		}
	}
	whole := unhex(t, good["with both"])
	for n := range whole {
		var scalar [32]byte
		if err := hsm.ParsePrivateKey(whole[:n], &scalar); !errors.Is(err, hsm.ErrKnownWrap) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}
