package wallet_test

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/daemon/wipe"
	"github.com/sigild/sigild/daemon/wipe/wipetest"
)

// request is something that a wallet's PIN is given for; n is different each time.
type request struct {
	name string
	make func(b *bench, id seal.ID, n int) error
}

func requests() []request {
	ctx := context.Background()
	return []request{
		{"create", func(b *bench, _ seal.ID, n int) error {
			_, err := b.Create(ctx, b.creation(fmt.Sprint("new ", n)))
			return err
		}},
		{"derive", func(b *bench, id seal.ID, n int) error {
			_, err := b.Derive(ctx, &wallet.DeriveRequest{Peer: b.peer, Count: 2, RequestID: fmt.Sprint(n), Wallet: id, PIN: []byte(goodPIN)})
			return err
		}},
		{"sign", func(b *bench, id seal.ID, n int) error {
			r := message(b, id, 0, goodPIN, [32]byte{1, byte(n)})
			r.Items = append(r.Items, message(b, id, 1, goodPIN, [32]byte{2, byte(n)}).Items...)
			_, err := b.sign(r)
			return err
		}},
		{"set the policy", func(b *bench, id seal.ID, n int) error {
			_, err := b.SetPolicy(ctx, &wallet.SetPolicyRequest{Peer: b.peer, RequestID: fmt.Sprint(n), Wallet: id,
				Policy: policy.Default(), PIN: []byte(goodPIN)})
			return err
		}},
		{"unlock and lock", func(b *bench, id seal.ID, _ int) error {
			terms := wallet.Terms{Signatures: 1, Duration: time.Minute, Accounts: []uint32{0, 1}, AnyTotal: true,
				AnyClient: true, Rules: policy.Default()}
			_, err := b.unlock(id, goodPIN, terms)
			_, end := b.Lock(ctx, b.peer, id)
			return errors.Join(err, end)
		}},
		{"modernise", func(b *bench, id seal.ID, n int) error {
			config := b.Config
			config.KDF.Memory += uint32(8 * (n + 1))
			dearer := *b
			dearer.Service = wallet.New(config)
			_, err := dearer.sign(message(b, id, 0, goodPIN, [32]byte{3, byte(n)}))
			return err
		}},
	}
}

// fault is where a request fails: a method of the token, after some calls that go
// well, or another part.
type fault struct {
	part   string
	method string
	spared int
}

func faults() []fault {
	list := []fault{{part: "none"}, {part: "passed"}, {part: "audit"}, {part: "point"},
		{"store", "Create", 0}, {"store", "Replace", 0}, {"store", "Nonce", 0}}
	for _, method := range []string{"FeedRandom", "GenerateRoot", "ImportSecret", "Wrap", "Unwrap", "HMACSHA512", "SignECDSA",
		"Pepper", "Host", "RecordMAC", "Destroy"} {
		for spared := range 3 {
			list = append(list, fault{"token", method, spared})
		}
	}
	return list
}

func (f fault) String() string { return fmt.Sprintf("%s %s after %d", f.part, f.method, f.spared) }

var errFault = errors.New("a part fails")

func (f fault) begin(b *bench) {
	switch f.part {
	case "token":
		b.token.fail[f.method], b.token.spared[f.method] = errFault, f.spared
	case "store":
		b.store.fail[f.method] = errFault
	case "passed":
		b.passed = errFault
	case "audit":
		b.audit.err = errFault
	case "point":
		b.token.bent = true
	}
}

func (f fault) end(b *bench) {
	clear(b.token.fail)
	clear(b.token.spared)
	clear(b.store.fail)
	b.passed, b.audit.err, b.token.bent = nil, nil, false
}

// twoAccounts is a bench with a wallet of two accounts, and nothing noted.
func twoAccounts(t *testing.T) (*bench, seal.ID) {
	t.Helper()
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	if err := requests()[1].make(b, id, -1); err != nil {
		t.Fatal(err)
	}
	b.token.wiped, b.entropy.made = nil, nil
	return b, id
}

