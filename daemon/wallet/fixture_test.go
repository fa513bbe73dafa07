package wallet_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/daemon/wallet"
)

// scriptedToken is a token whose randomness and answers a test chooses. It
// does in software what hsm does in a PKCS#11 module.
type scriptedToken struct {
	mu       sync.Mutex
	roots    [][]byte // scalars of the next roots; random when empty
	objects  map[int]any
	next     int
	wrapKey  [32]byte
	pin      [32]byte
	host     [32]byte
	record   [32]byte
	identity *ecdsa.PrivateKey

	sign    func(d *ecdsa.PrivateKey, digest [32]byte) ([64]byte, error) // nil: honest
	fail    map[string]error                                             // by method
	spared  map[string]int                                               // calls that go well before fail
	during  map[string]func()                                            // runs in a method, without the lock
	calls   []string
	fed     []byte
	secrets [][]byte // copies of what ImportSecret got
	doubted []error  // what Distrust was told
	wiped   [][]byte // the very memory that callers must have wiped in the end
	masks   *masks   // of secrets that only the service has; nil: nobody looks for them
	bent    bool     // roots have a point that is not on the curve

	exportable map[int]bool // objects that were unwrapped as exportable roots
	spoil      bool         // ExportRoot gives another key
}

func newToken(t testing.TB) *scriptedToken {
	t.Helper()
	k := &scriptedToken{objects: map[int]any{}, fail: map[string]error{}, spared: map[string]int{}, exportable: map[int]bool{}}
	for _, b := range [][]byte{k.wrapKey[:], k.pin[:], k.host[:], k.record[:]} {
		rand.Read(b)
	}
	identity, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k.identity = identity
	return k
}

func (k *scriptedToken) enter(method string) error {
	k.calls = append(k.calls, method)
	if k.fail[method] != nil && k.spared[method] > 0 {
		k.spared[method]--
		return nil
	}
	return k.fail[method]
}

func (k *scriptedToken) add(v any) wallet.Object {
	k.next++
	k.objects[k.next] = v
	return k.next
}

func (k *scriptedToken) Keys() seal.KeyIDs     { return seal.KeyIDs{Token: 1, Host: 1} }
func (k *scriptedToken) Mechanism() uint64     { return 0x210b }
func (k *scriptedToken) Custody() seal.Custody { return seal.CustodyToken }

func (k *scriptedToken) GenerateRoot(context.Context) (o wallet.Object, p [65]byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.enter("GenerateRoot"); err != nil {
		return nil, p, err
	}
	var d *ecdsa.PrivateKey
	if len(k.roots) > 0 {
		d, err = crypto.ToECDSA(k.roots[0])
		k.roots = k.roots[1:]
	} else {
		d, err = crypto.GenerateKey()
	}
	if err != nil {
		return nil, p, err
	}
	p = [65]byte(crypto.FromECDSAPub(&d.PublicKey))
	if k.bent {
		p[64] ^= 1
	}
	return k.add(d), p, nil
}

func (k *scriptedToken) ImportSecret(_ context.Context, secret []byte) (wallet.Object, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.enter("ImportSecret"); err != nil {
		return nil, err
	}
	own := append([]byte(nil), secret...)
	k.secrets = append(k.secrets, own)
	return k.add(own), nil
}

func (k *scriptedToken) CanImport(context.Context) error { return k.fail["CanImport"] }
func (k *scriptedToken) CanExport(context.Context) error { return k.fail["CanExport"] }

func (k *scriptedToken) ImportRoot(_ context.Context, scalar *[32]byte) (o wallet.Object, p [65]byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.enter("ImportRoot"); err != nil {
		return nil, p, err
	}
	d, err := crypto.ToECDSA(scalar[:])
	if err != nil {
		return nil, p, err
	}
	return k.add(d), [65]byte(crypto.FromECDSAPub(&d.PublicKey)), nil
}

// ExportRoot gives out only what was unwrapped as exportable.
func (k *scriptedToken) ExportRoot(_ context.Context, o wallet.Object, scalar *[32]byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.enter("ExportRoot"); err != nil {
		return err
	}
	if !k.exportable[o.(int)] {
		return errors.New("not extractable")
	}
	copy(scalar[:], crypto.FromECDSA(k.objects[o.(int)].(*ecdsa.PrivateKey)))
	if k.spoil {
		scalar[31] ^= 1
	}
	return nil
}

