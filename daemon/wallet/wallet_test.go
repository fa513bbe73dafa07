package wallet_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

func message(b *bench, id seal.ID, account uint32, pin string, digest [32]byte) *wallet.SignRequest {
	return &wallet.SignRequest{Peer: b.peer, Wallet: id, PIN: []byte(pin),
		Items: []wallet.Item{{Account: account, Digest: digest, Facts: policy.Facts{Operation: policy.Message}}}}
}

// signed is one signature and what the user is told of the attempts.
type signed struct {
	*wallet.Signed
	Attempts wallet.Attempts
}

// sign asks for one signature.
func (b *bench) sign(r *wallet.SignRequest) (*signed, error) {
	list, a, err := b.Service.Sign(context.Background(), r)
	if err != nil {
		return nil, err
	}
	return &signed{list[0], a}, nil
}

// expected computes an account's key from a root and a seed with math/big,
// apart from the code under test.
func expected(t *testing.T, root, seed []byte, index uint32) *ecdsa.PublicKey {
	t.Helper()
	m := hmac.New(sha512.New, seed)
	m.Write([]byte("sigild/account/v1"))
	m.Write([]byte{9})
	m.Write([]byte("secp256k1"))
	m.Write(binary.BigEndian.AppendUint32(nil, index))
	n := crypto.S256().Params().N
	tweak := new(big.Int).Mod(new(big.Int).SetBytes(m.Sum(nil)), n)
	d := new(big.Int).Mul(tweak, new(big.Int).SetBytes(root))
	key, err := crypto.ToECDSA(d.Mod(d, n).FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return &key.PublicKey
}

func scalar(b byte) []byte {
	s := sha256.Sum256([]byte{b})
	return s[:]
}

func TestPublicKeyIsTweakTimesRoot(t *testing.T) {
	b := newBench(t)
	b.token.roots = [][]byte{scalar(1), scalar(2)}
	b.entropy.seed = &[64]byte{0: 7, 63: 9}
	c := b.create(t, "r1")
	want := expected(t, scalar(1), b.entropy.seed[:], 0)
	if got := c.Info.Header.Accounts[0]; string(got.Public) != string(crypto.CompressPubkey(want)) {
		t.Errorf("account 0: public key %x, want %x", got.Public, crypto.CompressPubkey(want))
	}
	d, err := b.Derive(context.Background(), &wallet.DeriveRequest{Peer: b.peer, Count: 1, RequestID: "d1",
		Wallet: c.Info.Header.Wallet, PIN: []byte(goodPIN)})
	if err != nil {
		t.Fatal(err)
	}
	want = expected(t, scalar(2), b.entropy.seed[:], 1)
	if string(d.Accounts[0].Public) != string(crypto.CompressPubkey(want)) {
		t.Errorf("account 1: public key %x, want %x", d.Accounts[0].Public, crypto.CompressPubkey(want))
	}
	if addr := crypto.PubkeyToAddress(*want); [20]byte(d.Accounts[0].Address) != addr {
		t.Errorf("account 1: address %x, want %x", d.Accounts[0].Address, addr)
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
}

func TestEqualInputsGiveEqualAddress(t *testing.T) {
	address := func(root []byte, seed [64]byte) string {
		b := newBench(t)
		b.token.roots = [][]byte{root}
		b.entropy.seed = &seed
		return string(b.create(t, "r").Info.Header.Accounts[0].Address)
	}
	base := address(scalar(1), [64]byte{1})
	if address(scalar(1), [64]byte{1}) != base {
		t.Error("equal inputs gave another address")
	}
	if address(scalar(2), [64]byte{1}) == base {
		t.Error("another token root gave the same address")
	}
	if address(scalar(1), [64]byte{0: 1, 63: 1}) == base {
		t.Error("another seed gave the same address")
	}
}

func TestSignature(t *testing.T) {
	for name, sign := range map[string]func(*ecdsa.PrivateKey, [32]byte) ([64]byte, error){
		"low S": signHonestly, "high S": highS,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.token.sign = sign
			c := b.create(t, "r")
			digest := sha256.Sum256([]byte(name))
			s, err := b.sign(message(b, c.Info.Header.Wallet, 0, goodPIN, digest))
			if err != nil {
				t.Fatal(err)
			}
			checkSignature(t, s, digest)
			if err := b.objectsLeft(); err != nil {
				t.Error(err)
			}
		})
	}
}

