package main

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sigild/sigild/ipc"
)

// TestPurgedWallet: what docs/rpc.md says of a purged wallet is all that its
// database still has of it.
func TestPurgedWallet(t *testing.T) {
	h, c := serving(t, withConfig(map[string]string{"wallets": `delete_grace = "1ns"`}))
	r, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "1", Owner: "owner-4711", ExternalID: "external-4711",
		Tags: []string{"tag-4711"}, Label: "label-4711", PIN: ipc.Secret(rightPIN)})
	if err != nil {
		t.Fatal(err)
	}
	id := r.Wallet.WalletID
	if _, err := tryPIN(t, c, id, rightPIN); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteWallet(testContext(t), ipc.DeleteWalletParams{RequestID: "2", WalletID: id, PIN: ipc.Secret(rightPIN)}); err != nil {
		t.Fatal(err)
	}
	await(t, "the purge", func() bool {
		_, err := c.GetWallet(testContext(t), ipc.GetWalletParams{WalletID: id})
		return ipc.ReasonOf(err) == "notFound"
	})
	stop(t, h)
	left := map[string]bool{}
	for key, value := range dump(t, h) {
		for what, mark := range map[string]string{"id": string(id), "owner": "owner-4711", "external id": "external-4711",
			"tag": "tag-4711", "label": "label-4711"} {
			if strings.Contains(key+value, mark) {
				bucket, _, _ := strings.Cut(key, "/")
				left[bucket+": "+what] = true
			}
		}
	}
	if got := slices.Sorted(maps.Keys(left)); !slices.Equal(got, []string{"requests: id"}) {
		t.Errorf("the database has %v of it", got)
	}
	if code, said := command(t, h, "", "compact"); code != 0 {
		t.Fatalf("compact: exit code %d: %s", code, said)
	}
	file, err := os.ReadFile(h.Database())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"owner-4711", "external-4711", "tag-4711", "label-4711"} {
		if strings.Contains(string(file), text) {
			t.Errorf("after compact the file has %q", text)
		}
	}
	for _, action := range []string{"deleteWallet", "purgeWallet"} {
		if audited(t, h, action) == 0 {
			t.Errorf("the audit log has no %s", action)
		}
	}
}