func (k *scriptedToken) aead() cipher.AEAD {
	block, _ := aes.NewCipher(k.wrapKey[:])
	aead, _ := cipher.NewGCMWithRandomNonce(block)
	return aead
}

func (k *scriptedToken) Wrap(_ context.Context, _ seal.KeyIDs, c wallet.Class, o wallet.Object) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.enter("Wrap"); err != nil {
		return nil, err
	}
	var plain []byte
	switch v := k.objects[o.(int)].(type) {
	case *ecdsa.PrivateKey:
		plain = crypto.FromECDSA(v)
	case []byte:
		plain = v
	}
	wrapped := k.aead().Seal(nil, nil, plain, []byte{byte(c)})
	k.wiped = append(k.wiped, wrapped)
	k.masks.addWrapped(wrapped)
	return wrapped, nil
}

func (k *scriptedToken) Unwrap(_ context.Context, _ seal.KeyIDs, _ uint64, c wallet.Class, wrapped []byte) (wallet.Object, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wiped = append(k.wiped, wrapped)
	if err := k.enter("Unwrap"); err != nil {
		return nil, err
	}
	plain, err := k.aead().Open(nil, nil, wrapped, []byte{byte(c)})
	if err != nil {
		return nil, errors.New("wrapped key refused")
	}
	if c == wallet.Derivation || c == wallet.ExportableDerivation {
		return k.add(plain), nil
	}
	d, err := crypto.ToECDSA(plain)
	if err != nil {
		return nil, err
	}
	k.exportable[k.next+1] = c == wallet.ExportableRoot
	return k.add(d), nil
}

func (k *scriptedToken) Distrust(cause error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.doubted = append(k.doubted, cause)
}

