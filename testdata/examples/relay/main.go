// Command relay is an example of a wallet back end on sigild. docs/integrate.md
// explains it, and the tests run it. It reads PINs from standard input, a line
// each: a real one gets them from its users.
//
//	relay SOCKET IDENTITY-KEY
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/sigild/sigild/ipc"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 3 {
		log.Fatal("usage: relay SOCKET IDENTITY-KEY")
	}
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

// relay is one user's session.
type relay struct {
	client *ipc.Client
	pins   *bufio.Scanner
	key    ipc.Hex // the installation's identity key, pinned when the relay was set up
}

func run(ctx context.Context, socket, identity string) error {
	r := &relay{pins: bufio.NewScanner(os.Stdin)}
	if err := r.key.UnmarshalText([]byte(identity)); err != nil {
		return err
	}
	var err error
	if r.client, err = ipc.Dial(ctx, socket, ipc.Identity(r.key)); err != nil {
		return err
	}
	defer r.client.Close()
	wallet, err := r.signUp(ctx)
	if err != nil {
		return err
	}
	if err := r.pay(ctx, wallet); err != nil {
		return err
	}
	if err := r.session(ctx, wallet); err != nil {
		return err
	}
	return r.newPIN(ctx, wallet)
}

// signUp makes the user's wallet, once, however often it is called.
func (r *relay) signUp(ctx context.Context) (ipc.Hex, error) {
	p := ipc.CreateWalletParams{
		RequestID:  "signup-4711", // from the relay's own database, the same at every try
		Owner:      "alice",
		ExternalID: "user:4711",
	}
	pin := r.ask("a PIN for the new wallet")
	defer clear(pin)
	made, err := again(ctx, func() (*ipc.CreateWalletResult, error) {
		q := p
		q.PIN = pin
		return r.client.CreateWallet(ctx, q)
	})
	if err != nil {
		return nil, err
	}
	s, err := verify(&made.Receipt, r.key, p)
	if err != nil {
		return nil, err
	}
	fmt.Println("wallet", s.WalletID, "existed", made.Existing)
	fmt.Println("address", made.Wallet.Accounts[0].Address)
	return made.Wallet.WalletID, nil
}

// pay signs one transaction with the PIN, and asks again when it was wrong.
func (r *relay) pay(ctx context.Context, wallet ipc.Hex) error {
	transaction := json.RawMessage(`{"type":"0x2","chainId":"0x1","nonce":"0x0",
		"to":"0x9858EfFD232B4033E47d90003D41EC34EcaEda94","value":"0x2386f26fc10000",
		"gas":"0x5208","maxFeePerGas":"0x4a817c800","maxPriorityFeePerGas":"0x3b9aca00"}`)
	for {
		pin := r.ask("the PIN")
		signed, err := again(ctx, func() (*ipc.SignTransactionResult, error) {
			return r.client.SignTransaction(ctx, ipc.SignTransactionParams{WalletID: wallet, Transaction: transaction, PIN: pin})
		})
		clear(pin)
		if wrong := wrongPIN(err); wrong != nil {
			fmt.Println("wrong PIN, attempts left:", *wrong.AttemptsLeft)
			continue
		}
		if err != nil {
			return err
		}
		fmt.Println("transaction", signed.Raw)
		return nil
	}
}

// session signs several messages with one PIN.
func (r *relay) session(ctx context.Context, wallet ipc.Hex) error {
	if err := r.unlock(ctx, wallet); err != nil {
		return err
	}
	for n := range 3 {
		err := r.greet(ctx, wallet)
		if needsUnlock(err) { // used up, out of time, or the token lost the keys
			fmt.Println("unlocking again")
			if err = r.unlock(ctx, wallet); err == nil {
				err = r.greet(ctx, wallet)
			}
		}
		if err != nil {
			return fmt.Errorf("message %d: %w", n, err)
		}
	}
	return nil
}

func (r *relay) unlock(ctx context.Context, wallet ipc.Hex) error {
	pin := r.ask("the PIN, to unlock")
	defer clear(pin)
	u, err := again(ctx, func() (*ipc.UnlockResult, error) {
		return r.client.Unlock(ctx, ipc.UnlockParams{WalletID: wallet, PIN: pin, Terms: ipc.Terms{
			Signatures: 2, Seconds: 300, TotalValue: "0x0",
			Policy: ipc.Policy{Operations: []string{"message"}},
		}})
	})
	if err != nil {
		return err
	}
	fmt.Println("unlocked for", u.Signatures, "signatures")
	return nil
}

func (r *relay) greet(ctx context.Context, wallet ipc.Hex) error {
	signed, err := again(ctx, func() (*ipc.SignMessageResult, error) {
		return r.client.SignMessage(ctx, ipc.SignMessageParams{WalletID: wallet, Message: ipc.Hex("hello")})
	})
	if err != nil {
		return err
	}
	fmt.Println("message", signed.Signature)
	return nil
}

// newPIN changes the PIN, once.
func (r *relay) newPIN(ctx context.Context, wallet ipc.Hex) error {
	p := ipc.ChangePINParams{RequestID: "pin-4711-1", WalletID: wallet}
	old, next := r.ask("the old PIN"), r.ask("the new PIN")
	defer clear(old)
	defer clear(next)
	changed, err := again(ctx, func() (*ipc.ChangedWalletResult, error) {
		q := p
		q.PIN, q.NewPIN = old, next
		return r.client.ChangePIN(ctx, q)
	})
	if err != nil {
		return err
	}
	if _, err := verify(&changed.Receipt, r.key, p); err != nil {
		return err
	}
	fmt.Println("PIN changed")
	return nil
}

// ask stands for the user. The caller overwrites the PIN.
func (r *relay) ask(question string) ipc.Secret {
	fmt.Println("asking for", question)
	r.pins.Scan()
	return append(ipc.Secret(nil), r.pins.Bytes()...)
}

// again repeats a call, unchanged, while the daemon says that it may succeed
// later or its answer was lost. What has a requestId is done once all the same.
func again[R any](ctx context.Context, call func() (*R, error)) (*R, error) {
	for try := time.Duration(1); ; try++ {
		result, err := call()
		wait := try * 100 * time.Millisecond
		var e *ipc.Error
		switch {
		case errors.As(err, &e) && e.RetryAfter != nil: // overloaded, a device that is away
			wait = time.Duration(*e.RetryAfter * float64(time.Second))
		case errors.Is(err, ipc.ErrConnectionLost), errors.Is(err, ipc.ErrNotSent):
		default:
			return result, err
		}
		if try == 10 {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// wrongPIN is the error of a wrong PIN, which nobody but the user mends.
func wrongPIN(err error) *ipc.Error {
	var e *ipc.Error
	if errors.As(err, &e) && e.Reason == "wrongPin" && e.AttemptsLeft != nil {
		return e
	}
	return nil
}

func needsUnlock(err error) bool {
	reason := ipc.ReasonOf(err)
	return reason == "unlockRequired" || reason == "relock"
}
