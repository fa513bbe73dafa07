package ipc_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

func dial(t *testing.T, path string) *ipc.Client {
	t.Helper()
	c, err := ipc.Dial(t.Context(), path, ipc.PlainPINs())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// strictly answers a method with result and hands over its parameters.
func strictly[T any](got chan<- any, result any) ipc.Handler {
	return func(_ context.Context, params json.RawMessage) (any, error) {
		p, err := ipc.Decode[T](params)
		if err != nil {
			return nil, err
		}
		got <- p
		return result, nil
	}
}

func TestClientMethods(t *testing.T) {
	account := uint32(3)
	id, pin := ipc.Hex{1, 2}, ipc.Secret(`49"817`)
	wallet := ipc.WalletInfo{
		WalletID: id, Owner: "o", CreatedAt: ipc.At(time.Unix(1_700_000_000, 0)), State: "active",
		Accounts:   []ipc.AccountInfo{{Index: 1, Curve: "secp256k1", PublicKey: id, Address: "0xA"}},
		Provenance: []ipc.ProvenanceRecord{{Source: "tpm", Count: 32, Time: ipc.At(time.Unix(1, 0))}},
	}
	receipt := ipc.Receipt{Statement: "s", Signature: id, Key: id}
	status := ipc.StatusResult{
		APIVersion: ipc.APIVersion, State: "ready", Installation: id, IdentityKey: id,
		TPM: ipc.TPMStatus{PCRs: []int{7, 11}}, Entropy: ipc.EntropyStatus{Sources: []string{"kms"}},
	}
	created := ipc.CreateWalletResult{Existing: true, Wallet: wallet, Receipt: receipt}
	listed := ipc.ListWalletsResult{Wallets: []ipc.WalletInfo{wallet}, Cursor: "c"}
	derived := ipc.DeriveAccountResult{Account: wallet.Accounts[0], Receipt: receipt}
	signedTx := ipc.SignTransactionResult{Raw: id, Hash: id, Transaction: json.RawMessage(`{"a":1}`), Signature: id, AttemptsLeft: 9}
	signed := ipc.SignMessageResult{Signature: id, Digest: id, AttemptsLeft: 9}
	got := make(chan any, 1)
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: map[string]ipc.Handler{
		ipc.MethodStatus:          strictly[ipc.StatusParams](got, status),
		ipc.MethodCreateWallet:    strictly[ipc.CreateWalletParams](got, created),
		ipc.MethodGetWallet:       strictly[ipc.GetWalletParams](got, wallet),
		ipc.MethodListWallets:     strictly[ipc.ListWalletsParams](got, listed),
		ipc.MethodDeriveAccount:   strictly[ipc.DeriveAccountParams](got, derived),
		ipc.MethodSignTransaction: strictly[ipc.SignTransactionParams](got, signedTx),
		ipc.MethodSignMessage:     strictly[ipc.SignMessageParams](got, signed),
	}})
	c := dial(t, path)
	check := func(name string, params, result any, want any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if sent := await(t, got); !reflect.DeepEqual(sent, params) {
			t.Errorf("%s: the server got %#v, want %#v", name, sent, params)
		}
		if !reflect.DeepEqual(result, want) {
			t.Errorf("%s: got %#v, want %#v", name, result, want)
		}
	}
	ctx := t.Context()

	r1, err := c.Status(ctx)
	check("status", ipc.StatusParams{}, r1, &status, err)
	p2 := ipc.CreateWalletParams{RequestID: "r", Owner: "o", PIN: pin, Label: "l"}
	r2, err := c.CreateWallet(ctx, p2)
	check("createWallet", p2, r2, &created, err)
	p3 := ipc.GetWalletParams{WalletID: id}
	r3, err := c.GetWallet(ctx, p3)
	check("getWallet", p3, r3, &wallet, err)
	p4 := ipc.ListWalletsParams{Owner: "o", Cursor: "c", Limit: 10}
	r4, err := c.ListWallets(ctx, p4)
	check("listWallets", p4, r4, &listed, err)
	p5 := ipc.DeriveAccountParams{RequestID: "r", WalletID: id, PIN: pin}
	r5, err := c.DeriveAccount(ctx, p5)
	check("deriveAccount", p5, r5, &derived, err)
	p6 := ipc.SignTransactionParams{WalletID: id, Account: &account, Transaction: json.RawMessage(`{"to":null}`), PIN: pin}
	r6, err := c.SignTransaction(ctx, p6)
	check("signTransaction", p6, r6, &signedTx, err)
	p7 := ipc.SignMessageParams{Address: "0xA", Message: ipc.Hex("hi"), PIN: pin}
	r7, err := c.SignMessage(ctx, p7)
	check("signMessage", p7, r7, &signed, err)
	if string(pin) != `49"817` {
		t.Error("the client changed the caller's PIN")
	}
}

