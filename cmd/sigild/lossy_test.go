package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// lossyProxy stands between a relay and sigild. It loses half of all answers:
// the request was carried out, and the connection breaks before the relay knows.
// After one request in six it hangs up at once, in the middle of the work.
type lossyProxy struct {
	listener net.Listener
	target   string
	lost     atomic.Int64

	mu     sync.Mutex
	random *rand.Rand
}

func newLossyProxy(t *testing.T, h *daemontest.Host, seed uint64) *lossyProxy {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(h.Dir, "lossy.sock"))
	if err != nil {
		t.Fatal(err)
	}
	p := &lossyProxy{listener: listener, target: h.Socket, random: rand.New(rand.NewPCG(seed, 0))}
	var running sync.WaitGroup
	running.Go(func() { p.serve(&running) })
	t.Cleanup(func() { _ = listener.Close(); running.Wait() })
	return p
}

func (p *lossyProxy) serve(running *sync.WaitGroup) {
	for {
		relay, err := p.listener.Accept()
		if err != nil {
			return
		}
		running.Go(func() { p.pass(relay) })
	}
}

// pass takes requests and answers one by one, as a relay without pipelining
// sends them.
func (p *lossyProxy) pass(relay net.Conn) {
	defer relay.Close()
	daemon, err := net.Dial("unix", p.target)
	if err != nil {
		return
	}
	defer daemon.Close()
	requests, answers := json.NewDecoder(relay), json.NewDecoder(daemon)
	for {
		var request, answer json.RawMessage
		if requests.Decode(&request) != nil {
			return
		}
		if _, err := daemon.Write(request); err != nil || p.unlucky(6) {
			return
		}
		if answers.Decode(&answer) != nil || p.unlucky(2) {
			return
		}
		if _, err := relay.Write(append(answer, '\n')); err != nil {
			return
		}
	}
}

// unlucky is true once in n times, and counts that.
func (p *lossyProxy) unlucky(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.random.IntN(n) > 0 {
		return false
	}
	p.lost.Add(1)
	return true
}

// retried makes a call again, unchanged, until an answer comes.
func retried[R any](ctx context.Context, call func(context.Context) (R, error)) (R, error) {
	for {
		r, err := call(ctx)
		if errors.Is(err, ipc.ErrConnectionLost) || errors.Is(err, ipc.ErrNotSent) {
			continue
		}
		return r, err
	}
}

// lossyUser is a user of the relay: two wallets, a second account, three
// changes of the PIN, a signature, and one wallet deleted.
type lossyUser struct {
	client *ipc.Client
	name   string
	pin    string
	keeps  ipc.Hex
}

func (u *lossyUser) live(ctx context.Context) error {
	created := map[string]ipc.Hex{}
	for _, request := range []string{"keeps", "deletes"} {
		r, err := retried(ctx, func(ctx context.Context) (*ipc.CreateWalletResult, error) {
			return u.client.CreateWallet(ctx, ipc.CreateWalletParams{RequestID: request, Owner: u.name, ExternalID: u.name + request, PIN: ipc.Secret(u.pin)})
		})
		if err != nil {
			return fmt.Errorf("create: %w", err)
		}
		created[request] = r.Wallet.WalletID
	}
	u.keeps = created["keeps"]
	_, err := retried(ctx, func(ctx context.Context) (*ipc.DeriveAccountResult, error) {
		return u.client.DeriveAccount(ctx, ipc.DeriveAccountParams{RequestID: "second", WalletID: u.keeps, PIN: ipc.Secret(u.pin)})
	})
	if err != nil {
		return fmt.Errorf("derive: %w", err)
	}
	for n, next := range []string{"591823", "847205", "306184"} {
		_, err := retried(ctx, func(ctx context.Context) (*ipc.ChangedWalletResult, error) {
			return u.client.ChangePIN(ctx, ipc.ChangePINParams{RequestID: fmt.Sprint("pin", n), WalletID: u.keeps, PIN: ipc.Secret(u.pin), NewPIN: ipc.Secret(next)})
		})
		if err != nil {
			return fmt.Errorf("change the PIN: %w", err)
		}
		u.pin = next
	}
	_, err = retried(ctx, func(ctx context.Context) (*ipc.ChangedWalletResult, error) {
		return u.client.DeleteWallet(ctx, ipc.DeleteWalletParams{RequestID: "close", WalletID: created["deletes"], PIN: ipc.Secret(rightPIN)})
	})
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	_, err = retried(ctx, func(ctx context.Context) (*ipc.SignMessageResult, error) {
		return u.client.SignMessage(ctx, ipc.SignMessageParams{WalletID: u.keeps, Message: ipc.Hex("hello"), PIN: ipc.Secret(u.pin)})
	})
	return err
}

