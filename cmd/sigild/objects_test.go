package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/miekg/pkcs11"
	"golang.org/x/sync/errgroup"

	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// serveHere runs the daemon inside this process, whose PKCS#11 sessions see
// every session object that it makes. The function ends it.
func serveHere(t testing.TB, h *daemontest.Host) (end func()) {
	t.Helper()
	useEnvironment(t, h)
	cfg, err := daemon.LoadConfig(h.ConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	d, err := daemon.Open(testContext(t), cfg, daemon.Options{Logger: daemon.NewLogger(io.Discard, cfg.Log)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := ipc.Listen(h.Socket, 0o600, -1)
	if err != nil {
		t.Fatal(errors.Join(err, d.Close()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- d.Serve(ctx, listener) }()
	return func() {
		t.Helper()
		cancel()
		if err := errors.Join(<-served, d.Close()); err != nil {
			t.Error(err)
		}
	}
}

// sessionObjects counts the objects of the process that are not on the token.
func sessionObjects(t testing.TB) int {
	t.Helper()
	p := pkcs11.New(daemontest.Module)
	defer p.Destroy()
	slots, err := p.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	session, err := p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.CloseSession(session) }()
	if err := p.FindObjectsInit(session, []*pkcs11.Attribute{attribute(pkcs11.CKA_TOKEN, false)}); err != nil {
		t.Fatal(err)
	}
	found, _, err := p.FindObjects(session, 1000)
	if err = errors.Join(err, p.FindObjectsFinal(session)); err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func TestRequestsLeaveNoSessionObjects(t *testing.T) {
	h := newHost(t)
	provision(t, h)
	end := serveHere(t, h)
	defer end()
	before := sessionObjects(t)
	c := dial(t, h.Socket)
	w := create(t, c, "1")
	group, ctx := errgroup.WithContext(testContext(t))
	for i := range 4 {
		group.Go(func() error { return mixedRequests(ctx, c, w.WalletID, i) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	h.KMS.Short(8, 1)
	_, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "2", Owner: "alice", PIN: ipc.Secret(rightPIN)})
	wantReason(t, err, "entropyFailed")
	if after := sessionObjects(t); after != before {
		t.Errorf("%d session objects before the requests, %d after", before, after)
	}
}

// mixedRequests makes requests that succeed and requests that fail.
func mixedRequests(ctx context.Context, c *ipc.Client, wallet ipc.Hex, worker int) error {
	for i := range 5 {
		if _, err := c.SignMessage(ctx, ipc.SignMessageParams{WalletID: wallet, Message: ipc.Hex{byte(worker), byte(i)}, PIN: ipc.Secret(rightPIN)}); err != nil {
			return err
		}
	}
	if worker < 3 { // after a fourth failure in a row the right PIN would wait too
		_, err := c.SignMessage(ctx, ipc.SignMessageParams{WalletID: wallet, Message: ipc.Hex{1}, PIN: ipc.Secret(wrongPIN)})
		if ipc.ReasonOf(err) != "wrongPin" {
			return fmt.Errorf("a wrong PIN: %w", err)
		}
	}
	_, err := c.DeriveAccount(ctx, ipc.DeriveAccountParams{RequestID: fmt.Sprint(worker), WalletID: wallet, PIN: ipc.Secret(rightPIN)})
	return err
}
