package main

import (
	"bytes"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/sigild/sigild/ipc"
)

func countWallets(t *testing.T, c *ipc.Client) int {
	t.Helper()
	r, err := c.ListWallets(testContext(t), ipc.ListWalletsParams{})
	if err != nil {
		t.Fatal(err)
	}
	return len(r.Wallets)
}

func TestRepeatedCreationGivesTheSameWallet(t *testing.T) {
	h, c := serving(t)
	params := ipc.CreateWalletParams{RequestID: "1", Owner: "alice", Label: "savings", PIN: ipc.Secret(rightPIN)}
	first, err := c.CreateWallet(testContext(t), params)
	if err != nil {
		t.Fatal(err)
	}
	for _, pin := range []string{rightPIN, wrongPIN, "", "x"} {
		again := params
		again.PIN = ipc.Secret(pin)
		r, err := c.CreateWallet(testContext(t), again)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Existing || !bytes.Equal(r.Wallet.WalletID, first.Wallet.WalletID) || r.Receipt.Statement != first.Receipt.Statement {
			t.Errorf("with the PIN %q: %+v", pin, r)
		}
		kill(t, h)
		start(t, h)
	}
	if n := countWallets(t, c); n != 1 {
		t.Errorf("%d wallets", n)
	}
	if left := attemptsLeft(t, c, first.Wallet.WalletID); left != 10 {
		t.Errorf("a repeated creation cost an attempt: %d left", left)
	}
	for _, other := range []ipc.CreateWalletParams{
		{RequestID: "1", Owner: "alice", Label: "spending", PIN: ipc.Secret(rightPIN)},
		{RequestID: "1", Owner: "alice", PIN: ipc.Secret(rightPIN)},
	} {
		_, err := c.CreateWallet(testContext(t), other)
		wantReason(t, err, "requestReused")
	}
}

func TestSameRequestIDOfAnotherOwnerIsAnotherWallet(t *testing.T) {
	_, c := serving(t)
	w := create(t, c, "1")
	r, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "1", Owner: "bob", PIN: ipc.Secret(rightPIN)})
	if err != nil || r.Existing || bytes.Equal(r.Wallet.WalletID, w.WalletID) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestConcurrentSameCreationsMakeOneWallet(t *testing.T) {
	h, c := serving(t)
	results := make([]*ipc.CreateWalletResult, 8)
	group, ctx := errgroup.WithContext(testContext(t))
	for i := range results {
		other := dial(t, h.Socket)
		group.Go(func() (err error) {
			results[i], err = other.CreateWallet(ctx, ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(rightPIN)})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, r := range results {
		if !r.Existing {
			made++
		}
		if !bytes.Equal(r.Wallet.WalletID, results[0].Wallet.WalletID) || r.Receipt.Statement != results[0].Receipt.Statement {
			t.Errorf("one request id gave two wallets: %+v, %+v", r.Wallet, results[0].Wallet)
		}
	}
	if n := countWallets(t, c); made != 1 || n != 1 {
		t.Errorf("%d answers say that they made the wallet, %d wallets exist", made, n)
	}
}

func TestRepeatedDerivationGivesTheSameAccount(t *testing.T) {
	_, c := serving(t)
	w := create(t, c, "1")
	params := ipc.DeriveAccountParams{RequestID: "d", WalletID: w.WalletID, PIN: ipc.Secret(rightPIN)}
	results := make([]*ipc.DeriveAccountResult, 4)
	group, ctx := errgroup.WithContext(testContext(t))
	for i := range results {
		group.Go(func() (err error) {
			results[i], err = c.DeriveAccount(ctx, params)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	params.PIN = ipc.Secret(wrongPIN)
	again, err := c.DeriveAccount(testContext(t), params)
	if err != nil || !again.Existing {
		t.Fatalf("a repeated derivation with a wrong PIN: %+v, %v", again, err)
	}
	for _, r := range append(results, again) {
		if r.Account.Index != 1 || r.Account.Address != again.Account.Address {
			t.Errorf("one request id gave two accounts: %+v, %+v", r.Account, again.Account)
		}
	}
	info, err := c.GetWallet(testContext(t), ipc.GetWalletParams{WalletID: w.WalletID})
	if err != nil || len(info.Accounts) != 2 || info.AttemptsLeft != 10 {
		t.Errorf("%+v, %v", info, err)
	}
	other := create(t, c, "2")
	params.WalletID, params.PIN = other.WalletID, ipc.Secret(rightPIN)
	if r, err := c.DeriveAccount(testContext(t), params); err != nil || r.Existing {
		t.Errorf("the same request id for another wallet: %+v, %v", r, err)
	}
}
