package main

import (
	"context"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/tpm"
)

// openWallets opens a stopped installation's database under its ledger, as
// sigild does, with the default handles. The caller closes the database.
func openWallets(t testing.TB, h *daemontest.Host, id seal.ID, mac guard.MAC) *store.Wallets {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	db, err := store.Open(h.Database(), false)
	if err != nil {
		t.Fatal(err)
	}
	data, err := db.Get(ctx, store.GuardRoot)
	if err != nil {
		t.Fatal(err)
	}
	root, err := guard.DecodeRoot(ctx, data, id, mac)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := mac(ctx, append([]byte("sigild/nv/v1"), id[:]...))
	if err != nil {
		t.Fatal(err)
	}
	chip, err := tpm.Open(ctx, tpm.Config{Device: h.TPM.Device})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chip.Close() })
	c := guard.Config[*store.Tx]{Disk: db, MAC: mac, Installation: id, Keys: root.Keys,
		Resets: func(ctx context.Context) (uint32, error) { k, err := chip.Clock(ctx); return k.ResetCount, err }}
	if c.Anchor, err = chip.OpenCounter(ctx, tpm.CounterSpec{Handle: 0x01800151, Orderly: true, Auth: auth[:], Name: root.AnchorName}); err != nil {
		t.Fatal(err)
	}
	if c.Unclean, err = chip.OpenCounter(ctx, tpm.CounterSpec{Handle: 0x01800152, Auth: auth[:], Name: root.UncleanName}); err != nil {
		t.Fatal(err)
	}
	l, err := guard.Open(ctx, c)
	if err != nil || l.Status().Refused != nil {
		t.Fatal(err, l.Status().Refused)
	}
	return db.Wallets(l)
}
