package ipc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

func TestHalfClosedPeerGetsItsAnswer(t *testing.T) {
	g, _, path := serveGate(t, ipc.Options{})
	c := talk(t, path)
	c.send(gateCall)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	ctx := await(t, g.entered)
	close(g.open)
	c.wantResult(1, `"done"`)
	c.wantEnd()
	await(t, ctx.Done())
}

func TestStreamThatEndsWithinARequest(t *testing.T) {
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods()})
	for _, test := range []struct{ text, reason string }{
		{`{"jsonrpc":"2.0",`, ipc.ReasonParse},
		{`"half`, ipc.ReasonParse},
		{`12`, ipc.ReasonInvalidRequest},
	} {
		c := talk(t, path)
		c.send(test.text)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c.wantReason(nil, test.reason)
		c.wantEnd()
	}
}

func TestContextEndsWhenThePeerHangsUp(t *testing.T) {
	for name, pipelined := range map[string]string{
		"while the server reads":               "",
		"while the server does not read":       gateCall,
		"after it has ended its requests":      "end",
		"while the server does not read, full": gateCall + strings.Repeat(gateCall, 100),
	} {
		t.Run(name, func(t *testing.T) {
			limits := withLimits(func(l *ipc.Limits) { l.InFlight = 1 })
			g, _, path := serveGate(t, ipc.Options{Limits: limits})
			c := talk(t, path)
			c.send(gateCall)
			ctx := await(t, g.entered)
			if pipelined == "end" {
				_ = c.CloseWrite()
			} else {
				c.send(pipelined)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			await(t, ctx.Done())
		})
	}
}

func TestNotificationsAreNotExecuted(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	note := func(_ context.Context, params json.RawMessage) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, string(params))
		return nil, nil
	}
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: map[string]ipc.Handler{"test_note": note}})
	c := talk(t, path)
	c.send(`{"jsonrpc":"2.0","method":"test_note","params":["alone"]}
		[{"jsonrpc":"2.0","method":"test_note","params":["batch"]}]
		[{"jsonrpc":"2.0","method":"test_note","params":["mixed"]},{"jsonrpc":"2.0","id":1,"method":"test_note","params":["call"]}]`)
	var batch []answer
	if err := c.dec.Decode(&batch); err != nil || len(batch) != 1 || batch[0].ID != 1.0 {
		t.Fatalf("got %+v, %v", batch, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 1 || seen[0] != `["call"]` {
		t.Fatalf("handled %q", seen)
	}
}

func TestParametersAreWiped(t *testing.T) {
	var kept []json.RawMessage
	done := make(chan struct{}, 10)
	handlers := map[string]ipc.Handler{
		"test_keep": func(_ context.Context, params json.RawMessage) (any, error) {
			kept = append(kept, params)
			return nil, nil
		},
	}
	server, path := ipctest.Serve(t, ipc.Options{
		Allow: everybody, Methods: handlers,
		OnRequest: func(context.Context, ipc.RequestInfo) { done <- struct{}{} },
	})
	c := talk(t, path)
	c.send(`{"jsonrpc":"2.0","id":1,"method":"test_keep","params":[{"pin":"493817"}]}`)
	c.wantResult(1, `null`)
	await(t, done)
	if err := server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 1 || len(kept[0]) == 0 || len(bytes.Trim(kept[0], "\x00")) != 0 {
		t.Fatalf("the request's bytes are still there")
	}
}

func TestLogHoldsNoParametersAndNoResults(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&lockedWriter{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods(), Logger: logger})
	c := talk(t, path)
	for _, method := range []string{"test_internal", "test_panic", "test_echo", "test_strict", "nowhere", "test_denied"} {
		c.send(`{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":[{"pin":"493817","493817":1}]}`)
		c.receive()
	}
	c.send(`{"pin":"493817"}`)
	c.receive()
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(log.String(), "493817") {
		t.Fatalf("the PIN is in the log:\n%s", log.String())
	}
	for _, want := range []string{"CKR_GENERAL_ERROR", "handler panicked", `"method":"test_internal"`, `"uid":`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in the log:\n%s", want, log.String())
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func TestOnRequest(t *testing.T) {
	infos := make(chan ipc.RequestInfo, 10)
	_, path := ipctest.Serve(t, ipc.Options{
		Allow: everybody, Methods: methods(),
		OnRequest: func(ctx context.Context, info ipc.RequestInfo) {
			if _, ok := ipc.PeerFrom(ctx); ok {
				infos <- info
			}
		},
	})
	c := talk(t, path)
	for _, test := range []struct {
		method string
		reason string
	}{
		{"test_echo", ""}, {"test_denied", "wrongPin"}, {"nowhere", ipc.ReasonMethodNotFound},
	} {
		c.send(`{"jsonrpc":"2.0","id":1,"method":"` + test.method + `"}`)
		c.receive()
		info := await(t, infos)
		if info.Method != test.method || ipc.ReasonOf(info.Err) != test.reason || info.Peer.PID == 0 || info.Duration < 0 {
			t.Errorf("got %+v", info)
		}
	}
	c.send(`{"jsonrpc":"2.0","id":1,"method":"test_internal"}`)
	c.receive()
	if info := await(t, infos); !strings.Contains(info.Err.Error(), "CKR_GENERAL_ERROR") {
		t.Errorf("got %v, want the internal error", info.Err)
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.InFlight = 2 })
	g, server, path := serveGate(t, ipc.Options{Limits: limits})
	busy, idle := talk(t, path), talk(t, path)
	busy.send(gateCall + gateCall)
	await(t, g.entered)
	await(t, g.entered)
	idle.send(`{"jsonrpc":"2.0","id":1,"method":"test_nothing"}`)
	idle.wantResult(1, `null`)

	result := make(chan error, 1)
	go func() { result <- server.Shutdown(context.Background()) }()
	idle.wantEnd()
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		t.Error("the socket still accepts connections")
	}
	awaitDrain(t, server)
	busy.send(`{"jsonrpc":"2.0","id":2,"method":"test_nothing"}`) // not read any more
	close(g.open)
	busy.wantResult(1, `"done"`)
	busy.wantResult(1, `"done"`)
	busy.wantEnd()
	if err := await(t, result); err != nil {
		t.Fatal(err)
	}
}

