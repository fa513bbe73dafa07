package wallet_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
)

// crossing is an audit log in which a signature's line waits for the line of a
// change, or for the end of its own request.
type crossing struct {
	*memoryAudit
	change  string
	waits   chan struct{} // closed when the signature's line waits
	changed chan struct{} // closed when the change's line is there
}

func (c *crossing) Write(ctx context.Context, events ...wallet.Event) error {
	switch e := events[0]; {
	case e.Result != "ok":
	case e.Action == "sign":
		close(c.waits)
		select {
		case <-c.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	case e.Action == c.change:
		defer close(c.changed)
	}
	return c.memoryAudit.Write(ctx, events...)
}

// changesOfRights are what takes the right to sign away, by their lines.
func changesOfRights(b *bench, id seal.ID) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"freeze": func(ctx context.Context) error {
			_, err := b.Freeze(ctx, wallet.Actor{Peer: b.peer}, id, "relay")
			return err
		},
		"changePin": func(ctx context.Context) error {
			_, err := b.ChangePIN(ctx, &wallet.ChangePINRequest{Peer: b.peer, RequestID: "c", Wallet: id,
				PIN: []byte(goodPIN), NewPIN: []byte("518263")})
			return err
		},
		"setPolicy": func(ctx context.Context) error {
			_, err := b.SetPolicy(ctx, &wallet.SetPolicyRequest{Peer: b.peer, RequestID: "s", Wallet: id,
				Policy: policy.Policy{Operations: []policy.Operation{policy.TypedData}, AnyChain: true, AnyRecipient: true}, PIN: []byte(goodPIN)})
			return err
		},
		"deleteWallet": func(ctx context.Context) error {
			_, err := b.Delete(ctx, &wallet.DeleteRequest{Actor: wallet.Actor{Peer: b.peer}, RequestID: "d", Wallet: id, PIN: []byte(goodPIN)})
			return err
		},
		"lock": func(ctx context.Context) error {
			_, err := b.Lock(ctx, b.peer, id)
			return err
		},
		"lockAll": func(ctx context.Context) error {
			_, err := b.LockAll(ctx, b.peer, false)
			return err
		},
	}
}

// overtaken is how long a change has to overtake a signature whose line waits.
const overtaken = 300 * time.Millisecond

// Once a change that takes a right away is acknowledged, no signature leaves that
// began before it: its line is the earlier one, or it is refused.
func TestNoSignatureLeavesAfterAChange(t *testing.T) {
	for change := range changesOfRights(nil, seal.ID{}) {
		for _, by := range []string{"PIN", "unlock"} {
			if by == "PIN" && (change == "lock" || change == "lockAll") {
				continue // these end unlocks
			}
			t.Run(change+" over "+by, func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				id := b.create(t, "r").Info.Header.Wallet
				request := message(b, id, 0, goodPIN, [32]byte{1})
				if by == "unlock" {
					if _, err := b.unlock(id, goodPIN, anything()); err != nil {
						t.Fatal(err)
					}
					request.PIN = nil
				}
				crossSignature(t, b, request, change, changesOfRights(b, id)[change])
			})
		}
	}
}

func crossSignature(t *testing.T, b *bench, request *wallet.SignRequest, name string, change func(context.Context) error) {
	t.Helper()
	log := &crossing{memoryAudit: b.audit, change: name, waits: make(chan struct{}), changed: make(chan struct{})}
	b.Service.Audit = log
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	signature, changed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, _, err := b.Service.Sign(ctx, request)
		signature <- err
	}()
	<-log.waits
	go func() { changed <- change(t.Context()) }()
	time.AfterFunc(overtaken, giveUp)
	if err := <-signature; !errors.Is(err, context.Canceled) {
		t.Errorf("the signature left after the change was acknowledged (%v)", err)
	}
	if err := <-changed; err != nil {
		t.Errorf("the change: %v", err)
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
}

// A signature that began first leaves, and its line comes before the change's.
func TestSignatureComesBeforeTheChangeThatWaits(t *testing.T) {
	for _, by := range []string{"PIN", "unlock"} {
		t.Run(by, func(t *testing.T) {
			b := newBench(t)
			id := b.create(t, "r").Info.Header.Wallet
			request := message(b, id, 0, goodPIN, [32]byte{1})
			if by == "unlock" {
				if _, err := b.unlock(id, goodPIN, anything()); err != nil {
					t.Fatal(err)
				}
				request.PIN = nil
			}
			waits, goOn, frozen := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			b.audit.before = func(e wallet.Event) {
				if e.Action == "sign" {
					close(waits)
					<-goOn
				}
			}
			go func() {
				<-waits
				go close(goOn)
				_, err := b.Freeze(context.Background(), wallet.Actor{Peer: b.peer}, id, "relay")
				frozen <- err
			}()
			if _, err := b.sign(request); err != nil {
				t.Error(err)
			}
			if err := <-frozen; err != nil {
				t.Error(err)
			}
			if lines := b.audit.lines(); slices.Index(lines, "sign ok") > slices.Index(lines, "freeze ok") {
				t.Errorf("the freeze's line is the earlier one: %q", lines)
			}
		})
	}
}

// Nothing signs by an unlock that the log does not know.
func TestNoUnlockWithoutAudit(t *testing.T) {
	b := newBench(t)
	id := b.create(t, "r").Info.Header.Wallet
	held := 0
	b.audit.before = func(e wallet.Event) {
		if e.Action == "unlock" && e.Result == "ok" {
			held = b.Unlocks()
		}
	}
	if _, err := b.unlock(id, goodPIN, anything()); err != nil || held != 0 {
		t.Errorf("%v; %d wallets were unlocked before the line was written", err, held)
	}
	b.Lock(t.Context(), b.peer, id)
	b.audit.err = errors.New("disk full")
	if _, err := b.unlock(id, goodPIN, anything()); !errors.Is(err, b.audit.err) || b.Unlocks() != 0 {
		t.Errorf("%v; %d wallets are unlocked", err, b.Unlocks())
	}
	if err := b.objectsLeft(); err != nil {
		t.Error(err)
	}
}