func checkSignature(t *testing.T, s *signed, digest [32]byte) {
	t.Helper()
	sig := append(append(append([]byte{}, s.R[:]...), s.S[:]...), s.RecoveryID)
	key, err := crypto.SigToPub(digest[:], sig)
	if err != nil {
		t.Fatal(err)
	}
	if crypto.PubkeyToAddress(*key) != s.Address {
		t.Errorf("recovered %x, want %x", crypto.PubkeyToAddress(*key), s.Address)
	}
	half := new(big.Int).Rsh(crypto.S256().Params().N, 1)
	if new(big.Int).SetBytes(s.S[:]).Cmp(half) > 0 {
		t.Error("S is high")
	}
	if !crypto.VerifySignature(crypto.FromECDSAPub(key), digest[:], sig[:64]) {
		t.Error("does not verify")
	}
}

func TestWrongPIN(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	for left := uint32(9); ; left-- {
		_, err := b.sign(message(b, id, 0, "775533", [32]byte{1}))
		var wrong *wallet.PINError
		if !errors.As(err, &wrong) || wrong.Attempts.Left != left {
			t.Fatalf("error %v, want %d attempts left", err, left)
		}
		b.now = b.now.Add(wrong.Attempts.Wait)
		if left == 0 {
			break
		}
	}
	_, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1}))
	if !errors.Is(err, guard.ErrLocked) {
		t.Errorf("the right PIN after ten wrong ones: %v, want ErrLocked", err)
	}
}

func TestRightPINClearsFailuresInARow(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	for range 3 {
		if _, err := b.sign(message(b, id, 0, "775533", [32]byte{1})); err == nil {
			t.Fatal("a wrong PIN signed")
		}
	}
	s, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	if s.Attempts.Failures != 3 || s.Attempts.Left != 10 {
		t.Errorf("attempts %+v, want 3 failures before and 10 left", s.Attempts)
	}
}

// A fault of a device is not a wrong PIN: it costs nothing.
func TestFaultsCostNoAttempt(t *testing.T) {
	for _, method := range []string{"Pepper", "Host", "RecordMAC", "Unwrap", "HMACSHA512", "SignECDSA"} {
		t.Run(method, func(t *testing.T) {
			b := newBench(t)
			id := b.create(t, "r").Info.Header.Wallet
			gone := errors.New("the device is away")
			b.token.fail[method] = gone
			for range 12 {
				if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); !errors.Is(err, gone) {
					t.Fatalf("error %v, want the device's", err)
				}
			}
			delete(b.token.fail, method)
			s, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1}))
			if err != nil || s.Attempts.Left != 10 || s.Attempts.Failures != 0 {
				t.Errorf("after the fault: %+v, %v", s, err)
			}
			if err := b.objectsLeft(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNothingWrongLeaves(t *testing.T) {
	other, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		sign func(*ecdsa.PrivateKey, [32]byte) ([64]byte, error)
		want error
	}{
		"of another key": {func(_ *ecdsa.PrivateKey, z [32]byte) ([64]byte, error) { return signHonestly(other, z) }, wallet.ErrToken},
		"of another digest": {func(d *ecdsa.PrivateKey, z [32]byte) ([64]byte, error) {
			z[0] ^= 1
			return signHonestly(d, z)
		}, wallet.ErrToken},
		"zero":     {func(*ecdsa.PrivateKey, [32]byte) ([64]byte, error) { return [64]byte{}, nil }, wallet.ErrToken},
		"overflow": {func(*ecdsa.PrivateKey, [32]byte) (s [64]byte, err error) { return [64]byte{0: 0xff, 32: 0xff}, nil }, wallet.ErrToken},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			id := b.create(t, "r").Info.Header.Wallet
			b.token.sign = c.sign
			doubted := b.doubtedBeforeItsLine()
			if s, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); !errors.Is(err, c.want) || !errors.Is(*doubted, c.want) {
				t.Errorf("signature %v, error %v, and the token was taken out of service for %v, want %v", s, err, *doubted, c.want)
			}
		})
	}
}

