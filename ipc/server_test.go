package ipc_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

func everybody(ipc.Peer) bool { return true }

// methods are the handlers of most tests.
func methods() map[string]ipc.Handler {
	return map[string]ipc.Handler{
		"test_echo": func(_ context.Context, params json.RawMessage) (any, error) {
			return append(json.RawMessage(nil), params...), nil
		},
		"test_nothing": func(context.Context, json.RawMessage) (any, error) { return nil, nil },
		"test_denied": func(context.Context, json.RawMessage) (any, error) {
			left, charged, after := 3, true, 2.5
			locked := ipc.At(time.Unix(1_700_000_000, 0))
			return nil, &ipc.Error{
				Code: -32010, Reason: "wrongPin", Message: "the PIN is wrong", AttemptsLeft: &left,
				Charged: &charged, RetryAfter: &after, LockedUntil: &locked, Field: "pin",
			}
		},
		"test_codeless": func(context.Context, json.RawMessage) (any, error) {
			return nil, &ipc.Error{Reason: "frozen", Message: "the wallet is frozen"}
		},
		"test_internal": func(context.Context, json.RawMessage) (any, error) {
			return nil, errors.New("token at 10.0.0.1 said CKR_GENERAL_ERROR")
		},
		"test_nilError": func(context.Context, json.RawMessage) (any, error) {
			var e *ipc.Error
			return nil, e
		},
		"test_panic":         func(context.Context, json.RawMessage) (any, error) { panic("boom") },
		"test_unmarshalable": func(context.Context, json.RawMessage) (any, error) { return make(chan int), nil },
		"test_strict": func(_ context.Context, params json.RawMessage) (any, error) {
			p, err := ipc.Decode[ipc.CreateWalletParams](params)
			defer p.PIN.Wipe()
			return p.Owner, err
		},
		"rpc.discover": func(context.Context, json.RawMessage) (any, error) { return "ours", nil },
	}
}

func TestConversations(t *testing.T) {
	limits := ipc.DefaultLimits()
	limits.Batch, limits.Depth, limits.MessageBytes = 4, 8, 1024
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods(), Limits: limits})
	ipctest.Run(t, "testdata/*.txt", func(t *testing.T) net.Conn { return ipctest.Connect(t, path) })
}

// TestGoldenChild fails, on purpose, in the process that the test below starts.
func TestGoldenChild(t *testing.T) {
	if pattern := os.Getenv("GOLDEN_PATTERN"); pattern != "" {
		_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods()})
		ipctest.Run(t, pattern, func(t *testing.T) net.Conn { return ipctest.Connect(t, path) })
	}
}

func TestConversationsThatMustFail(t *testing.T) {
	dir := t.TempDir()
	ok := "--> {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"test_nothing\"}\n"
	for name, test := range map[string]struct{ text, want string }{
		"wrong":    {ok + `<-- {"jsonrpc":"2.0","id":1,"result":1}`, "want {"},
		"more":     {ok + `<-- {"jsonrpc":"2.0","id":1,"result":null,"x":1}`, "want {"},
		"silent":   {"// nothing is sent\n", "0 requests"},
		"typo":     {ok + "<- {}", "neither a comment nor"},
		"not-JSON": {ok + "<-- {", "is not JSON"},
		"open":     {ok + "<-- <closed>", "want the connection closed"},
		"missing":  {"", "no conversation matches"},
	} {
		pattern := filepath.Join(dir, name+".txt")
		if test.text != "" {
			if err := os.WriteFile(pattern, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestGoldenChild$")
		cmd.Env = append(os.Environ(), "GOLDEN_PATTERN="+pattern, "GORACE=atexit_sleep_ms=0")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), test.want) {
			t.Errorf("%s: got %v, %s", name, err, out)
		}
	}
}

// conversation is a connection with a decoder of answers.
type conversation struct {
	*net.UnixConn
	t   *testing.T
	dec *json.Decoder
}

func talk(t *testing.T, path string) *conversation {
	t.Helper()
	conn := ipctest.Connect(t, path)
	return &conversation{conn, t, json.NewDecoder(conn)}
}

func (c *conversation) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

type answer struct {
	ID     any             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *ipc.Error      `json:"error"`
}

func (c *conversation) receive() answer {
	c.t.Helper()
	var a answer
	if err := c.dec.Decode(&a); err != nil {
		c.t.Fatalf("receive: %v", err)
	}
	return a
}

// wantResult expects the answer to id to be the JSON text result.
func (c *conversation) wantResult(id float64, result string) {
	c.t.Helper()
	a := c.receive()
	if a.Error != nil || a.ID != id || string(a.Result) != result {
		c.t.Fatalf("got id %v, result %s, error %v; want %v, %s", a.ID, a.Result, a.Error, id, result)
	}
}

// wantResultSoon sends a request until it is not overloaded: what an answered one took
// is given back a moment after its answer was read.
func (c *conversation) wantResultSoon(request string, id float64, result string) {
	c.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		c.send(request)
		a := c.receive()
		if a.Error != nil && a.Error.Reason == ipc.ReasonOverloaded && time.Now().Before(end) {
			continue
		}
		if a.Error != nil || a.ID != id || string(a.Result) != result {
			c.t.Fatalf("got id %v, result %s, error %v; want %v, %s", a.ID, a.Result, a.Error, id, result)
		}
		return
	}
}

// wantReason expects an error with reason; id is nil for null.
func (c *conversation) wantReason(id any, reason string) *ipc.Error {
	c.t.Helper()
	a := c.receive()
	if a.Error == nil || a.Error.Reason != reason || a.ID != id {
		c.t.Fatalf("got id %v, result %s, error %v; want %v, reason %s", a.ID, a.Result, a.Error, id, reason)
	}
	return a.Error
}

// wantEnd expects the server to close the connection.
func (c *conversation) wantEnd() {
	c.t.Helper()
	var a json.RawMessage
	err := c.dec.Decode(&a)
	var timeout net.Error
	if err == nil || (errors.As(err, &timeout) && timeout.Timeout()) {
		c.t.Fatalf("got %s, error %v; want the connection closed", a, err)
	}
}

// drainToEnd is wantEnd where an answer may still come first.
func (c *conversation) drainToEnd() {
	c.t.Helper()
	if _, err := io.Copy(io.Discard, io.MultiReader(c.dec.Buffered(), c)); errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("the connection is still open")
	}
}

// gate is a handler that tells when it is entered and waits to be let go.
type gate struct {
	entered chan context.Context
	open    chan struct{}
}

func newGate() *gate {
	return &gate{entered: make(chan context.Context, 1000), open: make(chan struct{})}
}

func (g *gate) handle(ctx context.Context, _ json.RawMessage) (any, error) {
	g.entered <- ctx
	select {
	case <-g.open:
		return "done", nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// await returns the next value of ch or fails the test.
func await[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing happened in 20 s")
		panic("unreachable")
	}
}

// serveGate starts a server with the method test_gate beside the others.
func serveGate(t *testing.T, opts ipc.Options) (*gate, *ipc.Server, string) {
	t.Helper()
	g := newGate()
	opts.Methods = methods()
	opts.Methods["test_gate"] = g.handle
	if opts.Allow == nil {
		opts.Allow = everybody
	}
	server, path := ipctest.Serve(t, opts)
	return g, server, path
}

const gateCall = `{"jsonrpc":"2.0","id":1,"method":"test_gate"}`
