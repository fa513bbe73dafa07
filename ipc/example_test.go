package ipc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/sigild/sigild/ipc"
)

// standIn is a daemon for the examples, which can be stopped and started again.
type standIn struct {
	path string
	stop context.CancelFunc
	done chan error
}

func startStandIn() *standIn {
	dir, err := os.MkdirTemp("", "sigild")
	if err != nil {
		log.Fatal(err)
	}
	d := &standIn{path: filepath.Join(dir, "s")}
	d.start()
	return d
}

func (d *standIn) start() {
	left, charged := 9, true
	signMessage := func(ctx context.Context, params json.RawMessage) (any, error) {
		p, err := ipc.Decode[ipc.SignMessageParams](params)
		if err != nil {
			return nil, err
		}
		switch {
		case string(p.Message) == "slow":
			<-ctx.Done()
			return nil, ctx.Err()
		case string(p.Message) == "busy":
			return nil, ipc.Overloaded("too many PIN checks are waiting", time.Second)
		case string(p.PIN) != "402916":
			return nil, &ipc.Error{Code: ipc.CodeUnauthorized, Reason: "wrongPin", Message: "wrong PIN", AttemptsLeft: &left, Charged: &charged}
		}
		return ipc.SignMessageResult{Signature: make(ipc.Hex, 65), AttemptsLeft: 10}, nil
	}
	listener, err := ipc.Listen(d.path, 0o600, -1)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d.stop, d.done = stop, make(chan error, 1)
	server := ipc.NewServer(ipc.Options{Allow: func(ipc.Peer) bool { return true },
		Methods: map[string]ipc.Handler{ipc.MethodSignMessage: signMessage}})
	go func() { d.done <- server.Serve(ctx, listener) }()
}

func (d *standIn) end() {
	d.stop()
	if err := <-d.done; err != nil {
		log.Fatal(err)
	}
}

func (d *standIn) remove() {
	d.end()
	_ = os.RemoveAll(filepath.Dir(d.path))
}

// A client of a daemon that runs as the same user. Any other one pins the
// installation's identity key, and seals its PINs:
//
//	ipc.Dial(ctx, "/run/sigild/sigild.sock", ipc.Identity(key))
func ExampleDial() {
	daemon := startStandIn()
	defer daemon.remove()
	client, err := ipc.Dial(context.Background(), daemon.path, ipc.PlainPINs())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	pin := ipc.Secret("402916")
	defer pin.Wipe()
	signed, err := client.SignMessage(context.Background(), ipc.SignMessageParams{
		Address: "0x71562b71999873DB5b286dF957af199Ec94617F7", Message: ipc.Hex("hello"), PIN: pin})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(signed.Signature))
	// Output: 65
}

// Every answer of the daemon that is an error is an *Error: its reason says what
// happened, the other fields what a caller needs to go on.
func ExampleError() {
	daemon := startStandIn()
	defer daemon.remove()
	client, err := ipc.Dial(context.Background(), daemon.path, ipc.PlainPINs())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for _, message := range []string{"hello", "busy"} {
		_, err = client.SignMessage(context.Background(), ipc.SignMessageParams{
			Address: "0x71562b71999873DB5b286dF957af199Ec94617F7", Message: ipc.Hex(message), PIN: ipc.Secret("739105")})
		var refused *ipc.Error
		switch {
		case !errors.As(err, &refused):
			log.Fatal(err) // the connection, or the context
		case refused.Reason == "wrongPin":
			fmt.Println("ask the user again, attempts left:", *refused.AttemptsLeft)
		case refused.RetryAfter != nil:
			fmt.Println("repeat after", *refused.RetryAfter, "s:", refused.Reason)
		}
	}
	// Output:
	// ask the user again, attempts left: 9
	// repeat after 1 s: overloaded
}

// errors.Is asks for a reason.
func ExampleError_Is() {
	err := fmt.Errorf("sign: %w", &ipc.Error{Reason: "overloaded", Message: "too many requests"})
	fmt.Println(errors.Is(err, &ipc.Error{Reason: ipc.ReasonOverloaded}), ipc.ReasonOf(err))
	// Output: true overloaded
}

// A context bounds one call. The daemon may act on it all the same.
func ExampleClient_context() {
	daemon := startStandIn()
	defer daemon.remove()
	client, err := ipc.Dial(context.Background(), daemon.path, ipc.PlainPINs())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = client.SignMessage(ctx, ipc.SignMessageParams{
		Address: "0x71562b71999873DB5b286dF957af199Ec94617F7", Message: ipc.Hex("slow"), PIN: ipc.Secret("402916")})
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}

// The daemon is restarted, and the same client goes on. A call whose connection
// ended before its answer returns ErrConnectionLost: repeat what has a request id.
func ExampleClient_redial() {
	daemon := startStandIn()
	defer daemon.remove()
	client, err := ipc.Dial(context.Background(), daemon.path, ipc.PlainPINs())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	sign := func() {
		_, err := client.SignMessage(context.Background(), ipc.SignMessageParams{
			Address: "0x71562b71999873DB5b286dF957af199Ec94617F7", Message: ipc.Hex("hello"), PIN: ipc.Secret("402916")})
		fmt.Println(err)
	}
	sign()
	daemon.end()
	daemon.start()
	sign()
	// Output:
	// <nil>
	// <nil>
}
