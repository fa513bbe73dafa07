package wallet_test

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

const recipient = "0x9858effd232b4033e47d90003d41ec34ecaeda94"

func anything() wallet.Terms {
	p := policy.Default()
	p.Operations = []policy.Operation{policy.Transaction, policy.Message, policy.TypedData}
	return wallet.Terms{Signatures: 3, Duration: time.Hour, Accounts: []uint32{0}, Rules: p, AnyTotal: true, AnyClient: true}
}

func (b *bench) unlock(id seal.ID, pin string, terms wallet.Terms) (*wallet.Unlocked, error) {
	return b.Unlock(context.Background(), &wallet.UnlockRequest{Peer: b.peer, Wallet: id, PIN: []byte(pin), Terms: terms})
}

func unlocked(b *bench, id seal.ID, facts policy.Facts, digest byte) *wallet.SignRequest {
	return &wallet.SignRequest{Peer: b.peer, Wallet: id,
		Items: []wallet.Item{{Digest: [32]byte{1, digest}, Facts: facts}}}
}

func transfer(wei int64) policy.Facts {
	return policy.Facts{Operation: policy.Transaction, Chain: "eip155:1", Recipient: recipient,
		Value: big.NewInt(wei), MaxCost: big.NewInt(wei + 21000)}
}

var text = policy.Facts{Operation: policy.Message}

