package ipc_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/rpc"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

func TestGethsClient(t *testing.T) {
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods()})
	c, err := rpc.DialIPC(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got []any
	if err := c.CallContext(t.Context(), &got, "test_echo", "a", map[string]int{"b": 1}); err != nil || len(got) != 2 {
		t.Fatalf("got %v, %v", got, err)
	}

	err = c.CallContext(t.Context(), nil, "test_denied")
	var code rpc.Error
	var data rpc.DataError
	if !errors.As(err, &code) || code.ErrorCode() != -32010 || !errors.As(err, &data) {
		t.Fatalf("got %v", err)
	}
	if m, ok := data.ErrorData().(map[string]any); !ok || m["reason"] != "wrongPin" || m["attemptsLeft"] != 3.0 {
		t.Fatalf("got %v", data.ErrorData())
	}

	batch := []rpc.BatchElem{
		{Method: "test_echo", Args: []any{1}, Result: new([]int)},
		{Method: "nowhere"},
		{Method: "test_nothing", Result: new(any)},
	}
	if err := c.BatchCallContext(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if batch[0].Error != nil || (*batch[0].Result.(*[]int))[0] != 1 || batch[1].Error == nil || batch[2].Error != nil {
		t.Fatalf("got %+v", batch)
	}
}

// Geth's client waits, without a deadline of its own, for an answer to the id that
// it sent. What the server refuses unread must reach it all the same.
func TestGethsClientLearnsOfWhatIsRefused(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.MessageBytes, l.Depth, l.Batch = 4096, 8, 2 })
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods(), Limits: limits})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // that it waits is the failure
	defer cancel()
	c, err := rpc.DialIPC(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for reason, params := range map[string]any{
		ipc.ReasonTooLarge: strings.Repeat("x", 40_000),
		ipc.ReasonTooDeep:  json.RawMessage(strings.Repeat("[", 9) + strings.Repeat("]", 9)),
	} {
		err := c.CallContext(ctx, nil, "test_echo", params)
		var data rpc.DataError
		if !errors.As(err, &data) || data.ErrorData().(map[string]any)["reason"] != reason {
			t.Errorf("got %v, want %s", err, reason)
		}
	}
	for name, batch := range map[string][]rpc.BatchElem{
		"long":    {{Method: "test_nothing"}, {Method: "test_nothing"}, {Method: "test_nothing"}},
		"large":   {{Method: "test_echo", Args: []any{strings.Repeat("x", 40_000)}}},
		"endless": {{Method: "test_echo", Args: []any{strings.Repeat("x", 400_000)}}},
	} {
		if err := c.BatchCallContext(ctx, batch); err == nil || ctx.Err() != nil {
			t.Errorf("a %s batch: %v", name, err)
		}
	}
	if err := c.CallContext(ctx, nil, "test_echo", strings.Repeat("x", 400_000)); err == nil || ctx.Err() != nil {
		t.Errorf("an endless request: %v", err)
	}
	if err := c.CallContext(ctx, nil, "test_nothing"); err != nil { // it dials anew
		t.Errorf("after that: %v", err)
	}
}

// noop is the service of go-ethereum's server in the benchmark.
type noop struct{}

func (noop) Nothing() error { return nil }

func gethServer(b *testing.B) string {
	b.Helper()
	path := filepath.Join(ipctest.Directory(b), "g")
	ln, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	server := rpc.NewServer()
	if err := server.RegisterName("test", noop{}); err != nil {
		b.Fatal(err)
	}
	go func() { _ = server.ServeListener(ln) }()
	b.Cleanup(func() { ln.Close(); server.Stop() })
	return path
}

// BenchmarkCall compares a call that does nothing: both clients on both
// servers, one call at a time and many.
func BenchmarkCall(b *testing.B) {
	nothing := func(context.Context, json.RawMessage) (any, error) { return nil, nil }
	_, ours := ipctest.Serve(b, ipc.Options{Allow: everybody, Methods: map[string]ipc.Handler{"test_nothing": nothing}})
	geth := gethServer(b)
	for _, server := range []struct{ name, path string }{{"sigild", ours}, {"geth", geth}} {
		own, err := ipc.Dial(b.Context(), server.path)
		if err != nil {
			b.Fatal(err)
		}
		defer own.Close()
		theirs, err := rpc.DialIPC(b.Context(), server.path)
		if err != nil {
			b.Fatal(err)
		}
		defer theirs.Close()
		for _, client := range []struct {
			name string
			call func() error
		}{
			{"sigild", func() error { return own.Call(b.Context(), "test_nothing", nil, nil) }},
			{"geth", func() error { return theirs.CallContext(b.Context(), nil, "test_nothing") }},
		} {
			b.Run("server="+server.name+"/client="+client.name+"/serial", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := client.call(); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("server="+server.name+"/client="+client.name+"/parallel", func(b *testing.B) {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := client.call(); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