// What the ports gave to a request, and got of it, is wiped when it ends, however
// it ends: seeds, the token's ciphertexts, tweaks before their reduction.
func TestRequestsWipeWhatTheyHandled(t *testing.T) {
	for _, r := range requests() {
		t.Run(r.name, func(t *testing.T) {
			b, id := twoAccounts(t)
			for n, f := range faults() {
				f.begin(b)
				err := r.make(b, id, n)
				f.end(b)
				if (f.part == "none") != (err == nil) && f.part == "none" {
					t.Fatal(err)
				}
				if f.part == "none" && len(b.token.wiped) == 0 {
					t.Fatal("nothing was noted: this test proves nothing")
				}
				b.checkWiped(t, f.String())
			}
		})
	}
}

func (b *bench) checkWiped(t *testing.T, when string) {
	t.Helper()
	for n, v := range b.token.wiped {
		if !bytes.Equal(v, make([]byte, len(v))) {
			t.Errorf("%s: what the token gave or got, no. %d, %d bytes, is left", when, n, len(v))
		}
	}
	for _, s := range b.entropy.made {
		if *s != (ownSeed{}) {
			t.Errorf("%s: the seed is left", when)
		}
	}
	b.token.wiped, b.entropy.made = nil, nil
}

// The seed is in the token when the first account is derived, and nowhere else.
func TestSeedIsWipedAsSoonAsTheTokenHasIt(t *testing.T) {
	b := newBench(t)
	derived := 0
	b.token.during = map[string]func(){"HMACSHA512": func() {
		derived++
		if *b.entropy.made[0] != (ownSeed{}) {
			t.Error("the seed is left while the account is derived")
		}
	}}
	b.create(t, "r")
	if derived == 0 {
		t.Error("no account was derived")
	}
}

// masks are what to look for in the process's memory.
type masks struct{ keys, tweaks, wrapped []wipetest.Masked }

// addKey notes the sealing key that a request derives: message is what the TPM's
// factor covers, h2 that factor.
func (m *masks) addKey(message []byte, h2 *[32]byte) {
	if m == nil {
		return
	}
	wipe.Do(func() {
		const label = len("sigild/host/v1")
		id, h1 := message[label:label+16], message[label+16:]
		key, err := hkdf.Key(sha256.New, slices.Concat(h1, h2[:]), nil, "sigild/seal/v1"+string(id), 32)
		if err != nil {
			panic(err) // 32 bytes are never too many
		}
		m.keys = append(m.keys, wipetest.Mask(key))
		clear(key)
	})
}

// addTweak notes a tweak in the form in which the service has it: little endian.
func (m *masks) addTweak(wide *[64]byte) {
	if m == nil {
		return
	}
	wipe.Do(func() {
		var hi, lo, shift secp.ModNScalar
		var b [32]byte
		hi.SetByteSlice(wide[:32])
		lo.SetByteSlice(wide[32:])
		shift.SetInt(2)
		for range 8 { // 2^256, by squaring
			shift.Square()
		}
		hi.Mul(&shift).Add(&lo).PutBytes(&b)
		slices.Reverse(b[:])
		m.tweaks = append(m.tweaks, wipetest.Mask(b[:]))
		hi.Zero()
		lo.Zero()
		clear(b[:])
	})
}

func (m *masks) addWrapped(wrapped []byte) {
	if m != nil {
		wipe.Do(func() { m.wrapped = append(m.wrapped, wipetest.Mask(wrapped)) })
	}
}

// inGo counts where secrets are in Go's memory.
func inGo(t *testing.T, list []wipetest.Masked) (n int) {
	t.Helper()
	for _, p := range wipetest.Search(t, list...) {
		if p.Go() {
			n++
		}
	}
	return n
}

