package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

const (
	loadWallets  = 10
	loadAccounts = 5
	loadClients  = 8
)

// TestThousandSignatures has parallel clients sign with 50 accounts. Every
// signature is checked by go-ethereum, and sigild holds on to nothing.
func TestThousandSignatures(t *testing.T) {
	h, c := serving(t)
	wallets := makeWallets(t, c)
	clients := make([]*ipc.Client, loadClients)
	for i := range clients {
		clients[i] = dial(t, h.Socket)
	}
	signMany(t, clients, wallets, 0, 100)
	before := resourcesOf(t, h)
	signMany(t, clients, wallets, 100, 1000)
	after := resourcesOf(t, h)
	if after.descriptors > before.descriptors {
		t.Errorf("%d file descriptors after 100 signatures, %d after 1,000", before.descriptors, after.descriptors)
	}
	// Threads stay: the runtime keeps what the largest number of calls into C
	// at one time needed. The bound is the sessions and PIN checks, not the load.
	if after.threads > before.threads+8 {
		t.Errorf("%d threads after 100 signatures, %d after 1,000", before.threads, after.threads)
	}
	for _, w := range wallets {
		if left := attemptsLeft(t, c, w.WalletID); left != 10 {
			t.Errorf("wallet %s: %d attempts left", w.WalletID, left)
		}
	}
}

// makeWallets makes wallets with their accounts, in parallel, and reads them
// back.
func makeWallets(t *testing.T, c *ipc.Client) []*ipc.WalletInfo {
	t.Helper()
	wallets := make([]*ipc.WalletInfo, loadWallets)
	group, ctx := errgroup.WithContext(testContext(t))
	for i := range wallets {
		group.Go(func() (err error) {
			wallets[i], err = makeWallet(ctx, c, fmt.Sprintf("owner %d", i))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	addresses := map[string]bool{}
	for _, w := range wallets {
		for _, a := range w.Accounts {
			addresses[a.Address] = true
		}
	}
	if len(addresses) != loadWallets*loadAccounts {
		t.Fatalf("%d addresses for %d accounts", len(addresses), loadWallets*loadAccounts)
	}
	return wallets
}

func makeWallet(ctx context.Context, c *ipc.Client, owner string) (*ipc.WalletInfo, error) {
	r, err := c.CreateWallet(ctx, ipc.CreateWalletParams{RequestID: "1", Owner: owner, PIN: ipc.Secret(rightPIN)})
	if err != nil {
		return nil, err
	}
	id := r.Wallet.WalletID
	for i := 1; i < loadAccounts; i++ {
		d, err := c.DeriveAccount(ctx, ipc.DeriveAccountParams{RequestID: fmt.Sprint(i), WalletID: id, PIN: ipc.Secret(rightPIN)})
		if err != nil {
			return nil, err
		}
		if d.Existing || d.Account.Index != uint32(i) {
			return nil, fmt.Errorf("derivation %d gave %+v", i, d)
		}
	}
	return c.GetWallet(ctx, ipc.GetWalletParams{WalletID: id})
}

// signMany makes the signatures with these numbers, spread over clients,
// wallets and accounts, and checks each.
func signMany(t *testing.T, clients []*ipc.Client, wallets []*ipc.WalletInfo, from, to int) {
	t.Helper()
	group, ctx := errgroup.WithContext(testContext(t))
	for worker, c := range clients {
		group.Go(func() error {
			for n := from + worker; n < to; n += len(clients) {
				if err := signOne(ctx, c, wallets[n%len(wallets)], n); err != nil {
					return fmt.Errorf("signature %d: %w", n, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func signOne(ctx context.Context, c *ipc.Client, w *ipc.WalletInfo, n int) error {
	account := uint32(n / loadWallets % loadAccounts)
	address := w.Accounts[account].Address
	if n%3 == 0 {
		text := fmt.Sprintf("message %d", n)
		r, err := c.SignMessage(ctx, ipc.SignMessageParams{Address: address, Message: ipc.Hex(text), PIN: ipc.Secret(rightPIN)})
		if err != nil {
			return err
		}
		return checkMessage(r, text, address)
	}
	form := []string{dynamicFee, legacy}[n%2]
	r, err := c.SignTransaction(ctx, ipc.SignTransactionParams{WalletID: w.WalletID, Account: &account,
		Transaction: json.RawMessage(fmt.Sprintf(form, n)), PIN: ipc.Secret(rightPIN)})
	if err != nil {
		return err
	}
	return checkTransaction(r, address, uint64(n))
}

type resources struct{ descriptors, threads int }

func resourcesOf(t *testing.T, h *daemontest.Host) (r resources) {
	t.Helper()
	for name, n := range map[string]*int{"fd": &r.descriptors, "task": &r.threads} {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", h.PID(), name))
		if err != nil || len(entries) == 0 {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		*n = len(entries)
	}
	return r
}
