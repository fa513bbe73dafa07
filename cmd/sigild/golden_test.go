package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/ipc"
)

// golden is a host as a release left it: the database, the token, the TPM's
// state, and what is to be found there. There is one folder for each schema of
// the database that was released. That of the current schema is made anew by
//
//	go test ./cmd/sigild -run TestGolden -update
//
// and only until it is released; a released one never changes.
type golden struct {
	PIN     string
	Wallet  ipc.WalletInfo
	Request ipc.CreateWalletParams // made the wallet; its PIN is the first one
	Frozen  ipc.Hex
}

const goldenFolder = "../../testdata/golden"

// firstPIN is the PIN of the golden wallet before it was changed.
const firstPIN = "518204"

// TestGolden opens what each release left with the sigild of today, which finds
// the wallets, signs as the same addresses, and goes on counting attempts.
func TestGolden(t *testing.T) {
	if *update {
		makeGolden(t)
	}
	folders, err := filepath.Glob(goldenFolder + "/schema-*")
	if err != nil || len(folders) != store.Schema {
		t.Fatalf("%d golden hosts, %v, want one for each schema up to %d", len(folders), err, store.Schema)
	}
	for _, folder := range folders {
		t.Run(filepath.Base(folder), func(t *testing.T) { checkGolden(t, folder) })
	}
}

// makeGolden fills the current schema's folder.
func makeGolden(t *testing.T) {
	t.Helper()
	if own != 0 {
		t.Fatal("the golden host's wallets are root's: make it as root")
	}
	h, c := serving(t)
	ctx := testContext(t)
	g := golden{PIN: rightPIN, Request: ipc.CreateWalletParams{RequestID: "golden", Owner: "alice", Label: "savings",
		ExternalID: "acct-1", Tags: []string{"vip"}}}
	request := g.Request
	request.PIN = ipc.Secret(firstPIN)
	made, err := c.CreateWallet(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	id := made.Wallet.WalletID
	if _, err := c.ChangePIN(ctx, ipc.ChangePINParams{RequestID: "p", WalletID: id, PIN: ipc.Secret(firstPIN), NewPIN: ipc.Secret(rightPIN)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeriveAccount(ctx, ipc.DeriveAccountParams{RequestID: "d", WalletID: id, PIN: ipc.Secret(rightPIN)}); err != nil {
		t.Fatal(err)
	}
	g.Frozen = create(t, c, "frozen").WalletID
	if _, err := c.FreezeWallet(ctx, ipc.WalletParams{WalletID: g.Frozen}); err != nil {
		t.Fatal(err)
	}
	_, err = tryPIN(t, c, id, wrongPIN)
	wantReason(t, err, "wrongPin")
	saveGolden(t, h, c, &g, id)
}

func saveGolden(t *testing.T, h *daemontest.Host, c *ipc.Client, g *golden, id ipc.Hex) {
	t.Helper()
	info, err := c.GetWallet(testContext(t), ipc.GetWalletParams{WalletID: id})
	if err != nil {
		t.Fatal(err)
	}
	g.Wallet = *info
	stop(t, h)
	if out, err := h.Command(testContext(t), "compact").CombinedOutput(); err != nil {
		t.Fatalf("compact: %v: %s", err, out)
	}
	folder := filepath.Join(goldenFolder, fmt.Sprintf("schema-%d", store.Schema))
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := h.SaveState(folder); err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "golden.json"), append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// goldenHost is such a host, which does not run yet.
func goldenHost(t *testing.T, folder string) (*golden, *daemontest.Host) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	return &g, newHost(t, func(o *daemontest.Options) { o.State = folder })
}

func newestGolden(t *testing.T) string {
	t.Helper()
	return filepath.Join(goldenFolder, fmt.Sprintf("schema-%d", store.Schema))
}

// checkGolden is root's client, whose wallets they are.
func checkGolden(t *testing.T, folder string) {
	g, h := goldenHost(t, folder)
	if !canBeOthers(t) {
		g.checkRecord(t, h)
		return
	}
	start(t, h)
	socket := socketAs(t, h, 0)
	g.check(t, dial(t, socket))
	stop(t, h)
	start(t, h) // what was rewritten meanwhile is read again
	g.signs(t, dial(t, socket), g.Wallet.Accounts[0])
}

// checkRecord has the sigild of today take the database, and then opens the wallet's
// record without it.
func (g *golden) checkRecord(t *testing.T, h *daemontest.Host) {
	t.Helper()
	start(t, h)
	stop(t, h)
	v := openVault(t, h)
	defer v.close(t)
	p := v.record(t, g.Wallet.WalletID)
	for n, a := range p.Header.Accounts {
		if !strings.EqualFold(fmt.Sprintf("0x%x", a.Address), g.Wallet.Accounts[n].Address) {
			t.Errorf("account %d is %x, and was %s", n, a.Address, g.Wallet.Accounts[n].Address)
		}
	}
	if w, err := unseal(t, p, g.PIN, v.factors); err != nil || len(w.Roots) != len(g.Wallet.Accounts) {
		t.Errorf("the PIN opens %+v, %v", w, err)
	}
	if _, err := unseal(t, p, firstPIN, v.factors); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("the PIN before the change: %v", err)
	}
}

func (g *golden) check(t *testing.T, c *ipc.Client) {
	t.Helper()
	ctx := testContext(t)
	info, err := c.GetWallet(ctx, ipc.GetWalletParams{ExternalID: "acct-1"})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := json.Marshal(g.Wallet) // a struct of the wire always can be
	if got, _ := json.Marshal(info); string(got) != string(want) {
		t.Errorf("the wallet is\n%s\nand was\n%s", got, want)
	}
	if info.AttemptsLeft != 9 {
		t.Errorf("%d attempts are left, want 9", info.AttemptsLeft)
	}
	_, err = tryPIN(t, c, g.Wallet.WalletID, firstPIN)
	wantReason(t, err, "wrongPin")
	for _, account := range g.Wallet.Accounts {
		g.signs(t, c, account)
	}
	_, err = tryPIN(t, c, g.Frozen, g.PIN)
	wantReason(t, err, "frozen")
	request := g.Request
	request.PIN = ipc.Secret(g.PIN)
	again, err := c.CreateWallet(ctx, request)
	if err != nil || !again.Existing || again.Wallet.WalletID.String() != g.Wallet.WalletID.String() {
		t.Errorf("the request that made the wallet, again: %+v, %v", again, err)
	}
}

func (g *golden) signs(t *testing.T, c *ipc.Client, account ipc.AccountInfo) {
	t.Helper()
	s, err := c.SignMessage(testContext(t), ipc.SignMessageParams{WalletID: g.Wallet.WalletID, Account: &account.Index,
		Message: ipc.Hex("hello"), PIN: ipc.Secret(g.PIN)})
	if err != nil {
		t.Fatal(err)
	}
	if err := checkMessage(s, "hello", account.Address); err != nil {
		t.Error(err)
	}
}