// What the service has for itself is wiped too: sealing keys, tweaks, and the
// ciphertexts of records that opened and were not used. It is looked for in the
// process's memory. Tweaks and ciphertexts are made where the next collection erases
// them: they are looked for before that, and keys after, since it is a collection
// that erases what the cipher made of them.
func TestNoKeyIsLeftInMemory(t *testing.T) {
	if !wipe.Enabled() {
		t.Log("NOT RUN: this build erases nothing; use make test, or set GOEXPERIMENT=runtimesecret")
		return
	}
	for _, r := range requests() {
		t.Run(r.name, func(t *testing.T) {
			b := newBench(t)
			b.token.masks = &masks{}
			id := b.create(t, "r").Info.Header.Wallet
			if err := requests()[1].make(b, id, -1); err != nil {
				t.Fatal(err)
			}
			for n, f := range []fault{{part: "none"}, {part: "passed"}, {part: "point"}, {part: "audit"}, {"store", "Replace", 0},
				{"token", "HMACSHA512", 1}, {"token", "SignECDSA", 0}, {"token", "Unwrap", 0}, {"token", "Destroy", 0}} {
				f.begin(b)
				_ = r.make(b, id, n)
				f.end(b)
				b.checkMemory(t, f.String())
			}
		})
	}
}

func (b *bench) checkMemory(t *testing.T, when string) {
	t.Helper()
	m := b.token.masks
	if n := inGo(t, append(slices.Clone(m.tweaks), m.wrapped...)); n > 0 {
		t.Errorf("%s: tweaks and wrapped keys are in memory %d times", when, n)
	}
	runtime.GC()
	runtime.GC() // the first one's sweep is behind it
	if n := inGo(t, m.keys); n > 0 {
		t.Errorf("%s: sealing keys are in memory %d times", when, n)
	}
	m.keys = nil
	if len(m.wrapped) > 3 { // those of the wallet stay of interest
		m.wrapped, m.tweaks = m.wrapped[:3], m.tweaks[:3]
	}
}

// A record whose PIN opens it and whose keys do not fit its accounts is corrupt, and
// its keys are wiped.
func TestKeysOfACorruptRecordAreWiped(t *testing.T) {
	if !wipe.Enabled() {
		t.Log("NOT RUN: this build erases nothing; use make test, or set GOEXPERIMENT=runtimesecret")
		return
	}
	b := newBench(t)
	b.token.masks = &masks{}
	id := b.create(t, "r").Info.Header.Wallet
	b.dropRoot(t, id)
	runtime.GC()
	runtime.GC()
	if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); !errors.Is(err, seal.ErrCorrupt) {
		t.Fatalf("error %v, want ErrCorrupt", err)
	}
	if n := inGo(t, b.token.masks.wrapped); n > 0 {
		t.Errorf("wrapped keys are in memory %d times", n)
	}
}

// dropRoot takes the root out of a record, which stays authentic.
func (b *bench) dropRoot(t *testing.T, id seal.ID) {
	t.Helper()
	ctx := context.Background()
	stored, err := b.store.Record(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	p, err := seal.Parse(ctx, stored, b.Config.Installation, id, b.token.RecordMAC)
	if err != nil {
		t.Fatal(err)
	}
	key, err := seal.DeriveKey(ctx, []byte(goodPIN), id, p.Header.KDF, b.token)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	w, err := seal.Open(key, p.Record.Header, p.Record.Box)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Wipe()
	box, err := seal.Close(key, p.Record.Header, &seal.Wrapped{Derivation: w.Derivation, Roots: [][]byte{}})
	if err != nil {
		t.Fatal(err)
	}
	changed := seal.Record{Header: p.Record.Header, Box: box, State: p.Record.State}
	data, err := changed.Encode(ctx, b.token.RecordMAC)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.Replace(ctx, wallet.Change{Wallet: id, Prev: stored, Next: data}); err != nil {
		t.Fatal(err)
	}
}

// The search finds what is there: the tweak of a wallet that is unlocked.
func TestTweakOfAnUnlockedWalletIsFound(t *testing.T) {
	b := newBench(t)
	b.token.masks = &masks{}
	id := b.create(t, "r").Info.Header.Wallet
	if _, err := b.unlock(id, goodPIN, wallet.Terms{Signatures: 1, Duration: time.Minute, Accounts: []uint32{0}, AnyTotal: true,
		AnyClient: true, Rules: policy.Default()}); err != nil {
		t.Fatal(err)
	}
	if n := inGo(t, b.token.masks.tweaks[:1]); n == 0 {
		t.Error("the tweak of an unlocked wallet is not found: the search proves nothing")
	}
}