func TestClientErrors(t *testing.T) {
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods()})
	c := dial(t, path)
	var e *ipc.Error
	err := c.Call(t.Context(), "test_denied", nil, nil)
	if !errors.As(err, &e) || e.Reason != "wrongPin" || *e.AttemptsLeft != 3 || *e.RetryAfter != 2.5 || !*e.Charged {
		t.Errorf("got %+v", err)
	}
	if err := c.Call(t.Context(), "nowhere", nil, nil); !errors.Is(err, &ipc.Error{Reason: ipc.ReasonMethodNotFound}) {
		t.Errorf("got %v", err)
	}
	if _, err := c.CreateWallet(t.Context(), ipc.CreateWalletParams{}); !errors.Is(err, &ipc.Error{Reason: ipc.ReasonMethodNotFound}) {
		t.Errorf("got %v", err)
	}
	var number int
	if err := c.Call(t.Context(), "test_echo", []any{"x"}, &number); !errors.Is(err, ipc.ErrProtocol) {
		t.Errorf("got %v", err)
	}
	if err := c.Call(t.Context(), "test_echo", make(chan int), nil); !errors.Is(err, ipc.ErrParams) {
		t.Errorf("got %v", err)
	}
	if err := c.Call(t.Context(), "test_nothing", nil, &number); err != nil || number != 0 {
		t.Errorf("null result: got %v", err)
	}
}

func TestClientThatIsNotAllowed(t *testing.T) {
	_, path := ipctest.Serve(t, ipc.Options{Methods: methods()})
	c := dial(t, path)
	for range 5 {
		if err := c.Call(t.Context(), "test_nothing", nil, nil); !errors.Is(err, &ipc.Error{Reason: ipc.ReasonPeerNotAllowed}) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestClientRequestThatIsTooLarge(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.MessageBytes = 1024 })
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods(), Limits: limits})
	c := dial(t, path)
	err := c.Call(t.Context(), "test_echo", []string{strings.Repeat("x", 2000)}, nil)
	if !errors.Is(err, &ipc.Error{Reason: ipc.ReasonTooLarge}) {
		t.Fatalf("got %v", err)
	}
	if err := c.Call(t.Context(), "test_nothing", nil, nil); err != nil {
		t.Fatal(err)
	}
}

