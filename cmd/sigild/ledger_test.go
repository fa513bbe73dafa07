package main

import (
	"context"
	"slices"
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
	definition := root.AnchorName[34:] // after the TPM name
	auth, err := mac(ctx, slices.Concat([]byte("sigild/nv/v1"), id[:], definition))
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
	counter := func(handle uint32, orderly bool, name []byte) guard.Counter {
		found, err := chip.OpenCounter(ctx, tpm.CounterSpec{Handle: handle, Orderly: orderly, Auth: auth[:], Name: name[:34]})
		if err != nil {
			t.Fatal(err)
		}
		return counterOf{found, definition}
	}
	c.Anchor, c.Unclean = counter(0x01800151, true, root.AnchorName), counter(0x01800152, false, root.UncleanName)
	l, err := guard.Open(ctx, c)
	if err != nil || l.Status().Refused != nil {
		t.Fatal(err, l.Status().Refused)
	}
	return db.Wallets(l)
}

// counterOf is a counter under the name that the guard root has of it.
type counterOf struct {
	*tpm.Counter
	definition []byte
}

func (c counterOf) Name() []byte { return slices.Concat(c.Counter.Name(), c.definition) }
