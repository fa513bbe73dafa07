package wallet_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// custodyBench lets keys in and out.
func custodyBench(t testing.TB) *bench {
	b := newBench(t)
	b.allowed = wallet.Allowed{Import: true, Export: true}
	return b
}

// importation asks for a wallet with the private key n.
func (b *bench) importation(request string, n byte) *wallet.CreateRequest {
	r := b.creation(request)
	d, err := crypto.ToECDSA(scalar(n))
	if err != nil {
		panic(err)
	}
	r.Import = &wallet.Imported{Key: scalar(n), Address: crypto.PubkeyToAddress(d.PublicKey)}
	return r
}

func (b *bench) bringIn(t testing.TB, r *wallet.CreateRequest) *wallet.Created {
	t.Helper()
	c, err := b.Create(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// taker keeps what an export gives, as no real one does.
type taker struct {
	key     [32]byte
	address []byte
	err     error
}

func (k *taker) seal(a *seal.Account, key *[32]byte) error {
	k.key, k.address = *key, a.Address
	return k.err
}

func (b *bench) takeOut(id seal.ID, account uint32, pin string, k *taker) (*wallet.Exported, error) {
	return b.Export(context.Background(), &wallet.ExportRequest{Peer: b.peer, Wallet: id, Account: account,
		PIN: []byte(pin), Digest: [32]byte{7}, Seal: k.seal})
}

// An imported wallet signs by the very key that was brought in; the accounts that
// it derives afterwards are made as any other.
func TestImport(t *testing.T) {
	b := custodyBench(t)
	r := b.importation("r", 9)
	c := b.bringIn(t, r)
	id, first := c.Info.Header.Wallet, c.Info.Header.Accounts[0]
	if first.Custody != seal.CustodyImport || !bytes.Equal(first.Address, r.Import.Address[:]) || !bytes.Equal(first.Public, first.Root) {
		t.Errorf("%+v", first)
	}
	if !bytes.Equal(r.Import.Key, scalar(9)) {
		t.Error("the caller's key was changed")
	}
	if e := b.audit.events[0]; e.Action != "importWallet" || e.Result != "ok" || len(b.audit.events) != 1 {
		t.Errorf("audited: %+v", b.audit.events)
	}
	d, err := b.Derive(context.Background(), &wallet.DeriveRequest{Peer: b.peer, Count: 1, RequestID: "d", Wallet: id, PIN: []byte(goodPIN)})
	if err != nil || d.Accounts[0].Custody != seal.CustodyToken || bytes.Equal(d.Accounts[0].Public, d.Accounts[0].Root) {
		t.Fatalf("%+v, %v", d, err)
	}
	for index := range uint32(2) {
		digest := [32]byte{byte(index), 1}
		s, err := b.sign(message(b, id, index, goodPIN, digest))
		if err != nil {
			t.Fatal(err)
		}
		checkSignature(t, s, digest)
	}
	if _, err := b.unlock(id, goodPIN, anything()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.sign(unlocked(b, id, policy.Facts{Operation: policy.Message, AllChains: true}, 3)); err != nil {
		t.Errorf("by an unlock: %v", err)
	}
	if _, err := b.LockAll(context.Background(), b.peer, false); err != nil {
		t.Fatal(err)
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
}

func TestImportIsIdempotent(t *testing.T) {
	b := custodyBench(t)
	first := b.bringIn(t, b.importation("r", 9))
	again := b.importation("r", 9)
	again.Import.Key = nil       // its address is in the request; the PIN shows whose it is
	b.allowed = wallet.Allowed{} // what was carried out stays so
	c, err := b.Create(context.Background(), again)
	if err != nil || !c.Existing || c.Receipt.Statement != first.Receipt.Statement {
		t.Fatalf("the same request again: %+v, %v", c, err)
	}
	again.PIN = []byte("775533")
	if c, err := b.Create(context.Background(), again); c != nil || !errors.As(err, new(*wallet.PINError)) {
		t.Errorf("with another PIN: %+v, %v", c, err)
	}
	b.allowed.Import = true
	other := b.importation("r", 8)
	other.Digest[0]++
	if _, err := b.Create(context.Background(), other); !errors.Is(err, wallet.ErrRequestReused) {
		t.Errorf("other content: %v", err)
	}
	if c := b.create(t, "r"); c.Existing {
		t.Error("a creation took the import's request id for its own")
	}
}

// meanwhile is a token that lets something happen before it says what it can do.
type meanwhile struct {
	wallet.Token
	do func()
}

func (m *meanwhile) CanImport(ctx context.Context) error {
	m.do()
	return m.Token.CanImport(ctx)
}

// A request that is sent twice at once is not refused for the address that it took
// itself.
func TestImportTwiceAtOnce(t *testing.T) {
	b := custodyBench(t)
	config := b.Config
	config.Token = &meanwhile{b.token, func() { b.bringIn(t, b.importation("r", 9)) }}
	c, err := wallet.New(config).Create(context.Background(), b.importation("r", 9))
	if err != nil || !c.Existing {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := wallet.New(config).Create(context.Background(), b.importation("other", 9)); !errors.Is(err, wallet.ErrAddressTaken) {
		t.Errorf("another request: %v", err)
	}
}

// One address is one wallet of a relay, whatever comes at the same time, and also
// when it is deleted.
func TestAddressIsTakenOnce(t *testing.T) {
	b := custodyBench(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made, taken := 0, 0
	for n := range 8 {
		wg.Go(func() {
			_, err := b.Create(context.Background(), b.importation(string(rune('a'+n)), 9))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made++
			case errors.Is(err, wallet.ErrAddressTaken):
				taken++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made != 1 || taken != 7 {
		t.Errorf("%d wallets were made, %d refused", made, taken)
	}
	found, _, err := b.Find(context.Background(), b.peer, b.importation("", 9).Import.Address)
	if err != nil {
		t.Fatal(err)
	}
	id := found.Header.Wallet
	if _, err := b.Delete(context.Background(), &wallet.DeleteRequest{Actor: wallet.Actor{Peer: b.peer}, RequestID: "x", Wallet: id, PIN: []byte(goodPIN)}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(context.Background(), b.importation("z", 9)); !errors.Is(err, wallet.ErrAddressTaken) {
		t.Errorf("the address of a deleted wallet: %v", err)
	}
	stranger := b.importation("z", 9)
	stranger.Peer.UID++
	if _, err := b.Create(context.Background(), stranger); err != nil {
		t.Errorf("another relay: %v", err)
	}
	if n, err := b.store.Count(context.Background()); n != 2 || err != nil {
		t.Errorf("%d wallets, %v", n, err)
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
}

func TestImportRefuses(t *testing.T) {
	b := custodyBench(t)
	order := bytes.Clone(crypto.S256().Params().N.Bytes())
	for name, c := range map[string]struct {
		change func(*wallet.CreateRequest)
		want   error
	}{
		"0":           {func(r *wallet.CreateRequest) { r.Import.Key = make([]byte, 32) }, wallet.ErrKey},
		"n":           {func(r *wallet.CreateRequest) { r.Import.Key = order }, wallet.ErrKey},
		"2^256-1":     {func(r *wallet.CreateRequest) { r.Import.Key = bytes.Repeat([]byte{255}, 32) }, wallet.ErrKey},
		"31 bytes":    {func(r *wallet.CreateRequest) { r.Import.Key = r.Import.Key[1:] }, wallet.ErrKey},
		"no key":      {func(r *wallet.CreateRequest) { r.Import.Key = nil }, wallet.ErrKey},
		"another key": {func(r *wallet.CreateRequest) { r.Import.Key = scalar(8) }, wallet.ErrAddress},
		"weak PIN":    {func(r *wallet.CreateRequest) { r.PIN = []byte("123456") }, seal.ErrPINWeak},
		"forbidden":   {func(*wallet.CreateRequest) { b.allowed.Import = false }, wallet.ErrImportForbidden},
		"exportable, forbidden": {func(r *wallet.CreateRequest) { r.Exportable, b.allowed.Export = true, false },
			wallet.ErrExportForbidden},
		"unable": {func(*wallet.CreateRequest) { b.token.fail["CanImport"] = wallet.ErrCustody }, wallet.ErrCustody},
	} {
		b.allowed, b.token.calls = wallet.Allowed{Import: true, Export: true}, nil
		delete(b.token.fail, "CanImport")
		r := b.importation("r", 9)
		c.change(r)
		if _, err := b.Create(context.Background(), r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.want != wallet.ErrAddress && slices.Contains(b.token.calls, "ImportRoot") {
			t.Errorf("%s: the key reached the token", name)
		}
	}
	if n, err := b.store.Count(context.Background()); n != 0 || err != nil {
		t.Errorf("%d wallets, %v", n, err)
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
	if d := wallet.New(wallet.Config{}); d.Allowed != nil {
		t.Error("the zero value allows something")
	}
}

// An import that fails anywhere stores nothing and leaves nothing in the token.
func TestFailedImportStoresNothing(t *testing.T) {
	for _, method := range []string{"ImportRoot", "ImportSecret", "Wrap", "Unwrap", "SignECDSA", "FeedRandom", "Pepper",
		"Host", "RecordMAC", "entropy"} {
		t.Run(method, func(t *testing.T) {
			b, gone := custodyBench(t), errors.New("away")
			if method == "entropy" {
				b.entropy.err = gone
			}
			b.token.fail[method] = gone
			if c, err := b.Create(context.Background(), b.importation("r", 9)); !errors.Is(err, gone) {
				t.Fatalf("%+v, %v", c, err)
			}
			if n, err := b.store.Count(context.Background()); n != 0 || err != nil {
				t.Errorf("%d wallets stored, %v", n, err)
			}
			if err := b.objectsLeft(); err != nil {
				t.Error(err)
			}
			delete(b.token.fail, method)
			b.entropy.err = nil
			if c := b.bringIn(t, b.importation("r", 9)); c.Existing {
				t.Error("the failed request had been stored")
			}
		})
	}
}

// What goes out is the key of the address, whether it came in or was made here.
func TestExport(t *testing.T) {
	b := custodyBench(t)
	r := b.importation("r", 9)
	r.Exportable = true
	id := b.bringIn(t, r).Info.Header.Wallet
	if _, err := b.Derive(context.Background(), &wallet.DeriveRequest{Peer: b.peer, Count: 2, RequestID: "d", Wallet: id, PIN: []byte(goodPIN)}); err != nil {
		t.Fatal(err)
	}
	for _, account := range []uint32{2, 0} {
		b.audit.events = nil
		var k taker
		out, err := b.takeOut(id, account, goodPIN, &k)
		if err != nil || out.Account.Index != account || out.Attempts.Left != 10 {
			t.Fatalf("%+v, %v", out, err)
		}
		d, err := crypto.ToECDSA(k.key[:])
		if err != nil {
			t.Fatal(err)
		}
		if a := crypto.PubkeyToAddress(d.PublicKey); !bytes.Equal(a[:], out.Account.Address) || !bytes.Equal(a[:], k.address) {
			t.Errorf("account %d: the key of %x went out", account, a)
		}
		if account == 0 && !bytes.Equal(k.key[:], scalar(9)) {
			t.Error("another key went out than came in")
		}
		e := b.audit.events
		if len(e) != 1 || e[0].Action != "exportAccount" || e[0].Account != account || e[0].Result != "ok" || e[0].Digest[0] != 7 {
			t.Errorf("audited: %+v", e)
		}
	}
	info, err := b.Get(context.Background(), b.peer, id)
	if now := b.now.Unix(); err != nil || !slices.Equal(info.State.Exported, []int64{now, 0, now}) {
		t.Errorf("exported at %v, %v", info.State.Exported, err)
	}
	digest := [32]byte{5}
	s, err := b.sign(message(b, id, 2, goodPIN, digest))
	if err != nil {
		t.Fatal(err)
	}
	checkSignature(t, s, digest)
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
}

// Everything that an exportable wallet does goes by the export keys: what is
// unwrapped otherwise is refused by the token.
func TestExportableWalletGoesByItsOwnKeys(t *testing.T) {
	b := custodyBench(t)
	r := b.creation("r")
	r.Exportable = true
	id := b.bringIn(t, r).Info.Header.Wallet
	if _, err := b.ChangePIN(context.Background(), &wallet.ChangePINRequest{Peer: b.peer, RequestID: "p", Wallet: id,
		PIN: []byte(goodPIN), NewPIN: []byte("830517")}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Derive(context.Background(), &wallet.DeriveRequest{Peer: b.peer, Count: 1, RequestID: "d", Wallet: id, PIN: []byte("830517")}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.unlock(id, "830517", anything()); err != nil {
		t.Fatal(err)
	}
	for account := range uint32(2) {
		if _, err := b.sign(message(b, id, account, "830517", [32]byte{9})); err != nil {
			t.Error(err)
		}
		if _, err := b.takeOut(id, account, "830517", &taker{}); err != nil {
			t.Error(err)
		}
	}
}

func TestExportRefuses(t *testing.T) {
	b := custodyBench(t)
	plain := b.create(t, "plain").Info.Header.Wallet
	r := b.creation("r")
	r.Exportable = true
	id := b.bringIn(t, r).Info.Header.Wallet
	free := func(name string, id seal.ID, account uint32, want error) {
		t.Helper()
		if _, err := b.takeOut(id, account, goodPIN, &taker{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if info, err := b.Get(context.Background(), b.peer, id); err == nil && info.Attempts.Left != 10 {
			t.Errorf("%s was charged", name)
		}
	}
	free("not exportable", plain, 0, wallet.ErrNotExportable)
	free("no such account", id, 1, wallet.ErrNotFound)
	free("no such wallet", seal.ID{1}, 0, wallet.ErrNotFound)
	b.allowed.Export = false
	free("forbidden", id, 0, wallet.ErrExportForbidden)
	b.allowed.Export = true
	b.token.fail["CanExport"] = wallet.ErrCustody
	free("unable", id, 0, wallet.ErrCustody)
	delete(b.token.fail, "CanExport")
	b.peer.UID++
	free("another relay's", id, 0, wallet.ErrNotFound)
	b.peer.UID--
	if _, err := b.Freeze(context.Background(), b.operator(), id, "operator"); err != nil {
		t.Fatal(err)
	}
	free("frozen", id, 0, wallet.ErrFrozen)
	if _, err := b.Unfreeze(context.Background(), b.operator(), id, ""); err != nil {
		t.Fatal(err)
	}
	var wrong *wallet.PINError
	k := &taker{}
	if _, err := b.takeOut(id, 0, "775533", k); !errors.As(err, &wrong) || k.address != nil {
		t.Errorf("a wrong PIN: %v", err)
	}
	if _, err := b.takeOut(id, 0, "", k); !errors.Is(err, seal.ErrPINSyntax) {
		t.Errorf("no PIN: %v", err)
	}
	last := b.audit.events[len(b.audit.events)-1]
	if last.Action != "exportAccount" || last.Result == "ok" {
		t.Errorf("a refusal is audited as %+v", last)
	}
}

// A key that cannot be written down as given out, or is not the account's, does
// not leave.
func TestNoExportWithoutRecordAndAudit(t *testing.T) {
	b := custodyBench(t)
	r := b.creation("r")
	r.Exportable = true
	id := b.bringIn(t, r).Info.Header.Wallet
	gone := errors.New("away")
	b.audit.err = gone
	if _, err := b.takeOut(id, 0, goodPIN, &taker{}); !errors.Is(err, gone) {
		t.Errorf("without an audit log: %v", err)
	}
	b.audit.err = nil
	other := b.creation("other") // of which nothing is written down yet
	other.Exportable = true
	unwritten := b.bringIn(t, other).Info.Header.Wallet
	b.store.fail["Replace"] = gone
	if _, err := b.takeOut(unwritten, 0, goodPIN, &taker{}); !errors.Is(err, gone) {
		t.Errorf("without a record: %v", err)
	}
	delete(b.store.fail, "Replace")
	b.token.spoil = true
	k := &taker{}
	if _, err := b.takeOut(id, 0, goodPIN, k); !errors.Is(err, wallet.ErrToken) || k.address != nil {
		t.Errorf("another key: %v", err)
	}
	b.token.spoil = false
	if _, err := b.takeOut(id, 0, goodPIN, &taker{err: gone}); !errors.Is(err, gone) {
		t.Errorf("nothing to seal it to: %v", err)
	}
	for _, method := range []string{"Unwrap", "HMACSHA512", "ExportRoot", "Destroy"} {
		b.token.fail[method] = gone
		if _, err := b.takeOut(id, 0, goodPIN, &taker{}); !errors.Is(err, gone) {
			t.Errorf("%s: %v", method, err)
		}
		delete(b.token.fail, method)
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
	if _, err := b.takeOut(id, 0, goodPIN, &taker{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Only what the operator and the token let out is made exportable.
func TestExportableNeedsBoth(t *testing.T) {
	b := custodyBench(t)
	b.allowed.Export = false
	r := b.creation("r")
	r.Exportable = true
	if _, err := b.Create(context.Background(), r); !errors.Is(err, wallet.ErrExportForbidden) {
		t.Errorf("forbidden: %v", err)
	}
	b.allowed.Export = true
	b.token.fail["CanExport"] = wallet.ErrCustody
	if _, err := b.Create(context.Background(), r); !errors.Is(err, wallet.ErrCustody) {
		t.Errorf("unable: %v", err)
	}
}

// followed is a store after whose changes something else happens.
type followed struct {
	wallet.Store
	replaced func()
}

func (f *followed) Replace(ctx context.Context, c wallet.Change) error {
	defer f.replaced()
	return f.Store.Replace(ctx, c)
}

// What the operator forbids while a request is under way is not done any more: the
// key of a wallet stays in, and nothing is stored that came in or may go out.
func TestForbiddenMeanwhile(t *testing.T) {
	b := custodyBench(t)
	r := b.creation("r")
	r.Exportable = true
	id := b.bringIn(t, r).Info.Header.Wallet
	forbid := func() { b.allowed = wallet.Allowed{} }
	b.token.during = map[string]func(){"Pepper": forbid} // the request has its turn and its slot
	b.token.calls, b.audit.events = nil, nil
	k := &taker{}
	if out, err := b.takeOut(id, 0, goodPIN, k); !errors.Is(err, wallet.ErrExportForbidden) || k.address != nil {
		t.Errorf("the key went out: %+v, %v", out, err)
	}
	if slices.Contains(b.token.calls, "ExportRoot") {
		t.Error("the token gave the key out")
	}
	if lines := b.audit.lines(); !slices.Equal(lines, []string{"exportAccount " + wallet.ErrExportForbidden.Error()}) {
		t.Errorf("the log has %q", lines)
	}
	info, err := b.Get(t.Context(), b.peer, id)
	if err != nil || info.State.Exported != nil || info.Attempts.Left != 10 {
		t.Errorf("%+v, %v", info, err)
	}
	exportable := b.creation("exportable")
	exportable.Exportable = true
	for _, c := range []struct {
		request *wallet.CreateRequest
		want    error
	}{{exportable, wallet.ErrExportForbidden}, {b.importation("import", 9), wallet.ErrImportForbidden}} {
		b.allowed = wallet.Allowed{Import: true, Export: true}
		if made, err := b.Create(t.Context(), c.request); !errors.Is(err, c.want) {
			t.Errorf("%s was made: %+v, %v", c.request.RequestID, made, err)
		}
	}
	if n, err := b.store.Count(t.Context()); n != 1 || err != nil {
		t.Errorf("%d wallets, %v", n, err)
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
	b.token.during = nil
	b.allowed = wallet.Allowed{Import: true, Export: true}
	b.Service.Store = &followed{Store: b.store, replaced: forbid}
	if out, err := b.takeOut(id, 0, goodPIN, k); !errors.Is(err, wallet.ErrExportForbidden) {
		t.Errorf("while the record was written: %+v, %v", out, err)
	}
	b.Service.Store = b.store
	b.allowed = wallet.Allowed{Import: true, Export: true}
	if _, err := b.takeOut(id, 0, goodPIN, k); err != nil || k.address == nil {
		t.Errorf("allowed again: %v", err)
	}
	if c := b.bringIn(t, exportable); c.Existing {
		t.Error("the refused request had been stored")
	}
}