func TestRepeatedNonceIsRefused(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	n := crypto.S256().Params().N
	k := big.NewInt(12345) // the nonce of every signature
	x, _ := crypto.S256().ScalarBaseMult(k.Bytes())
	b.token.sign = func(d *ecdsa.PrivateKey, z [32]byte) (out [64]byte, err error) {
		s := new(big.Int).Mul(x, new(big.Int).SetBytes(crypto.FromECDSA(d)))
		s.Add(s, new(big.Int).SetBytes(z[:]))
		s.Mul(s, new(big.Int).ModInverse(k, n)).Mod(s, n)
		x.FillBytes(out[:32])
		s.FillBytes(out[32:])
		return out, nil
	}
	if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); err != nil {
		t.Fatalf("first signature: %v", err)
	}
	if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); err != nil {
		t.Errorf("the same digest with the same nonce is the same signature: %v", err)
	}
	if len(b.token.doubted) != 0 {
		t.Errorf("a good token was taken out of service: %v", b.token.doubted)
	}
	doubted := b.doubtedBeforeItsLine()
	if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{2})); !errors.Is(err, wallet.ErrNonceReused) {
		t.Errorf("another digest with the same nonce: %v, want ErrNonceReused", err)
	}
	if !errors.Is(*doubted, wallet.ErrNonceReused) {
		t.Errorf("the token was not taken out of service before the refusal had its line: %v", *doubted)
	}
}

// doubtedBeforeItsLine tells why the token was taken out of service, if it was
// when the next audit line came: writing one may take its time, and other requests
// sign meanwhile.
func (b *bench) doubtedBeforeItsLine() *error {
	var cause error
	b.audit.before = func(wallet.Event) {
		b.token.mu.Lock()
		defer b.token.mu.Unlock()
		cause = errors.Join(b.token.doubted...)
	}
	return &cause
}

func TestNoSignatureWithoutAudit(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	terms := anything()
	terms.Signatures = 1
	if _, err := b.unlock(id, goodPIN, terms); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	b.audit.err = full
	for by, r := range map[string]*wallet.SignRequest{
		"PIN": message(b, id, 0, goodPIN, [32]byte{1}), "unlock": unlocked(b, id, text, 1),
	} {
		if s, err := b.sign(r); s != nil || !errors.Is(err, full) {
			t.Errorf("by %s: signature %v, error %v", by, s, err)
		}
	}
	b.audit.err = nil
	if _, err := b.sign(unlocked(b, id, text, 1)); err != nil {
		t.Errorf("what did not leave used the unlock up: %v", err)
	}
}

