package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/miekg/pkcs11"
	"golang.org/x/sync/errgroup"

	"github.com/sigild/sigild/daemon/channel"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// bothWays lets keys in and out.
const bothWays = "import = true\nexport = true"

func custody() func(*daemontest.Options) { return withConfig(map[string]string{"custody": bothWays}) }

// smallKey is the private key n, and its address.
func smallKey(t testing.TB, n byte) (ipc.Secret, string) {
	t.Helper()
	key := append(make(ipc.Secret, 31), n)
	d, err := crypto.ToECDSA(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, crypto.PubkeyToAddress(d.PublicKey).Hex()
}

// importation asks for a wallet of the private key n.
func importation(t testing.TB, requestID string, n byte) ipc.ImportWalletParams {
	t.Helper()
	key, address := smallKey(t, n)
	return ipc.ImportWalletParams{RequestID: requestID, Owner: "alice", Address: address, PIN: ipc.Secret(rightPIN), Key: key}
}

func bringIn(t testing.TB, c *ipc.Client, p ipc.ImportWalletParams) ipc.WalletInfo {
	t.Helper()
	r, err := c.ImportWallet(testContext(t), p)
	if err != nil {
		t.Fatal(err)
	}
	return r.Wallet
}

// addressOf is the address of a private key.
func addressOf(t testing.TB, key []byte) string {
	t.Helper()
	d, err := crypto.ToECDSA(key)
	if err != nil {
		t.Fatal(err)
	}
	return crypto.PubkeyToAddress(d.PublicKey).Hex()
}

// TestImportSignDeriveExport brings a key in, signs with it, derives an account
// beside it, restarts, and takes both keys out.
func TestImportSignDeriveExport(t *testing.T) {
	h, plain := serving(t, custody())
	c, ctx := dialSealed(t, h, h.Socket), testContext(t)
	p := importation(t, "1", 9)
	p.Exportable = true
	w := bringIn(t, c, p)
	if w.Custody != "import" || !w.Exportable || w.Accounts[0].Address != p.Address || w.ExportedAt != nil || len(w.Provenance) != 3 {
		t.Errorf("%+v", w)
	}
	d, err := c.DeriveAccount(ctx, ipc.DeriveAccountParams{RequestID: "2", WalletID: w.WalletID, PIN: ipc.Secret(rightPIN)})
	if err != nil || d.Account.Custody != "software-token" {
		t.Fatalf("%+v, %v", d, err)
	}
	w.Accounts = append(w.Accounts, d.Account)
	for nonce := range 2 {
		signAll(t, plain, w, nonce)
		signTransaction(t, plain, w, 1, dynamicFee, nonce)
		stop(t, h)
		start(t, h)
	}
	for index := range w.Accounts {
		account := uint32(index)
		key, r, err := c.ExportAccount(ctx, ipc.ExportAccountParams{WalletID: w.WalletID, Account: &account, PIN: ipc.Secret(rightPIN)})
		if err != nil || r.Account != account || r.AttemptsLeft != 10 {
			t.Fatalf("account %d: %+v, %v", index, r, err)
		}
		if got := addressOf(t, key); got != w.Accounts[index].Address || got != r.Address || (index == 0) != bytes.Equal(key, p.Key) {
			t.Errorf("account %d: the key of %s came out", index, got)
		}
	}
	info, err := c.GetWallet(ctx, ipc.GetWalletParams{WalletID: w.WalletID})
	if err != nil || info.ExportedAt == nil || info.Accounts[1].ExportedAt == nil {
		t.Errorf("%+v, %v", info, err)
	}
	signAll(t, plain, w, 2)
}

// TestImportIsIdempotent: also when calls come together, or after a kill.
func TestImportIsIdempotent(t *testing.T) {
	h, plain := serving(t, custody())
	group, ctx := errgroup.WithContext(testContext(t))
	results := make([]*ipc.CreateWalletResult, 4)
	for i := range results {
		c := dialSealed(t, h, h.Socket)
		p := importation(t, "1", 9)
		group.Go(func() (err error) {
			results[i], err = c.ImportWallet(ctx, p)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	kill(t, h)
	start(t, h)
	c := dialSealed(t, h, h.Socket)
	again := importation(t, "1", 9)
	again.Key = make(ipc.Secret, 32) // not looked at: the address stands for it
	last, err := c.ImportWallet(testContext(t), again)
	if err != nil || !last.Existing {
		t.Fatalf("%+v, %v", last, err)
	}
	for _, r := range results {
		if r.Receipt.Statement != last.Receipt.Statement {
			t.Errorf("%s and %s", r.Receipt.Statement, last.Receipt.Statement)
		}
	}
	mustContain(t, last.Receipt.Statement, `"method":"importWallet"`, strings.ToLower(again.Address))
	_, err = c.ImportWallet(testContext(t), importation(t, "1", 8))
	wantReason(t, err, "requestReused")
	_, err = c.ImportWallet(testContext(t), importation(t, "2", 9))
	wantReason(t, err, "addressTaken")
	if n := countWallets(t, plain); n != 1 {
		t.Errorf("%d wallets", n)
	}
}

// TestKeysAreForbiddenUntilAllowed: the operator lets keys in and out, by a
// reload too, and takes that back.
func TestKeysAreForbiddenUntilAllowed(t *testing.T) {
	h, plain := serving(t)
	c, ctx := dialSealed(t, h, h.Socket), testContext(t)
	exportable := ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(rightPIN), Exportable: true}
	_, err := c.ImportWallet(ctx, importation(t, "1", 9))
	wantReason(t, err, "importForbidden")
	_, err = c.CreateWallet(ctx, exportable)
	wantReason(t, err, "exportForbidden")
	if s, err := plain.Status(ctx); err != nil || s.Custody.Import.Allowed || s.Custody.Export.Allowed || !s.Custody.Import.Able || !s.Custody.Export.Able {
		t.Errorf("%+v, %v", s.Custody, err)
	}
	reload := func(lines string) {
		h.Config["custody"] = lines
		if err := h.WriteConfig(); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(h.PID(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		await(t, "the reload", func() bool {
			s, err := plain.Status(ctx)
			return err == nil && s.Custody.Export.Allowed == (lines != "")
		})
	}
	reload(bothWays)
	bringIn(t, c, importation(t, "1", 9))
	made, err := c.CreateWallet(ctx, exportable)
	if err != nil || !made.Wallet.Exportable {
		t.Fatalf("%+v, %v", made, err)
	}
	out := ipc.ExportAccountParams{WalletID: made.Wallet.WalletID, PIN: ipc.Secret(rightPIN)}
	if _, _, err := c.ExportAccount(ctx, out); err != nil {
		t.Error(err)
	}
	reload("")
	_, _, err = c.ExportAccount(ctx, out)
	if e := wantReason(t, err, "exportForbidden"); e.Charged == nil || *e.Charged || !e.Proven {
		t.Errorf("%+v", e)
	}
	signAll(t, plain, made.Wallet, 0) // what is there goes on
}

// TestTokenThatKeepsToItself: what the token cannot do is said, and is no fault.
func TestTokenThatKeepsToItself(t *testing.T) {
	faults, module := faultyToken(t)
	faults.RefuseCustody(pkcs11.CKR_TEMPLATE_INCONSISTENT)
	h, plain := serving(t, module, custody())
	c, ctx := dialSealed(t, h, h.Socket), testContext(t)
	s, err := plain.Status(ctx)
	if err != nil || s.State != "ready" || s.Custody.Import.Able || s.Custody.Export.Able || !strings.Contains(s.Custody.Import.Detail, "CKR_TEMPLATE_INCONSISTENT") {
		t.Errorf("%+v, %v", s.Custody, err)
	}
	mustContain(t, strings.Join(s.Notes, "\n"), "takes no private keys", "gives no keys out")
	_, err = c.ImportWallet(ctx, importation(t, "1", 9))
	wantReason(t, err, "custodyUnsupported")
	_, err = c.CreateWallet(ctx, ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(rightPIN), Exportable: true})
	wantReason(t, err, "custodyUnsupported")
	signAll(t, plain, create(t, plain, "2"), 0)
}

// TestP5RelayChangesKeys: a relay that changes what a key goes to, or comes from,
// is refused, uncharged, and gets nothing.
func TestP5RelayChangesKeys(t *testing.T) {
	h, plain := serving(t, custody())
	honest, ctx := dialSealed(t, h, h.Socket), testContext(t)
	p := importation(t, "1", 9)
	p.Exportable = true
	w := bringIn(t, honest, p)
	d, err := honest.DeriveAccount(ctx, ipc.DeriveAccountParams{RequestID: "2", WalletID: w.WalletID, PIN: ipc.Secret(rightPIN)})
	if err != nil {
		t.Fatal(err)
	}
	mallory, err := channel.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	_, another := smallKey(t, 8)
	take := func(c *ipc.Client) error {
		_, _, err := c.ExportAccount(ctx, ipc.ExportAccountParams{Address: w.Accounts[0].Address, PIN: ipc.Secret(rightPIN)})
		return err
	}
	bring := func(c *ipc.Client) error {
		_, err := c.ImportWallet(ctx, importation(t, "3", 7))
		return err
	}
	for name, attack := range map[string]struct {
		member, value string
		ask           func(*ipc.Client) error
	}{
		"the recipient":           {"recipient", `"` + ipc.Hex(mallory.Public()).String() + `"`, take},
		"the account":             {"address", `"` + d.Account.Address + `"`, take},
		"the imported address":    {"address", `"` + another + `"`, bring},
		"the owner":               {"owner", `"mallory"`, bring},
		"whether it may go again": {"exportable", `true`, bring},
	} {
		t.Run(name, func(t *testing.T) {
			r := altering(t, attack.member, attack.value)
			wantReason(t, attack.ask(dialSealed(t, h, r.Serve(t, h.Socket))), ipc.ReasonSealedPINInvalid)
		})
	}
	t.Run("the method", func(t *testing.T) {
		r := &ipctest.Relay{Request: func(method string, m ipctest.Message) bool {
			if method == ipc.MethodSignMessage {
				m["method"] = json.RawMessage(`"sigild_exportAccount"`)
				m["params"] = changed(t, m["params"], "recipient", `"`+ipc.Hex(mallory.Public()).String()+`"`)
			}
			return true
		}}
		_, err := tryPIN(t, dialSealed(t, h, r.Serve(t, h.Socket)), w.WalletID, rightPIN)
		if err == nil {
			t.Error("a PIN for a signature gave a key")
		}
	})
	if n, left := countWallets(t, plain), attemptsLeft(t, plain, w.WalletID); n != 1 || left != 10 {
		t.Errorf("%d wallets, %d attempts left", n, left)
	}
	if info, err := plain.GetWallet(ctx, ipc.GetWalletParams{WalletID: w.WalletID}); err != nil || info.ExportedAt != nil {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestP5RelayReplaysAnExport: the same bytes give the same sealed key, which is
// the recipient's alone, and nothing more is charged or given out.
func TestP5RelayReplaysAnExport(t *testing.T) {
	h, _ := serving(t, custody())
	var kept atomic.Pointer[json.RawMessage]
	r := &ipctest.Relay{Request: func(method string, m ipctest.Message) bool {
		if method == ipc.MethodExportAccount {
			params := m["params"]
			kept.Store(&params)
		}
		return true
	}}
	c := dialSealed(t, h, r.Serve(t, h.Socket))
	p := importation(t, "1", 9)
	p.Exportable = true
	w := bringIn(t, c, p)
	_, first, err := c.ExportAccount(testContext(t), ipc.ExportAccountParams{WalletID: w.WalletID, PIN: ipc.Secret(rightPIN)})
	if err != nil {
		t.Fatal(err)
	}
	lines := auditLines(t, h)
	block := string((*kept.Load())[1 : len(*kept.Load())-1])
	conn := ipctest.Connect(t, h.Socket)
	answers := json.NewDecoder(conn)
	same, reason := exchange(t, conn, answers, request(ipc.MethodExportAccount, block))
	if reason != "" || !bytes.Contains(same, []byte(first.Key.Ciphertext.String())) || auditLines(t, h) != lines {
		t.Errorf("the repetition got %q, %s", reason, same)
	}
	if _, reason := exchange(t, conn, answers, request(ipc.MethodExportAccount, strings.Replace(block, `{`, `{ `, 1))); reason != ipc.ReasonSealedPINUsed {
		t.Errorf("other bytes: %q", reason)
	}
}

// TestKeysTravelSealedOnly: whoever may send PINs in the clear may not send these.
func TestKeysTravelSealedOnly(t *testing.T) {
	h, plain := serving(t, custody())
	p := importation(t, "1", 9)
	p.Exportable = true
	w := bringIn(t, dialSealed(t, h, h.Socket), p)
	conn := ipctest.Connect(t, h.Socket)
	answers := json.NewDecoder(conn)
	recipient, err := channel.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	export := fmt.Sprintf(`{"walletId":%q,"recipient":%q`, w.WalletID, ipc.Hex(recipient.Public()))
	_, address := smallKey(t, 8)
	imported := fmt.Sprintf(`{"requestId":"2","owner":"alice","address":%q`, address)
	pin, key := fmt.Sprintf(`,"pin":%q`, rightPIN), fmt.Sprintf(`,"key":"0x%064x"`, 8)
	for _, c := range [][2]string{
		{ipc.MethodExportAccount, export + pin + "}"}, {ipc.MethodExportAccount, export + "}"},
		{ipc.MethodImportWallet, imported + pin + key + "}"}, {ipc.MethodImportWallet, imported + pin + "}"}, {ipc.MethodImportWallet, imported + "}"},
	} {
		if _, reason := exchange(t, conn, answers, request(c[0], c[1])); reason != ipc.ReasonInvalidParams {
			t.Errorf("%s: reason %q", c[1], reason)
		}
	}
	if n := countWallets(t, plain); n != 1 {
		t.Errorf("%d wallets", n)
	}
}

// TestJavaScriptMovesAKey: the JavaScript client takes a key out of one
// installation and brings it into another.
func TestJavaScriptMovesAKey(t *testing.T) {
	if !ipctest.JavaScriptClient(t) {
		return
	}
	from, _ := serving(t, custody())
	to, plain := serving(t, custody())
	made, err := dialSealed(t, from, from.Socket).CreateWallet(testContext(t),
		ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(rightPIN), Exportable: true})
	if err != nil {
		t.Fatal(err)
	}
	address := made.Wallet.Accounts[0].Address
	out := askJavaScript(t, from, &ipctest.Relay{}, ipc.MethodExportAccount, fmt.Sprintf(`{"address":%q}`, address), rightPIN)
	if out.Error != "" || out.Key == "" {
		t.Fatalf("%+v", out)
	}
	in := askJavaScript(t, to, &ipctest.Relay{}, ipc.MethodImportWallet,
		fmt.Sprintf(`{"requestId":"1","owner":"alice","address":%q}`, address), rightPIN+`","key":"`+out.Key)
	if in.Error != "" {
		t.Fatalf("%+v", in)
	}
	w, err := plain.GetWallet(testContext(t), ipc.GetWalletParams{Address: address})
	if err != nil || w.Custody != "import" {
		t.Fatalf("%+v, %v", w, err)
	}
	signAll(t, plain, *w, 0)
}

// TestP4KilledDuringCustody kills sigild after writes and syncs of an import and
// an export: a wallet is there as a whole or not at all, and what was given out
// is written down.
func TestP4KilledDuringCustody(t *testing.T) {
	h, plain := serving(t, custody())
	exportable, err := dialSealed(t, h, h.Socket).CreateWallet(testContext(t),
		ipc.CreateWalletParams{RequestID: "e", Owner: "alice", PIN: ipc.Secret(rightPIN), Exportable: true})
	if err != nil {
		t.Fatal(err)
	}
	id, points := exportable.Wallet.WalletID, 0
	for what, try := range map[string]func(n byte) error{
		"import": func(n byte) error {
			_, err := dialSealed(t, h, h.Socket).ImportWallet(testContext(t), importation(t, fmt.Sprint(n), n))
			return err
		},
		"export": func(byte) error {
			_, _, err := dialSealed(t, h, h.Socket).ExportAccount(testContext(t), ipc.ExportAccountParams{WalletID: id, PIN: ipc.Secret(rightPIN)})
			return err
		},
	} {
		for n := 1; ; n += 4 {
			trap := trapDisk(t, h, n)
			err := try(byte(n))
			if trap.release(t) == "" {
				if err != nil {
					t.Errorf("%s, not killed: %v", what, err)
				}
				break
			}
			points++
			kill(t, h)
			pass(t, h)
			start(t, h)
			if err := try(byte(n)); err != nil {
				t.Errorf("%s, point %d, once more: %v", what, n, err)
			}
			if what == "import" {
				_, address := smallKey(t, byte(n))
				w, err := plain.GetWallet(testContext(t), ipc.GetWalletParams{Address: address})
				if err != nil {
					t.Fatalf("point %d: %v", n, err)
				}
				signAll(t, plain, *w, n)
			}
		}
	}
	if points < 3 {
		t.Errorf("killed at %d points only", points)
	}
	w, err := plain.GetWallet(testContext(t), ipc.GetWalletParams{WalletID: id})
	if err != nil || w.ExportedAt == nil {
		t.Errorf("%+v, %v", w, err)
	}
}

// TestNoExportWhenTheTokenFails: nothing is given out, stored, charged or left.
func TestNoExportWhenTheTokenFails(t *testing.T) {
	faults, module := faultyToken(t)
	h, plain := serving(t, module, custody())
	c := dialSealed(t, h, h.Socket)
	p := importation(t, "1", 9)
	p.Exportable = true
	w := bringIn(t, c, p)
	for _, function := range []string{"C_CreateObject", "C_WrapKey"} {
		faults.Fail(function, pkcs11.CKR_ARGUMENTS_BAD)
		_, _, err := c.ExportAccount(testContext(t), ipc.ExportAccountParams{WalletID: w.WalletID, PIN: ipc.Secret(rightPIN)})
		wantReason(t, err, "tokenUnavailable")
		_, err = c.ImportWallet(testContext(t), importation(t, function, 8))
		wantReason(t, err, "tokenUnavailable")
		faults.Clear(function)
		await(t, "ready again", func() bool {
			s, err := plain.Status(testContext(t))
			return err == nil && s.State == "ready"
		})
	}
	if n, left := countWallets(t, plain), attemptsLeft(t, plain, w.WalletID); n != 1 || left != 10 {
		t.Errorf("%d wallets, %d attempts left", n, left)
	}
	if _, objects := faults.Measure(); objects != 0 {
		t.Errorf("%d session objects are left", objects)
	}
	if _, _, err := c.ExportAccount(testContext(t), ipc.ExportAccountParams{WalletID: w.WalletID, PIN: ipc.Secret(rightPIN)}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if info, err := plain.GetWallet(testContext(t), ipc.GetWalletParams{WalletID: w.WalletID}); err != nil || info.ExportedAt == nil {
		t.Errorf("%+v, %v", info, err)
	}
}