// awaitDrain returns when a Shutdown that has begun has told every connection: it
// tells them one after the other, and a request that comes before its
// connection's turn is still served. Serve waits for that before it refuses.
func awaitDrain(t *testing.T, server *ipc.Server) {
	t.Helper()
	ln, err := ipc.Listen(ipctest.Directory(t)+"/late", 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(t.Context(), ln); !errors.Is(err, ipc.ErrServerClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestShutdownEndsRequestsWhenItsContextDoes(t *testing.T) {
	g, server, path := serveGate(t, ipc.Options{})
	c := talk(t, path)
	c.send(gateCall)
	handler := await(t, g.entered)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	await(t, handler.Done())
	c.drainToEnd()
	if err := server.Shutdown(t.Context()); err != nil {
		t.Fatalf("second Shutdown: %v", err)
	}
}

func TestServeAfterShutdown(t *testing.T) {
	server := ipc.NewServer(ipc.Options{Allow: everybody})
	if err := server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ln, err := ipc.Listen(ipctest.Directory(t)+"/s", 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(t.Context(), ln); !errors.Is(err, ipc.ErrServerClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestEndOfServesContextClosesConnections(t *testing.T) {
	g := newGate()
	path := ipctest.Directory(t) + "/s"
	ln, err := ipc.Listen(path, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	server := ipc.NewServer(ipc.Options{Allow: everybody, Methods: map[string]ipc.Handler{"test_gate": g.handle}})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- server.Serve(ctx, ln) }()
	c := talk(t, path)
	c.send(gateCall)
	handler := await(t, g.entered)
	cancel()
	await(t, handler.Done())
	c.drainToEnd()
	if err := await(t, result); err != nil {
		t.Fatal(err)
	}
}