func TestRefusedBeforeCharge(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	other := *b
	other.peer.UID = 1001
	raw := message(b, id, 0, goodPIN, [32]byte{1})
	raw.Items[0].Facts.Operation = policy.RawDigest
	sender := message(b, id, 0, goodPIN, [32]byte{1})
	sender.Items[0].Sender = &[20]byte{1}
	none := message(b, id, 0, goodPIN, [32]byte{1})
	none.Items[0].Facts = policy.Facts{}
	var denied *wallet.DeniedError
	for name, c := range map[string]struct {
		request *wallet.SignRequest
		check   func(error) bool
	}{
		"another relay":   {message(&other, id, 0, goodPIN, [32]byte{1}), is(wallet.ErrNotFound)},
		"unknown wallet":  {message(b, seal.ID{9}, 0, goodPIN, [32]byte{1}), is(wallet.ErrNotFound)},
		"unknown account": {message(b, id, 1, goodPIN, [32]byte{1}), is(wallet.ErrNotFound)},
		"raw digest":      {raw, func(err error) bool { return errors.As(err, &denied) }},
		"no facts":        {none, func(err error) bool { return err != nil }},
		"another sender":  {sender, is(wallet.ErrSender)},
		"short PIN":       {message(b, id, 0, "12345", [32]byte{1}), is(seal.ErrPINSyntax)},
	} {
		if _, err := b.sign(c.request); !c.check(err) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	info, err := b.Get(context.Background(), b.peer, id)
	if err != nil || info.Attempts.Left != 10 {
		t.Errorf("attempts %+v, %v: a refusal was charged", info, err)
	}
}

// A request that names its account by the address reads and authenticates the
// record once, as one that names it by its number.
func TestSignByAddressReadsTheRecordOnce(t *testing.T) {
	b := newBench(t)
	c := b.create(t, "r")
	id, address := c.Info.Header.Wallet, [20]byte(c.Info.Header.Accounts[0].Address)
	if _, err := b.Derive(t.Context(), &wallet.DeriveRequest{Peer: b.peer, Count: 1, RequestID: "d", Wallet: id, PIN: []byte(goodPIN)}); err != nil {
		t.Fatal(err)
	}
	terms := anything()
	terms.Accounts = []uint32{0, 1}
	if _, err := b.unlock(id, goodPIN, terms); err != nil {
		t.Fatal(err)
	}
	other := *b
	other.peer.UID = 7
	for _, pin := range [][]byte{nil, []byte(goodPIN)} {
		r := unlocked(b, id, text, 1)
		r.PIN, r.Items[0].Account, r.Items[0].Address = pin, 9, &address
		found, err := b.ByAddress(t.Context(), b.peer, address)
		if err != nil || found != id {
			t.Fatalf("%x, %v", found, err)
		}
		counted := &countedRecords{Store: b.store}
		b.Service.Store = counted
		s, err := b.sign(r)
		b.Service.Store = b.store
		if err != nil || s.Address != address || counted.reads != 1 {
			t.Errorf("PIN %q: %v, %v, the record was read %d times", pin, s, err, counted.reads)
		}
		stranger := unlocked(&other, id, text, 1)
		stranger.PIN, stranger.Items[0].Address = pin, &address
		if _, err := b.sign(stranger); !errors.Is(err, wallet.ErrNotFound) {
			t.Errorf("PIN %q of another relay: %v", pin, err)
		}
		r.Items[0].Address = &[20]byte{1}
		if _, err := b.sign(r); !errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("PIN %q, an address that the index has and the record has not: %v", pin, err)
		}
	}
}

type countedRecords struct {
	wallet.Store
	reads int
}

func (c *countedRecords) Record(ctx context.Context, id seal.ID) ([]byte, error) {
	c.reads++
	return c.Store.Record(ctx, id)
}

// What is dear to look at is looked at for the owner only, and costs no attempt.
func TestVerifyComesAfterTheOwnerAndBeforeTheCharge(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	looked, bad := 0, errors.New("an authorization that nobody signed")
	verify := func(account uint32) error { looked++; return bad }
	other := *b
	other.peer.UID = 7
	stranger, denied := message(&other, id, 0, goodPIN, [32]byte{1}), message(b, id, 0, goodPIN, [32]byte{1})
	denied.Items[0].Facts.Operation = policy.RawDigest
	for name, r := range map[string]*wallet.SignRequest{"another relay's": stranger, "one that the policy denies": denied} {
		r.Items[0].Verify = verify
		if _, err := b.sign(r); err == nil || looked != 0 {
			t.Errorf("%s: %v, looked at", name, err)
		}
	}
	r := message(b, id, 0, "775533", [32]byte{1})
	r.Items[0].Verify = verify
	if _, err := b.sign(r); !errors.Is(err, bad) || looked != 1 {
		t.Errorf("%v, looked at %d times", err, looked)
	}
	if info, err := b.Get(t.Context(), b.peer, id); err != nil || info.Attempts.Left != 10 {
		t.Errorf("%+v, %v: it was charged", info, err)
	}
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func TestZeroDigest(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	order := [32]byte(crypto.S256().Params().N.FillBytes(make([]byte, 32)))
	for _, z := range [][32]byte{{}, order} {
		if _, err := b.sign(message(b, id, 0, goodPIN, z)); !errors.Is(err, wallet.ErrDigest) {
			t.Errorf("digest %x: %v, want ErrDigest", z, err)
		}
	}
}