// TestRelayThatLosesEveryOtherAnswer ends with exactly the wallets that the
// relay meant: no attempt is lost, and each PIN change was done once.
func TestRelayThatLosesEveryOtherAnswer(t *testing.T) {
	t.Run("PINs in the clear", func(t *testing.T) {
		loseAnswers(t, func(_ *daemontest.Host, path string) *ipc.Client { return dial(t, path) })
	})
	t.Run("sealed PINs", func(t *testing.T) {
		loseAnswers(t, func(h *daemontest.Host, path string) *ipc.Client { return dialSealed(t, h, path) })
	})
}

func loseAnswers(t *testing.T, dial func(h *daemontest.Host, path string) *ipc.Client) {
	const users = 8
	h, direct := serving(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	proxy := newLossyProxy(t, h, seed)
	all := make([]*lossyUser, users)
	group, ctx := errgroup.WithContext(testContext(t))
	for n := range all {
		all[n] = &lossyUser{client: dial(h, filepath.Join(h.Dir, "lossy.sock")), name: fmt.Sprint("user", n), pin: rightPIN}
		group.Go(func() error { return all[n].live(ctx) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d answers were lost", proxy.lost.Load())
	if proxy.lost.Load() < users {
		t.Fatal("hardly an answer was lost")
	}
	for _, u := range all {
		checkLossyUser(t, direct, u)
	}
	if n := countWallets(t, direct); n != 2*users {
		t.Errorf("%d wallets, want %d", n, 2*users)
	}
	for action, want := range map[string]int{"createWallet": 2 * users, "deriveAccount": users, "changePin": 3 * users, "deleteWallet": users} {
		if n := audited(t, h, action); n != want {
			t.Errorf("the audit log has %d of %s, want %d", n, action, want)
		}
	}
	stop(t, h)
	checkNothingCharged(t, h)
}

// checkNothingCharged looks at the attempt counters themselves: a right PIN later
// hides a lost attempt from the answers, but not from the lifetime count.
func checkNothingCharged(t *testing.T, h *daemontest.Host) {
	t.Helper()
	err := openDatabase(t, h).View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("guard")).ForEach(func(wallet, row []byte) error {
			var envelope struct {
				_      struct{} `cbor:",toarray"`
				Format uint8
				Body   []byte
				MAC    []byte
			}
			var counts struct {
				Consecutive uint32 `cbor:"3,keyasint"`
				Lifetime    uint32 `cbor:"4,keyasint"`
			}
			if err := errors.Join(cbor.Unmarshal(row, &envelope), cbor.Unmarshal(envelope.Body, &counts)); err != nil {
				return err
			}
			if counts.Consecutive != 0 || counts.Lifetime != 0 {
				t.Errorf("wallet %x: %+v attempts were charged", wallet, counts)
			}
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
}

func checkLossyUser(t *testing.T, c *ipc.Client, u *lossyUser) {
	t.Helper()
	r, err := c.ListWallets(testContext(t), ipc.ListWalletsParams{Owner: u.name})
	if err != nil || len(r.Wallets) != 2 {
		t.Fatalf("%s has %d wallets, %v", u.name, len(r.Wallets), err)
	}
	kept, deleted := r.Wallets[0], r.Wallets[1]
	if !bytes.Equal(kept.WalletID, u.keeps) {
		kept, deleted = deleted, kept
	}
	if len(kept.Accounts) != 2 || kept.State != "active" || kept.AttemptsLeft != 10 || deleted.State != "deleted" || deleted.AttemptsLeft != 10 {
		t.Errorf("%s: %+v, %+v", u.name, kept, deleted)
	}
	if _, err := tryPIN(t, c, u.keeps, u.pin); err != nil {
		t.Errorf("%s: the last PIN: %v", u.name, err)
	}
}

// audited counts what the audit log says was done.
func audited(t *testing.T, h *daemontest.Host, action string) int {
	t.Helper()
	return auditedAs(t, h, action, "ok")
}

// auditedAs counts the lines of what was carried out, or refused, and not those of
// repetitions that were answered once more.
func auditedAs(t *testing.T, h *daemontest.Host, action, result string) (n int) {
	t.Helper()
	text, err := os.ReadFile(h.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var entry struct {
			Action, Result string
			Detail         map[string]string
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Action == action && entry.Result == result && entry.Detail["existing"] == "" {
			n++
		}
	}
	return n
}