func TestClientIsSafeForConcurrentUse(t *testing.T) {
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods()})
	c := dial(t, path)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 30 {
				var got []string
				want := fmt.Sprint(i, j)
				if err := c.Call(t.Context(), "test_echo", []string{want}, &got); err != nil || len(got) != 1 || got[0] != want {
					t.Errorf("got %q, %v, want %q", got, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestClientContext(t *testing.T) {
	g, _, path := serveGate(t, ipc.Options{})
	c := dial(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- c.Call(ctx, "test_gate", nil, nil) }()
	await(t, g.entered)
	cancel()
	if err := await(t, result); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	close(g.open) // the late answer belongs to nobody
	if err := c.Call(t.Context(), "test_nothing", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Call(ctx, "test_nothing", nil, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if _, err := ipc.Dial(ctx, path); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// TestClientContextEndsAWriteThatHangs talks to a server that reads nothing.
func TestClientContextEndsAWriteThatHangs(t *testing.T) {
	path := filepath.Join(ipctest.Directory(t), "s")
	ln := mustListen(t, path, 0o600, -1)
	accepted := make(chan net.Conn, 4)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	c := dial(t, path)
	defer func() { (await(t, accepted)).Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := c.Call(ctx, "test_echo", []string{strings.Repeat("x", 8<<20)}, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestClientDialsAgain(t *testing.T) {
	path := filepath.Join(ipctest.Directory(t), "s")
	var c *ipc.Client
	for i := range 3 {
		ln := mustListen(t, path, 0o600, -1)
		server := ipc.NewServer(ipc.Options{Allow: everybody, Methods: methods()})
		result := make(chan error, 1)
		go func() { result <- server.Serve(context.Background(), ln) }()
		if i == 0 {
			c = dial(t, path)
		}
		if err := c.Call(t.Context(), "test_nothing", nil, nil); err != nil {
			t.Fatalf("server %d: %v", i, err)
		}
		if err := server.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := await(t, result); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Call(t.Context(), "test_nothing", nil, nil); err == nil || !strings.Contains(err.Error(), "is sigild running?") {
		t.Fatalf("without a server: got %v", err)
	}
}

// scripted serves connections by fn, one after another, and counts them.
func scripted(t *testing.T, fn func(n int, conn net.Conn)) string {
	t.Helper()
	path := filepath.Join(ipctest.Directory(t), "s")
	ln := mustListen(t, path, 0o600, -1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; ; n++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			fn(n, conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); await(t, done) })
	return path
}

// TestClientDoesNotRepeatWhatMayHaveBeenDone counts the requests that arrive.
func TestClientDoesNotRepeatWhatMayHaveBeenDone(t *testing.T) {
	requests := make(chan string, 10)
	path := scripted(t, func(_ int, conn net.Conn) {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		requests <- line
	})
	c := dial(t, path)
	if err := c.Call(t.Context(), "test_once", nil, nil); !errors.Is(err, ipc.ErrConnectionLost) {
		t.Fatalf("got %v", err)
	}
	if len(requests) != 1 {
		t.Fatalf("%d requests, want 1", len(requests))
	}
}

func TestClientAnswersThatMakeNoSense(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		want   error
	}{
		"garbage":         {"HTTP/1.1 400 Bad Request\r\n", ipc.ErrProtocol},
		"not an object":   {"[1]", ipc.ErrProtocol},
		"another version": {`{"jsonrpc":"1.0","id":1,"result":1}`, ipc.ErrProtocol},
		"neither":         {`{"jsonrpc":"2.0","id":1}`, ipc.ErrProtocol},
		"no id, no error": {`{"jsonrpc":"2.0","result":1}`, ipc.ErrProtocol},
		"another id":      {`{"jsonrpc":"2.0","id":77,"result":1}`, ipc.ErrConnectionLost},
		"cut short":       {`{"jsonrpc":"2.0","id":1,"resu`, ipc.ErrConnectionLost},
		"only its own error": {`{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"m","data":{"reason":"overloaded"}}}`,
			&ipc.Error{Reason: ipc.ReasonOverloaded}},
	} {
		t.Run(name, func(t *testing.T) {
			path := scripted(t, func(_ int, conn net.Conn) {
				_, _ = bufio.NewReader(conn).ReadString('\n')
				_, _ = io.WriteString(conn, test.answer)
			})
			c := dial(t, path)
			if err := c.Call(t.Context(), "test_nothing", nil, nil); !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
		})
	}
}

// TestClientSendsAgainWhatDidNotLeave talks to a server that first refuses to
// read.
func TestClientSendsAgainWhatDidNotLeave(t *testing.T) {
	deaf := make(chan struct{})
	path := scripted(t, func(n int, conn net.Conn) {
		if n == 1 {
			_ = conn.(*net.UnixConn).CloseRead()
			close(deaf)
			_, _ = io.Copy(io.Discard, conn)
			return
		}
		_, _ = bufio.NewReader(conn).ReadString('\n')
		_, _ = io.WriteString(conn, `{"jsonrpc":"2.0","id":1,"result":"second"}`)
	})
	c := dial(t, path)
	await(t, deaf)
	var got string
	if err := c.Call(t.Context(), "test_any", nil, &got); err != nil || got != "second" {
		t.Fatalf("got %q, %v", got, err)
	}
}

// TestClientErrorThatNamesNoCall has two calls under way: either may be meant.
func TestClientErrorThatNamesNoCall(t *testing.T) {
	path := scripted(t, func(_ int, conn net.Conn) {
		r := bufio.NewReader(conn)
		_, _ = r.ReadString('\n')
		_, _ = r.ReadString('\n')
		_, _ = io.WriteString(conn, `{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m","data":{"reason":"tooLarge"}}}`)
	})
	c := dial(t, path)
	results := make(chan error, 2)
	for range 2 {
		go func() { results <- c.Call(t.Context(), "test_any", nil, nil) }()
	}
	for range 2 {
		if err := await(t, results); !errors.Is(err, ipc.ErrConnectionLost) || ipc.ReasonOf(err) != ipc.ReasonTooLarge {
			t.Fatalf("got %v", err)
		}
	}
}

func TestClientClose(t *testing.T) {
	g, _, path := serveGate(t, ipc.Options{})
	c := dial(t, path)
	result := make(chan error, 1)
	go func() { result <- c.Call(t.Context(), "test_gate", nil, nil) }()
	await(t, g.entered)
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	if err := await(t, result); !errors.Is(err, ipc.ErrConnectionLost) {
		t.Fatalf("got %v", err)
	}
	if err := c.Call(t.Context(), "test_nothing", nil, nil); !errors.Is(err, ipc.ErrClientClosed) {
		t.Fatalf("got %v", err)
	}
}
