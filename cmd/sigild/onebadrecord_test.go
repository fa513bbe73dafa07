package main

import (
	"bytes"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// TestChangedRecordIsOneWalletsFault: a bad disk, or a writer of the file, changed what
// is kept of one wallet. What goes over all wallets names it, and goes on: lists, a
// freeze of everything, and the purge.
func TestChangedRecordIsOneWalletsFault(t *testing.T) {
	for _, bucket := range []string{"records", "guard"} {
		t.Run(bucket, func(t *testing.T) {
			h, c := serving(t, withConfig(map[string]string{"wallets": `delete_grace = "1ns"`}))
			ids := []ipc.Hex{create(t, c, "1").WalletID, create(t, c, "2").WalletID, create(t, c, "3").WalletID}
			slices.SortFunc(ids, func(a, b ipc.Hex) int { return bytes.Compare(a, b) })
			stop(t, h)
			flipLast(t, h, bucket, ids[0]) // the first of all that go by the id
			start(t, h)
			ctx := testContext(t)
			list, err := c.ListWallets(ctx, ipc.ListWalletsParams{})
			if err != nil || len(list.Wallets) != 2 || len(list.Corrupt) != 1 || !bytes.Equal(list.Corrupt[0], ids[0]) {
				t.Errorf("the list: %+v, %v", list, err)
			}
			if _, err := c.DeleteWallet(ctx, ipc.DeleteWalletParams{RequestID: "d", WalletID: ids[1], PIN: ipc.Secret(rightPIN)}); err != nil {
				t.Fatal(err)
			}
			await(t, "the purge", func() bool {
				_, err := c.GetWallet(ctx, ipc.GetWalletParams{WalletID: ids[1]})
				return ipc.ReasonOf(err) == "notFound"
			})
			all, err := c.FreezeAll(ctx)
			if err != nil || all.Wallets != 1 || all.Corrupt != 1 {
				t.Errorf("the freeze of all: %+v, %v", all, err)
			}
			_, err = tryPIN(t, c, ids[2], rightPIN)
			wantReason(t, err, "frozen")
			_, err = tryPIN(t, c, ids[0], rightPIN)
			wantReason(t, err, "recordCorrupt")
		})
	}
}

// flipLast changes a bit of what a bucket of a stopped sigild has of a wallet.
func flipLast(t *testing.T, h *daemontest.Host, bucket string, wallet ipc.Hex) {
	t.Helper()
	db := openDatabase(t, h)
	err := db.Update(func(tx *bbolt.Tx) error {
		values := tx.Bucket([]byte(bucket))
		changed := bytes.Clone(values.Get(wallet))
		changed[len(changed)-1] ^= 1
		return values.Put(wallet, changed)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