func TestUnlockSignsWithoutPINUntilUsedUp(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	if _, err := b.sign(unlocked(b, id, text, 0)); !errors.Is(err, wallet.ErrUnlockRequired) {
		t.Fatalf("before the unlock: %v", err)
	}
	if _, err := b.unlock(id, goodPIN, anything()); err != nil {
		t.Fatal(err)
	}
	for n := range byte(3) {
		s, err := b.sign(unlocked(b, id, text, n))
		if err != nil {
			t.Fatalf("signature %d: %v", n, err)
		}
		checkSignature(t, s, [32]byte{1, n})
	}
	if _, err := b.sign(unlocked(b, id, text, 3)); !errors.Is(err, wallet.ErrUnlockRequired) {
		t.Errorf("a fourth of three: %v", err)
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
}

func TestTerms(t *testing.T) {
	terms := anything()
	terms.Rules.AnyChain, terms.Rules.Chains = false, []string{"eip155:1"}
	terms.Rules.AnyRecipient, terms.Rules.Recipients = false, []string{recipient}
	terms.Signatures, terms.TotalValue, terms.AnyTotal = 100, big.NewInt(1000), false
	other, chain, unknown := transfer(1), transfer(1), transfer(1)
	other.Recipient = "0x0000000000000000000000000000000000000001"
	chain.Chain = "eip155:137"
	unknown.Value = nil
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	if _, err := b.unlock(id, goodPIN, terms); err != nil {
		t.Fatal(err)
	}
	for n, c := range []struct {
		name  string
		facts policy.Facts
		ok    bool
	}{
		{"within", transfer(600), true},
		{"beyond the total", transfer(401), false},
		{"up to the total", transfer(400), true},
		{"nothing left", transfer(1), false},
		{"no value", transfer(0), true},
		{"another recipient", other, false},
		{"another chain", chain, false},
		{"unknown value", unknown, false},
		{"a message", text, true},
		{"an authorization", policy.Facts{Operation: policy.Authorization, Chain: "eip155:1", Recipient: recipient}, false},
	} {
		_, err := b.sign(unlocked(b, id, c.facts, byte(n)))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	batch := unlocked(b, id, text, 1)
	batch.Items = append(batch.Items, wallet.Item{Account: 0, Digest: [32]byte{9}, Facts: transfer(1)})
	if _, err := b.sign(batch); err == nil {
		t.Error("a batch with one item beyond the terms was signed")
	}
}

func TestUnlockEnds(t *testing.T) {
	ctx := context.Background()
	for name, end := range map[string]func(*bench, seal.ID, context.CancelFunc) error{
		"by lock": func(b *bench, id seal.ID, _ context.CancelFunc) error {
			was, err := b.Lock(ctx, b.peer, id)
			if !was {
				return errors.New("there was nothing to lock")
			}
			return err
		},
		"by lock all": func(b *bench, _ seal.ID, _ context.CancelFunc) error {
			n, err := b.LockAll(ctx, b.peer, false)
			if n != 1 {
				return errors.New("there was nothing to lock")
			}
			return err
		},
		"with its connection": func(b *bench, _ seal.ID, hangUp context.CancelFunc) error {
			hangUp()
			return b.awaitLocked(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			connection, hangUp := context.WithCancel(ctx)
			defer hangUp()
			b.peer.Connection = connection
			id := b.create(t, "r").Info.Header.Wallet
			terms := anything()
			terms.AnyClient = false
			if _, err := b.unlock(id, goodPIN, terms); err != nil {
				t.Fatal(err)
			}
			if _, err := b.sign(unlocked(b, id, text, 0)); err != nil {
				t.Fatal(err)
			}
			stranger := unlocked(b, id, text, 1)
			stranger.Peer.Connection = context.Background()
			if _, err := b.sign(stranger); !errors.Is(err, wallet.ErrUnlockRequired) {
				t.Errorf("another connection: %v", err)
			}
			if err := end(b, id, hangUp); err != nil {
				t.Fatal(err)
			}
			if _, err := b.sign(unlocked(b, id, text, 2)); !errors.Is(err, wallet.ErrUnlockRequired) {
				t.Errorf("after its end: %v", err)
			}
			if err := b.objectsLeft(); err != nil {
				t.Error(err)
			}
		})
	}
}

// awaitLocked waits until no wallet is unlocked and the token is empty.
func (b *bench) awaitLocked(t *testing.T) error {
	t.Helper()
	return b.awaitThat(func() bool { return b.Unlocks() == 0 && b.objectsLeft() == nil })
}

func (b *bench) awaitThat(holds func() bool) error {
	deadline, tick := time.After(10*time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			return errors.New("the unlock did not end")
		}
	}
	return nil
}

func TestUnlockEndsByTime(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	terms := anything()
	terms.Duration = 20 * time.Millisecond
	if _, err := b.unlock(id, goodPIN, terms); err != nil {
		t.Fatal(err)
	}
	if err := b.awaitLocked(t); err != nil {
		t.Fatal(err)
	}
	if _, err := b.sign(unlocked(b, id, text, 0)); !errors.Is(err, wallet.ErrUnlockRequired) {
		t.Errorf("after its time: %v", err)
	}
}

// One relay cannot take the places of another, and all of them together are
// bounded.
func TestUnlocksAreBounded(t *testing.T) {
	b := newBench(t)
	unlockAs := func(uid uint32) error {
		other := *b
		other.peer.UID = uid
		id := other.create(t, rand.Text()).Info.Header.Wallet
		_, err := other.unlock(id, goodPIN, anything())
		return err
	}
	for n, step := range []struct {
		uid  uint32
		want error
	}{{1000, nil}, {1000, nil}, {1000, nil}, {1000, nil}, {1000, wallet.ErrTooManyUnlocks}, {1001, nil}, {1001, nil},
		{1001, wallet.ErrTooManyUnlocks}, {1002, wallet.ErrTooManyUnlocks}} {
		if err := unlockAs(step.uid); !errors.Is(err, step.want) {
			t.Errorf("unlock %d, of uid %d: %v, want %v", n, step.uid, err, step.want)
		}
	}
	if n, most := b.Unlocks(), b.UnlocksOfOne(); n != 6 || most != 4 {
		t.Errorf("%d unlocks, %d of one: one was evicted", n, most)
	}
	if _, err := b.LockAll(t.Context(), b.peer, false); err != nil {
		t.Fatal(err)
	}
	if err := unlockAs(1002); err != nil {
		t.Errorf("places that were given back: %v", err)
	}
}

// At its limit a uid can still replace an unlock that it holds, also two at a time.
func TestAnUnlockIsReplacedAtTheLimit(t *testing.T) {
	b := newBench(t)
	ids := b.unlockedWallets(t, 1000, 1000, 1000)[:0]
	for n := range 4 {
		id := b.create(t, rand.Text()).Info.Header.Wallet
		if _, err := b.unlock(id, goodPIN, anything()); (err == nil) != (n < 3) {
			t.Fatalf("unlock %d: %v", n, err)
		}
		ids = append(ids, id)
	}
	var wg sync.WaitGroup
	for range 2 {
		for _, id := range ids[:3] {
			wg.Go(func() {
				if _, err := b.unlock(id, goodPIN, anything()); err != nil {
					t.Errorf("another in its place: %v", err)
				}
			})
		}
	}
	wg.Wait()
	if n, most := b.Unlocks(), b.UnlocksOfOne(); n != 4 || most != 4 {
		t.Errorf("%d unlocks, %d of one, want 4", n, most)
	}
	if _, err := b.unlock(ids[3], goodPIN, anything()); !errors.Is(err, wallet.ErrTooManyUnlocks) {
		t.Errorf("a fifth: %v", err)
	}
}

// An unlock that is being made has its place already.
func TestUnlocksBeingMadeAreBounded(t *testing.T) {
	b := newBench(t)
	config := b.Config
	config.MaxUnlocks, config.UnlocksOfUID = 1, 1
	b.Service = wallet.New(config)
	first, second := b.create(t, "r0").Info.Header.Wallet, b.create(t, "r1").Info.Header.Wallet
	for name, uid := range map[string]uint32{"its own uid": b.peer.UID, "another uid": b.peer.UID + 1} {
		b.token.during = map[string]func(){"Pepper": func() {
			b.token.during = nil
			other := &wallet.UnlockRequest{Peer: wallet.Peer{UID: uid}, Wallet: second, PIN: []byte(goodPIN), Terms: anything()}
			if _, err := b.Unlock(t.Context(), other); !errors.Is(err, wallet.ErrTooManyUnlocks) {
				t.Errorf("%s, while the only place is being taken: %v", name, err)
			}
		}}
		if _, err := b.unlock(first, goodPIN, anything()); err != nil {
			t.Error(err)
		}
		if _, err := b.LockAll(t.Context(), b.peer, false); err != nil {
			t.Error(err)
		}
	}
}

func TestRelockAfterTheTokenLostTheKeys(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	if _, err := b.unlock(id, goodPIN, anything()); err != nil {
		t.Fatal(err)
	}
	b.token.fail["SignECDSA"] = wallet.ErrObjectLost
	if _, err := b.sign(unlocked(b, id, text, 0)); !errors.Is(err, wallet.ErrRelock) {
		t.Errorf("error %v, want ErrRelock", err)
	}
	delete(b.token.fail, "SignECDSA")
	if _, err := b.sign(unlocked(b, id, text, 0)); !errors.Is(err, wallet.ErrUnlockRequired) {
		t.Errorf("error %v, want ErrUnlockRequired", err)
	}
}

func TestAFailedSignatureIsGivenBack(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	terms := anything()
	terms.Signatures, terms.TotalValue, terms.AnyTotal = 1, big.NewInt(5), false
	if _, err := b.unlock(id, goodPIN, terms); err != nil {
		t.Fatal(err)
	}
	b.token.fail["SignECDSA"] = errors.New("away")
	for range 3 {
		if _, err := b.sign(unlocked(b, id, transfer(5), 0)); err == nil {
			t.Fatal("signed without a token")
		}
	}
	delete(b.token.fail, "SignECDSA")
	if _, err := b.sign(unlocked(b, id, transfer(5), 0)); err != nil {
		t.Errorf("after the fault: %v", err)
	}
}

func TestUnlockIsSharedExactly(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	terms := anything()
	terms.Signatures = 20
	if _, err := b.unlock(id, goodPIN, terms); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for n := range byte(40) {
		wg.Go(func() {
			if _, err := b.sign(unlocked(b, id, text, n)); err == nil {
				mu.Lock()
				made++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if made != 20 {
		t.Errorf("%d signatures of 20", made)
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
}

func TestBadTerms(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	for name, change := range map[string]func(*wallet.Terms){
		"no signatures": func(x *wallet.Terms) { x.Signatures = 0 },
		"no time":       func(x *wallet.Terms) { x.Duration = 0 },
		"a week":        func(x *wallet.Terms) { x.Duration = 7 * 24 * time.Hour },
		"no account":    func(x *wallet.Terms) { x.Accounts = nil },
		"debt":          func(x *wallet.Terms) { x.TotalValue, x.AnyTotal = big.NewInt(-1), false },
		"both":          func(x *wallet.Terms) { x.TotalValue = big.NewInt(1) },
		"twice":         func(x *wallet.Terms) { x.Accounts = []uint32{0, 0} },
		"empty":         func(x *wallet.Terms) { *x = wallet.Terms{} },
		"no connection": func(x *wallet.Terms) { x.AnyClient = false },
	} {
		terms := anything()
		change(&terms)
		var field *wallet.FieldError
		if _, err := b.unlock(id, goodPIN, terms); !errors.As(err, &field) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.unlock(id, "775533", anything()); err == nil {
		t.Error("a wrong PIN unlocked")
	}
	strange := anything()
	strange.Accounts = []uint32{5}
	if _, err := b.unlock(id, goodPIN, strange); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("another account: %v", err)
	}
	if b.Unlocks() != 0 {
		t.Error("something is unlocked")
	}
}

// A freeze waits for an unlock that is being made and ends it: nothing signs
// after the operator has unfrozen the wallet again.
func TestFreezeEndsAnUnlockThatIsBeingMade(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	id := b.create(t, "r").Info.Header.Wallet
	begun, goOn := make(chan struct{}), make(chan struct{})
	b.token.during = map[string]func(){"Pepper": func() { close(begun); <-goOn }}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := b.unlock(id, goodPIN, anything()); err != nil {
			t.Error(err)
		}
	})
	<-begun
	operator := wallet.Actor{Peer: b.peer, Operator: true}
	wg.Go(func() {
		if _, err := b.Freeze(ctx, operator, id, "operator"); err != nil {
			t.Error(err)
		}
	})
	close(goOn)
	wg.Wait()
	if _, err := b.sign(unlocked(b, id, text, 0)); err == nil {
		t.Error("a frozen wallet signed")
	}
	if _, err := b.Unfreeze(ctx, operator, id, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := b.sign(unlocked(b, id, text, 1)); !errors.Is(err, wallet.ErrUnlockRequired) {
		t.Errorf("after the freeze was lifted: %v", err)
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
}

// A freeze, and an operator's deletion, end the unlocks at once: not only after the
// PIN checks that wait for the wallet, and also when they themselves come too late.
func TestFreezeEndsUnlocksBeforeItsTurn(t *testing.T) {
	for name, stop := range map[string]func(context.Context, *bench, seal.ID) error{
		"freeze": func(ctx context.Context, b *bench, id seal.ID) error {
			_, err := b.Freeze(ctx, wallet.Actor{Peer: b.peer}, id, "relay")
			return err
		},
		"delete": func(ctx context.Context, b *bench, id seal.ID) error {
			_, err := b.Delete(ctx, &wallet.DeleteRequest{Actor: b.operator(), RequestID: "d", Wallet: id})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			id := b.create(t, "r").Info.Header.Wallet
			if _, err := b.unlock(id, goodPIN, anything()); err != nil {
				t.Fatal(err)
			}
			begun, goOn, checked := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			b.token.during = map[string]func(){"Pepper": func() { close(begun); <-goOn }}
			go func() {
				_, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1}))
				checked <- err
			}()
			<-begun
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if _, err := b.Freeze(ctx, wallet.Actor{Peer: wallet.Peer{UID: 7}}, id, "relay"); !errors.Is(err, wallet.ErrNotFound) || b.Unlocks() != 1 {
				t.Errorf("another relay: %v, %d unlocks", err, b.Unlocks())
			}
			if err := stop(ctx, b, id); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, want a wait for the PIN check", err)
			}
			if _, err := b.sign(unlocked(b, id, text, 1)); !errors.Is(err, wallet.ErrUnlockRequired) {
				t.Errorf("by the unlock: %v", err)
			}
			close(goOn)
			if err := <-checked; err != nil {
				t.Error(err)
			}
		})
	}
}

// unanchored takes one change and does not confirm it.
type unanchored struct {
	wallet.Store
	once bool
}

func (u *unanchored) Replace(ctx context.Context, c wallet.Change) error {
	return u.unconfirmed(u.Store.Replace(ctx, c))
}

func (u *unanchored) Create(ctx context.Context, w wallet.NewWallet) error {
	return u.unconfirmed(u.Store.Create(ctx, w))
}

func (u *unanchored) Remove(ctx context.Context, r wallet.Removal) error {
	return u.unconfirmed(u.Store.Remove(ctx, r))
}

func (u *unanchored) unconfirmed(err error) error {
	if u.once && err == nil {
		u.once = false
		return guard.ErrUnanchored
	}
	return err
}

// An unlock ends by a PIN change also when the change was confirmed only to its
// retry.
func TestUnconfirmedPINChangeEndsUnlocks(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	disk := &unanchored{Store: b.store}
	b.Service.Store = disk
	if _, err := b.unlock(id, goodPIN, anything()); err != nil {
		t.Fatal(err)
	}
	disk.once = true
	r := &wallet.ChangePINRequest{Peer: b.peer, RequestID: "c", Wallet: id, PIN: []byte(goodPIN), NewPIN: []byte("518263")}
	if _, err := b.ChangePIN(t.Context(), r); !errors.Is(err, guard.ErrUnanchored) {
		t.Fatalf("%v", err)
	}
	if b.Unlocks() != 0 {
		t.Error("the unlock outlives the change")
	}
	if done, err := b.ChangePIN(t.Context(), r); err != nil || !done.Existing {
		t.Errorf("the retry: %+v, %v", done, err)
	}
	want := []string{"createWallet ok", "unlock ok", "changePin " + guard.ErrUnanchored.Error(), "changePin ok"}
	if lines := b.audit.lines(); !slices.Equal(lines, want) {
		t.Errorf("the log has %q, want %q", lines, want)
	}
}
