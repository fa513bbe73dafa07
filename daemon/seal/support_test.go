package seal_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
)

const vectorFolder = "../../testdata/vectors"

// hexBytes are bytes that a vector writes in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

// id gives the bytes as an ID, or ends the test.
func (h hexBytes) id(t testing.TB) seal.ID {
	t.Helper()
	if len(h) != len(seal.ID{}) {
		t.Fatalf("an id has %d bytes", len(h))
	}
	return seal.ID(h)
}

// readVectors reads a file of vectors, which must say where they come from.
func readVectors(t testing.TB, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectorFolder, name))
	if err != nil {
		t.Fatal(err)
	}
	var origin struct{ Source string }
	if err := json.Unmarshal(data, &origin); err != nil || origin.Source == "" {
		t.Fatalf("%s names no source: %v", name, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

type argon2Vector struct {
	Time    uint32
	Memory  uint32
	Threads uint8
	Salt    hexBytes
}

func (a argon2Vector) argon2() seal.Argon2 {
	return seal.Argon2{Time: a.Time, Memory: a.Memory, Threads: a.Threads, Salt: a.Salt}
}

// hmacSHA256 is the MAC of a token whose record key is key.
func hmacSHA256(key []byte) seal.MAC {
	return func(_ context.Context, message []byte) ([32]byte, error) {
		m := hmac.New(sha256.New, key)
		m.Write(message)
		return [32]byte(m.Sum(nil)), nil
	}
}

// scriptedFactors are the two devices in software. It keeps the very slices
// that it was given and filled, to see whether they are wiped, and copies of the
// first.
type scriptedFactors struct {
	token, host            []byte
	tokenErr, hostErr      error
	given, copies, results [][]byte
}

func newFactors() *scriptedFactors {
	return &scriptedFactors{token: random(32), host: random(32)}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func (f *scriptedFactors) Pepper(ctx context.Context, message []byte, h1 *[32]byte) error {
	return f.answer(ctx, f.token, message, h1, f.tokenErr)
}

func (f *scriptedFactors) Host(ctx context.Context, message []byte, h2 *[32]byte) error {
	return f.answer(ctx, f.host, message, h2, f.hostErr)
}

func (f *scriptedFactors) answer(ctx context.Context, key, message []byte, out *[32]byte, err error) error {
	f.given = append(f.given, message)
	f.copies = append(f.copies, append([]byte{}, message...))
	if err == nil {
		*out, err = hmacSHA256(key)(ctx, message)
		f.results = append(f.results, out[:])
	}
	return err
}

// cheap is the least cost that is accepted.
func cheap() seal.Argon2 {
	return seal.Argon2{Time: 1, Memory: 8 * 1024, Threads: 1, Salt: seal.NewSalt()}
}

// newHeader is a header that a new wallet could have.
func newHeader() *seal.Header {
	return &seal.Header{
		Format: seal.Format, Wallet: seal.ID(random(16)), Installation: seal.ID(random(16)), Created: 1_800_000_000,
		Keys: seal.KeyIDs{Token: 1, Host: 1}, Mechanism: 0x210b, KDF: cheap(),
		Accounts: []seal.Account{newAccount(0)}, Relay: 1000, Owner: "user-1", Policy: []byte{0xa0},
		Limits: seal.DefaultLimits(), Sources: []seal.Source{{Name: "tpm", Count: 64, Time: 1_800_000_000}},
	}
}

func newAccount(index uint32) seal.Account {
	return seal.Account{Index: index, Curve: seal.Secp256k1, Public: random(33), Root: random(33),
		Address: random(20), Custody: seal.CustodyToken, Created: 1_800_000_000}
}

func newWrapped(accounts int) *seal.Wrapped {
	w := &seal.Wrapped{Derivation: random(72)}
	for range accounts {
		w.Roots = append(w.Roots, random(72))
	}
	return w
}

// sealed is a wallet's record together with all that opens it.
type sealed struct {
	pin       []byte
	factors   *scriptedFactors
	recordKey []byte
	header    *seal.Header
	wrapped   *seal.Wrapped
	stored    []byte
}

func (s *sealed) mac() seal.MAC { return hmacSHA256(s.recordKey) }

func (s *sealed) parse(t testing.TB) *seal.Parsed {
	t.Helper()
	p, err := seal.Parse(t.Context(), s.stored, s.header.Installation, s.header.Wallet, s.mac())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// key derives the sealing key as a check of a PIN does.
func (s *sealed) key(t testing.TB, pin []byte, wallet seal.ID, a seal.Argon2, f seal.Factors) *seal.Key {
	t.Helper()
	k, err := seal.DeriveKey(t.Context(), pin, wallet, a, f)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newSealed(t testing.TB) *sealed {
	t.Helper()
	s := &sealed{pin: []byte("402916"), factors: newFactors(), recordKey: random(32), header: newHeader(), wrapped: newWrapped(1)}
	header, err := s.header.Encode()
	if err != nil {
		t.Fatal(err)
	}
	box, err := seal.Close(s.key(t, s.pin, s.header.Wallet, s.header.KDF, s.factors), header, s.wrapped)
	if err != nil {
		t.Fatal(err)
	}
	state, err := seal.EncodeState(&seal.State{Revision: 1, Label: "Savings"})
	if err != nil {
		t.Fatal(err)
	}
	r := seal.Record{Header: header, Box: box, State: state}
	if s.stored, err = r.Encode(t.Context(), s.mac()); err != nil {
		t.Fatal(err)
	}
	return s
}
