package wallet_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

func TestCreateIsIdempotent(t *testing.T) {
	b := newBench(t)
	first := b.create(t, "r")
	again := b.creation("r")
	again.PIN, again.Unproven = []byte("not looked at"), true
	c, err := b.Create(context.Background(), again)
	if err != nil || !c.Existing || c.Info.Header.Wallet != first.Info.Header.Wallet {
		t.Fatalf("the same request again: %+v, %v", c, err)
	}
	if c.Receipt.Statement != first.Receipt.Statement {
		t.Error("the same request has another statement")
	}
	other := b.creation("r")
	other.Digest[0] ^= 1
	if _, err := b.Create(context.Background(), other); !errors.Is(err, wallet.ErrRequestReused) {
		t.Errorf("other content: %v, want ErrRequestReused", err)
	}
	relay := b.creation("r")
	relay.Peer.UID++
	if c, err := b.Create(context.Background(), relay); err != nil || c.Existing {
		t.Errorf("another relay's request: %+v, %v", c, err)
	}
}

func TestConcurrentCreationsUnderOneIDMakeOneWallet(t *testing.T) {
	b := newBench(t)
	var wg sync.WaitGroup
	ids := make([]seal.ID, 8)
	for n := range ids {
		wg.Go(func() {
			c, err := b.Create(context.Background(), b.creation("r"))
			if err != nil {
				t.Error(err)
				return
			}
			ids[n] = c.Info.Header.Wallet
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("wallets %x and %x under one request id", id, ids[0])
		}
	}
	if l, err := b.List(context.Background(), b.peer, wallet.Page{Limit: 10}, ""); err != nil || len(l.Wallets) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
}

// A creation that fails anywhere stores nothing and leaves nothing in the token.
func TestFailedCreationStoresNothing(t *testing.T) {
	for _, method := range []string{"GenerateRoot", "ImportSecret", "Wrap", "Unwrap", "HMACSHA512", "SignECDSA",
		"FeedRandom", "Pepper", "Host", "RecordMAC", "entropy"} {
		t.Run(method, func(t *testing.T) {
			b := newBench(t)
			gone := errors.New("away")
			if method == "entropy" {
				b.entropy.err = gone
			}
			b.token.fail[method] = gone
			if c, err := b.Create(context.Background(), b.creation("r")); !errors.Is(err, gone) {
				t.Fatalf("created %+v, error %v", c, err)
			}
			if n, err := b.store.Count(context.Background()); n != 0 || err != nil {
				t.Errorf("%d wallets stored, %v", n, err)
			}
			if err := b.objectsLeft(); err != nil {
				t.Error(err)
			}
			delete(b.token.fail, method)
			b.entropy.err = nil
			if c := b.create(t, "r"); c.Existing {
				t.Error("the failed request had been stored")
			}
		})
	}
}

func TestCreationRefusesBadParameters(t *testing.T) {
	b := newBench(t)
	long := string(make([]byte, 300))
	for name, change := range map[string]func(*wallet.CreateRequest){
		"no request id":  func(r *wallet.CreateRequest) { r.RequestID = "" },
		"long id":        func(r *wallet.CreateRequest) { r.RequestID = long },
		"no owner":       func(r *wallet.CreateRequest) { r.Owner = "" },
		"control":        func(r *wallet.CreateRequest) { r.Owner = "a\nb" },
		"long label":     func(r *wallet.CreateRequest) { r.Label = long },
		"invalid UTF-8":  func(r *wallet.CreateRequest) { r.Label = "\xff" },
		"weak PIN":       func(r *wallet.CreateRequest) { r.PIN = []byte("123456") },
		"short PIN":      func(r *wallet.CreateRequest) { r.PIN = []byte("12345") },
		"no PIN":         func(r *wallet.CreateRequest) { r.PIN = nil },
		"PIN not ASCII":  func(r *wallet.CreateRequest) { r.PIN = []byte("40291ü") },
		"PIN with a NUL": func(r *wallet.CreateRequest) { r.PIN = []byte("4029\x0016") },
	} {
		r := b.creation("r")
		change(r)
		if c, err := b.Create(context.Background(), r); err == nil {
			t.Errorf("%s: created %+v", name, c)
		}
	}
	if asked := slices.DeleteFunc(b.token.calls, func(method string) bool { return method == "RecordMAC" }); len(asked) != 0 {
		t.Errorf("the token was asked for more than the request's key: %v", asked)
	}
}

func TestDeriveIsIdempotent(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	request := func() *wallet.DeriveRequest {
		return &wallet.DeriveRequest{Peer: b.peer, Count: 1, RequestID: "d", Wallet: id, PIN: []byte(goodPIN)}
	}
	first, err := b.Derive(context.Background(), request())
	if err != nil || first.Existing || first.Accounts[0].Index != 1 {
		t.Fatalf("%+v, %v", first, err)
	}
	again := request()
	again.PIN, again.Unproven = nil, true
	second, err := b.Derive(context.Background(), again)
	if err != nil || !second.Existing || second.Receipt.Statement != first.Receipt.Statement {
		t.Errorf("the same request again: %+v, %v", second, err)
	}
	other := request()
	other.Digest[0]++
	if _, err := b.Derive(context.Background(), other); !errors.Is(err, wallet.ErrRequestReused) {
		t.Errorf("other content: %v", err)
	}
	wrong := request()
	wrong.RequestID, wrong.PIN = "d2", []byte("775533")
	var refused *wallet.PINError
	if _, err := b.Derive(context.Background(), wrong); !errors.As(err, &refused) {
		t.Errorf("wrong PIN: %v", err)
	}
	info, err := b.Get(context.Background(), b.peer, id)
	if err != nil || len(info.Header.Accounts) != 2 {
		t.Errorf("%d accounts, %v", len(info.Header.Accounts), err)
	}
}

func TestEveryAccountSigns(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	for n := range 3 {
		if _, err := b.Derive(context.Background(), &wallet.DeriveRequest{Peer: b.peer, Count: 1,
			RequestID: string(rune('a' + n)), Wallet: id, PIN: []byte(goodPIN)}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := b.Get(context.Background(), b.peer, id)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range info.Header.Accounts {
		digest := [32]byte{byte(a.Index), 1}
		s, err := b.sign(message(b, id, a.Index, goodPIN, digest))
		if err != nil {
			t.Fatal(err)
		}
		if s.Address != [20]byte(a.Address) {
			t.Errorf("account %d signed as %x, want %x", a.Index, s.Address, a.Address)
		}
		checkSignature(t, s, digest)
		found, account, err := b.Find(context.Background(), b.peer, s.Address)
		if err != nil || found.Header.Wallet != id || account != a.Index {
			t.Errorf("by address: %+v, account %d, %v", found, account, err)
		}
	}
	stranger := wallet.Peer{UID: 7}
	if _, _, err := b.Find(context.Background(), stranger, [20]byte(info.Header.Accounts[0].Address)); !errors.Is(err, wallet.ErrNotFound) {
		t.Errorf("another relay finds the address: %v", err)
	}
}

// Anybody who can write the file can change bytes; nothing is charged for it.
func TestChangedRecordIsCorruptAndFree(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	id := b.create(t, "r").Info.Header.Wallet
	record, err := b.store.Record(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(record); n += 3 {
		changed := append([]byte(nil), record...)
		changed[n] ^= 1
		if err := b.store.Replace(ctx, wallet.Change{Wallet: id, Prev: record, Next: changed}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.sign(message(b, id, 0, goodPIN, [32]byte{1})); !errors.Is(err, seal.ErrCorrupt) {
			t.Fatalf("byte %d changed: %v, want ErrCorrupt", n, err)
		}
		if err := b.store.Replace(ctx, wallet.Change{Wallet: id, Prev: changed, Next: record}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := b.Get(ctx, b.peer, id)
	if err != nil || info.Attempts.Left != 10 {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestOverload(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	config := b.Config
	config.Checks, config.Waiting = 1, 0
	narrow := wallet.New(config)
	var wg sync.WaitGroup
	var mu sync.Mutex
	overloaded := 0
	for n := range 16 {
		wg.Go(func() {
			_, err := narrow.Create(context.Background(), b.creation(string(rune('a'+n))))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, wallet.ErrOverloaded):
				overloaded++
			case err != nil:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if overloaded == 0 {
		t.Error("16 callers for one slot and nobody was turned away")
	}
	info, err := b.Get(context.Background(), b.peer, id)
	if err != nil || info.Attempts.Left != 10 {
		t.Errorf("%+v, %v: an overload was charged", info, err)
	}
}