func (k *scriptedToken) HMACSHA512(_ context.Context, o wallet.Object, data []byte, out *[64]byte) error {
	if do := k.during["HMACSHA512"]; do != nil {
		do()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wiped = append(k.wiped, out[:])
	if err := k.enter("HMACSHA512"); err != nil {
		return err
	}
	m := hmac.New(sha512.New, k.objects[o.(int)].([]byte))
	m.Write(data)
	m.Sum(out[:0])
	k.masks.addTweak(out)
	return nil
}

func (k *scriptedToken) SignECDSA(_ context.Context, o wallet.Object, digest [32]byte) (out [64]byte, err error) {
	if do := k.during["SignECDSA"]; do != nil {
		do()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.enter("SignECDSA"); err != nil {
		return out, err
	}
	d := k.objects[o.(int)].(*ecdsa.PrivateKey)
	if k.sign != nil {
		return k.sign(d, digest)
	}
	return signHonestly(d, digest)
}

func signHonestly(d *ecdsa.PrivateKey, digest [32]byte) (out [64]byte, err error) {
	sig, err := crypto.Sign(digest[:], d)
	if err != nil {
		return out, err
	}
	return [64]byte(sig[:64]), nil
}

// highS gives the other valid signature, as half of all tokens' answers are.
func highS(d *ecdsa.PrivateKey, digest [32]byte) (out [64]byte, err error) {
	if out, err = signHonestly(d, digest); err != nil {
		return out, err
	}
	s := new(big.Int).SetBytes(out[32:])
	s.Sub(crypto.S256().Params().N, s).FillBytes(out[32:])
	return out, nil
}

func (k *scriptedToken) Destroy(_ context.Context, objects ...wallet.Object) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range objects {
		delete(k.objects, o.(int))
	}
	return k.enter("Destroy")
}

func (k *scriptedToken) FeedRandom(_ context.Context, feed []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fed = append([]byte(nil), feed...)
	return k.enter("FeedRandom")
}

func (k *scriptedToken) RecordMAC(_ context.Context, message []byte) ([32]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return mac(k.record[:], message), k.enter("RecordMAC")
}

func (k *scriptedToken) SignReceipt(_ context.Context, digest [32]byte) ([]byte, error) {
	return ecdsa.SignASN1(rand.Reader, k.identity, digest[:])
}

func (k *scriptedToken) Factors(seal.KeyIDs) (seal.Factors, error) { return k, nil }

func (k *scriptedToken) Pepper(_ context.Context, message []byte, out *[32]byte) error {
	if do := k.during["Pepper"]; do != nil {
		do()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	*out = mac(k.pin[:], message)
	return k.enter("Pepper")
}

func (k *scriptedToken) Host(_ context.Context, message []byte, out *[32]byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	*out = mac(k.host[:], message)
	k.masks.addKey(message, out)
	return k.enter("Host")
}

func mac(key, message []byte) [32]byte {
	m := hmac.New(sha256.New, key)
	m.Write(message)
	return [32]byte(m.Sum(nil))
}

// scriptedEntropy gives a fixed seed, a random one, or an error. It keeps what it
// gave, to see whether that is wiped.
type scriptedEntropy struct {
	seed *[64]byte // random when nil
	err  error
	mu   sync.Mutex
	made []*ownSeed
}

func (e *scriptedEntropy) Seed(context.Context, seal.ID) (wallet.Seed, error) {
	if e.err != nil {
		return nil, e.err
	}
	s := &ownSeed{}
	rand.Read(s.feed[:])
	e.mu.Lock()
	e.made = append(e.made, s)
	e.mu.Unlock()
	if e.seed != nil {
		s.seed = *e.seed
	} else {
		rand.Read(s.seed[:])
	}
	return s, nil
}

func (e *scriptedEntropy) Dropped() []string { return nil }

// ownSeed is a seed that shows whether it was wiped.
type ownSeed struct{ seed, feed [64]byte }

func (s *ownSeed) Bytes() []byte          { return s.seed[:] }
func (s *ownSeed) TokenFeed() []byte      { return s.feed[:] }
func (s *ownSeed) Sources() []seal.Source { return []seal.Source{{Name: "scripted", Count: 64}} }
func (s *ownSeed) Wipe()                  { clear(s.seed[:]); clear(s.feed[:]) }

// bench is a service on scripted parts and a real database.
type bench struct {
	*wallet.Service
	token   *scriptedToken
	entropy *scriptedEntropy
	store   *brittleStore
	steps   *memoryCounter
	passed  error // of settling a passed charge
	audit   *memoryAudit
	peer    wallet.Peer
	now     time.Time
	allowed wallet.Allowed
}

var testKDF = seal.Argon2{Time: 1, Memory: 8 * 1024, Threads: 1}

func newBench(t testing.TB) *bench {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "test.db"), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{token: newToken(t), entropy: &scriptedEntropy{}, audit: &memoryAudit{},
		peer: wallet.Peer{UID: 1000}, now: time.Unix(1_800_000_000, 0)}
	ledger, steps := newLedger(t, db, b.token.RecordMAC)
	b.steps = steps
	b.store = &brittleStore{db.Wallets(ledger), map[string]error{}}
	clock := func() time.Time { return b.now }
	times := guard.Clock{Wall: clock, Powered: func() time.Duration { return time.Duration(b.now.UnixNano()) }}
	b.Service = wallet.New(wallet.Config{
		Installation: seal.ID{1}, Token: b.token, Entropy: b.entropy,
		Guard: guardPort{guard.New(ledger, b.token.RecordMAC, times), &b.passed}, Store: b.store, Audit: b.audit,
		Now: clock, KDF: testKDF, Limits: seal.DefaultLimits(), Checks: 2, Waiting: 8, MaxUnlocks: 6, UnlocksOfUID: 4, PerMinute: 60,
		Allowed: func() wallet.Allowed { return b.allowed },
	})
	b.token.calls = nil // those of the ledger's start
	return b
}

const goodPIN = "402916"

func (b *bench) create(t testing.TB, request string) *wallet.Created {
	t.Helper()
	c, err := b.Create(context.Background(), b.creation(request))
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	return c
}

func (b *bench) creation(request string) *wallet.CreateRequest {
	return &wallet.CreateRequest{Peer: b.peer, RequestID: request, Owner: "user-1",
		Policy: policy.Default(), PIN: []byte(goodPIN), Digest: sha256.Sum256([]byte(request))}
}

func (b *bench) objectsLeft() error {
	b.token.mu.Lock()
	defer b.token.mu.Unlock()
	if n := len(b.token.objects); n != 0 {
		return fmt.Errorf("%d session objects left in the token", n)
	}
	return nil
}
