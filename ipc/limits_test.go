package ipc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

func TestLimitsValidate(t *testing.T) {
	if err := ipc.DefaultLimits().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*ipc.Limits){
		"MessageBytes":        func(l *ipc.Limits) { l.MessageBytes = 0 },
		"Depth":               func(l *ipc.Limits) { l.Depth = -1 },
		"Batch":               func(l *ipc.Limits) { l.Batch = 0 },
		"InFlight":            func(l *ipc.Limits) { l.InFlight = 0 },
		"InFlightPerUID":      func(l *ipc.Limits) { l.InFlightPerUID = l.Batch - 1 },
		"InFlightBytesPerUID": func(l *ipc.Limits) { l.InFlightBytesPerUID = l.MessageBytes - 1 },
		"AnswerBytesPerUID":   func(l *ipc.Limits) { l.AnswerBytesPerUID = 0 },
		"Connections":         func(l *ipc.Limits) { l.Connections = 0 },
		"ConnectionsPerUID":   func(l *ipc.Limits) { l.ConnectionsPerUID = l.Connections + 1 },
		"IdleTimeout":         func(l *ipc.Limits) { l.IdleTimeout = 0 },
		"WriteTimeout":        func(l *ipc.Limits) { l.WriteTimeout = -time.Second },
		"RequestTimeout":      func(l *ipc.Limits) { l.RequestTimeout = 0 },
	} {
		limits := ipc.DefaultLimits()
		spoil(&limits)
		err := limits.Validate()
		if !errors.Is(err, ipc.ErrLimits) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestServeRefusesInvalidLimits(t *testing.T) {
	ln, err := ipc.Listen(ipctest.Directory(t)+"/s", 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	server := ipc.NewServer(ipc.Options{Limits: ipc.Limits{Depth: 3}, Allow: everybody})
	if err := server.Serve(t.Context(), ln); !errors.Is(err, ipc.ErrLimits) {
		t.Fatalf("got %v", err)
	}
}

// withLimits are the defaults, changed.
func withLimits(change func(*ipc.Limits)) ipc.Limits {
	l := ipc.DefaultLimits()
	change(&l)
	return l
}

func TestTooLargeIsAnsweredAtOnceAndSkipped(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.MessageBytes = 1024 })
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods(), Limits: limits})
	c := talk(t, path)
	c.send(`{"jsonrpc":"2.0","id":1,"method":"test_echo","params":["` + strings.Repeat("x", 2000))
	c.wantReason(1.0, ipc.ReasonTooLarge) // while the request still goes on
	c.send(strings.Repeat("x", 10*1024) + `"]}{"jsonrpc":"2.0","id":2,"method":"test_echo","params":[]}`)
	c.wantResult(2, `[]`)
}

func TestEndlessRequestEndsTheConnection(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.MessageBytes = 1024 })
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods(), Limits: limits})
	c := talk(t, path)
	c.send(`["` + strings.Repeat("x", 17*1024))
	c.wantReason(nil, ipc.ReasonTooLarge)
	c.wantEnd()
	c = talk(t, path)
	c.send(`{"id":1,"params":["` + strings.Repeat("x", 17*1024))
	c.wantReason(1.0, ipc.ReasonTooLarge)
	c.wantEnd()
}

// A caller that waits for its id learns of a refusal wherever the id stands, and
// its connection goes on.
func TestRefusedRequestIsAnsweredByItsId(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.MessageBytes, l.Depth = 1024, 8 })
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods(), Limits: limits})
	c := talk(t, path)
	large, deep := `["`+strings.Repeat("x", 3000)+`"]`, strings.Repeat("[", 9)+strings.Repeat("]", 9)
	for _, form := range []string{
		`{"jsonrpc":"2.0","id":7,"method":"test_echo","params":PARAMS}`,
		`{"method":"test_echo","params":PARAMS,"id":7,"jsonrpc":"2.0"}`,
		` { "params" : PARAMS , "jsonrpc" : "2.0" , "method" : "id" , "id" : 7 } `,
		`{"params":PARAMS,"id":7}`,
	} {
		for reason, params := range map[string]string{ipc.ReasonTooLarge: large, ipc.ReasonTooDeep: deep} {
			c.send(strings.Replace(form, "PARAMS", params, 1))
			c.wantReason(7.0, reason)
			c.send(`{"jsonrpc":"2.0","id":8,"method":"test_nothing"}`)
			c.wantResult(8, `null`)
		}
	}
}

// Without an id that can be read, the end of the connection is the answer that
// every caller understands.
func TestRefusedRequestWithoutIdEndsTheConnection(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.MessageBytes, l.Depth, l.Batch = 1024, 8, 2 })
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods(), Limits: limits})
	large := `["` + strings.Repeat("x", 3000) + `"]`
	for request, reason := range map[string]string{
		`[{"jsonrpc":"2.0","id":7,"method":"test_echo","params":` + large + `}]`:                 ipc.ReasonTooLarge,
		`[{"id":1},{"id":2},{"id":3}]`:                                                           ipc.ReasonBatchTooLong,
		`{"params":` + large + `,"id":{"id":7}}`:                                                 ipc.ReasonTooLarge,
		`{"params":` + large + `,"x":"\",\"id\":7,"}`:                                            ipc.ReasonTooLarge,
		`{"params":` + large + `,"x":"` + strings.Repeat("x", 2000) + `","id":7}`:                ipc.ReasonTooLarge,
		`{"x":"` + strings.Repeat("x", 1000) + `\",\"id\":7,` + strings.Repeat("x", 1000) + `"}`: ipc.ReasonTooLarge,
		`{"id":"` + strings.Repeat("x", 300) + `","params":` + large + `}`:                       ipc.ReasonTooLarge,
		`"` + strings.Repeat("x", 2000) + `"`:                                                    ipc.ReasonTooLarge,
	} {
		c := talk(t, path)
		c.send(request)
		c.wantReason(nil, reason)
		c.wantEnd()
	}
}

func TestInFlightBoundsHandlersAndReading(t *testing.T) {
	const limit, requests = 3, 60
	var running, most atomic.Int32
	limits := withLimits(func(l *ipc.Limits) { l.InFlight = limit })
	handlers := map[string]ipc.Handler{
		"test_count": func(context.Context, json.RawMessage) (any, error) {
			for n := running.Add(1); ; {
				if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
					break
				}
			}
			defer running.Add(-1)
			return json.Marshal(make([]int, 2000)) // some work
		},
	}
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: handlers, Limits: limits})
	c := talk(t, path)
	var all strings.Builder
	for i := range requests / 2 {
		fmt.Fprintf(&all, `{"jsonrpc":"2.0","id":%d,"method":"test_count"}`, i)
	}
	all.WriteString("[")
	for i := range requests / 2 {
		fmt.Fprintf(&all, `{"jsonrpc":"2.0","id":%d,"method":"test_count"},`, i)
	}
	c.send(strings.TrimSuffix(all.String(), ",") + "]")
	for range requests/2 + 1 {
		var answer json.RawMessage
		if err := c.dec.Decode(&answer); err != nil {
			t.Fatal(err)
		}
	}
	if got := most.Load(); got > limit {
		t.Fatalf("%d handlers at once, want at most %d", got, limit)
	}
}

func TestInFlightPerUIDIsOverloadedAndNotCharged(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.InFlight, l.Batch, l.InFlightPerUID = 2, 2, 2 })
	g, _, path := serveGate(t, ipc.Options{Limits: limits})
	first, second := talk(t, path), talk(t, path)
	first.send(gateCall + gateCall)
	await(t, g.entered)
	await(t, g.entered)

	second.send(`{"jsonrpc":"2.0","id":9,"method":"test_nothing"}`)
	e := second.wantReason(9.0, ipc.ReasonOverloaded)
	if e.RetryAfter == nil || *e.RetryAfter <= 0 || e.Charged == nil || *e.Charged {
		t.Fatalf("got %+v, want retryAfter and charged: false", e)
	}
	second.send(`[{"jsonrpc":"2.0","id":9,"method":"test_nothing"},{"jsonrpc":"2.0","id":10,"method":"test_nothing"}]`)
	var batch []answer
	if err := second.dec.Decode(&batch); err != nil || len(batch) != 2 || batch[1].ID != 10.0 ||
		ipc.ReasonOf(batch[1].Error) != ipc.ReasonOverloaded {
		t.Fatalf("got %+v, %v", batch, err)
	}

	close(g.open)
	first.wantResult(1, `"done"`)
	first.wantResult(1, `"done"`)
	first.wantResultSoon(`{"jsonrpc":"2.0","id":2,"method":"test_nothing"}`, 2, `null`)
}

// Large requests of one uid are bounded by their bytes, small ones beside them
// still go through.
func TestInFlightBytesPerUIDAreOverloaded(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.MessageBytes, l.InFlightBytesPerUID = 1024, 1500 })
	g, _, path := serveGate(t, ipc.Options{Limits: limits})
	first, second := talk(t, path), talk(t, path)
	large := `{"jsonrpc":"2.0","id":1,"method":"test_gate","params":["` + strings.Repeat("x", 900) + `"]}`
	first.send(large)
	await(t, g.entered)
	second.send(large)
	second.wantReason(1.0, ipc.ReasonOverloaded)
	second.send(`{"jsonrpc":"2.0","id":2,"method":"test_nothing"}`)
	second.wantResult(2, `null`)
	close(g.open)
	first.wantResult(1, `"done"`)
	first.wantResultSoon(large, 1, `"done"`)
}

// The answers of a batch are bounded: what is not begun costs nothing, and once the
// batch has gone out there is room again.
func TestAnswerBytesPerUIDAreOverloaded(t *testing.T) {
	const size, bound = 10_000, 50_000
	for name, options := range map[string]ipc.Options{
		"four handlers":      {Limits: withLimits(func(l *ipc.Limits) { l.InFlight, l.AnswerBytesPerUID = 4, bound })},
		"four large methods": {Limits: withLimits(func(l *ipc.Limits) { l.AnswerBytesPerUID = bound }), Large: []string{"test_large"}},
	} {
		t.Run(name, func(t *testing.T) {
			var begun atomic.Int32
			options.Allow, options.Methods = everybody, methods()
			options.Methods["test_large"] = func(context.Context, json.RawMessage) (any, error) {
				begun.Add(1)
				for range 100 {
					runtime.Gosched() // others begin, where they may
				}
				return strings.Repeat("x", size), nil
			}
			_, path := ipctest.Serve(t, options)
			c := talk(t, path)
			for range 3 {
				begun.Store(0)
				given := c.batchOfLarge(options.Limits.Batch)
				if given < bound/size || given > bound/size+4 || int(begun.Load()) != given {
					t.Errorf("%d answers, %d begun, want %d to %d", given, begun.Load(), bound/size, bound/size+4)
				}
				c.send(`{"jsonrpc":"2.0","id":2,"method":"test_nothing"}`)
				c.wantResult(2, `null`)
			}
		})
	}
}

// batchOfLarge sends n calls of test_large and returns how many have a result; the
// others are overloaded.
func (c *conversation) batchOfLarge(n int) (given int) {
	c.t.Helper()
	one := `{"jsonrpc":"2.0","id":1,"method":"test_large"}`
	c.send("[" + strings.Repeat(one+",", n-1) + one + "]")
	var batch []answer
	if err := c.dec.Decode(&batch); err != nil || len(batch) != n {
		c.t.Fatalf("%d answers, %v", len(batch), err)
	}
	for _, a := range batch {
		if a.Error == nil {
			given++
			continue
		}
		if e := a.Error; e.Reason != ipc.ReasonOverloaded || e.Charged == nil || *e.Charged || e.RetryAfter == nil {
			c.t.Fatalf("got %+v", e)
		}
	}
	return given
}

// A method with large results does not hold up others, and its place comes back with
// every end of a handler.
func TestLargeMethodsWaitForAPlace(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.RequestTimeout = 100 * time.Millisecond })
	handlers := methods()
	handlers["test_stuck"] = func(ctx context.Context, _ json.RawMessage) (any, error) {
		<-ctx.Done()
		panic("at the end")
	}
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: handlers, Limits: limits, Large: []string{"test_stuck", "test_echo"}})
	c, other := talk(t, path), talk(t, path)
	for range 4 {
		c.send(`{"jsonrpc":"2.0","id":1,"method":"test_stuck"}`)
	}
	other.send(`{"jsonrpc":"2.0","id":3,"method":"test_nothing"}`) // it needs no place
	other.wantResult(3, `null`)
	for range 4 {
		c.wantReason(1.0, ipc.ReasonInternal)
	}
	c.send(`{"jsonrpc":"2.0","id":4,"method":"test_echo","params":[1]}`)
	c.wantResult(4, `[1]`)
}

func TestConnectionLimits(t *testing.T) {
	for name, change := range map[string]func(*ipc.Limits){
		"all":     func(l *ipc.Limits) { l.Connections, l.ConnectionsPerUID = 2, 2 },
		"per uid": func(l *ipc.Limits) { l.ConnectionsPerUID = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{}, 10)
			g, _, path := serveGate(t, ipc.Options{
				Limits:    withLimits(change),
				OnRequest: func(context.Context, ipc.RequestInfo) { ended <- struct{}{} },
			})
			first, second := talk(t, path), talk(t, path)
			first.send(gateCall)
			await(t, g.entered)
			second.send(`{"jsonrpc":"2.0","id":2,"method":"test_nothing"}`)
			second.wantResult(2, `null`)

			third := talk(t, path)
			third.wantReason(nil, ipc.ReasonOverloaded)
			third.wantEnd()

			close(g.open)
			first.wantResult(1, `"done"`)
		})
	}
}

func TestConnectionIsGivenBack(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.ConnectionsPerUID = 1 })
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods(), Limits: limits})
	for range 20 {
		waitUntilAdmitted(t, path)
	}
}

// waitUntilAdmitted connects until the server has counted the connection before
// out, which is a moment after its peer saw it end.
func waitUntilAdmitted(t *testing.T, path string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		c := talk(t, path)
		// One that is turned away may be closed before it says anything.
		var a answer
		if _, err := io.WriteString(c, `{"jsonrpc":"2.0","id":1,"method":"test_nothing"}`); err != nil || c.dec.Decode(&a) != nil {
			continue
		}
		if a.Error == nil {
			_ = c.CloseWrite()
			c.wantEnd()
			return
		}
	}
	t.Fatal("the connection was never given back")
}

func TestIdleConnectionEnds(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.IdleTimeout = 300 * time.Millisecond })
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods(), Limits: limits})
	talk(t, path).wantEnd()
	c := talk(t, path)
	c.send(`{"jsonrpc":"2.0","id":1,"method":"test_nothing"}`)
	c.wantResult(1, `null`)
	c.wantEnd()
}

func TestWhitespaceIsIdle(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.IdleTimeout = 50 * time.Millisecond })
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods(), Limits: limits})
	c := talk(t, path)
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if _, err := c.Write([]byte(" ")); err != nil {
			return // the server hung up
		}
	}
	t.Fatal("whitespace kept the connection open")
}

func TestConnectionThatWaitsForAnAnswerIsNotIdle(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.IdleTimeout = 300 * time.Millisecond })
	g, _, path := serveGate(t, ipc.Options{Limits: limits})
	c := talk(t, path)
	c.send(gateCall)
	await(t, g.entered)
	talk(t, path).wantEnd() // two connections that came later have been idle
	talk(t, path).wantEnd() // for long enough, one after the other
	close(g.open)
	c.wantResult(1, `"done"`)
}

func TestSlowWriterLosesTheConnection(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.RequestTimeout = 50 * time.Millisecond })
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods(), Limits: limits})
	c := talk(t, path)
	c.send(`{"jsonrpc":`)
	c.wantReason(nil, ipc.ReasonTimeout)
	c.wantEnd()
}

func TestSlowReaderLosesTheConnection(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.WriteTimeout = 50 * time.Millisecond })
	g := newGate()
	handlers := map[string]ipc.Handler{
		"test_gate": g.handle,
		"test_large": func(context.Context, json.RawMessage) (any, error) {
			return strings.Repeat("x", 8<<20), nil
		},
	}
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: handlers, Limits: limits})
	c := talk(t, path)
	c.send(gateCall + `{"jsonrpc":"2.0","id":2,"method":"test_large"}`)
	ctx := await(t, g.entered)
	await(t, ctx.Done()) // nobody reads: the connection ends, and with it the call
}

func TestRequestTimeoutEndsTheHandlersContext(t *testing.T) {
	limits := withLimits(func(l *ipc.Limits) { l.RequestTimeout = 30 * time.Millisecond })
	_, _, path := serveGate(t, ipc.Options{Limits: limits})
	c := talk(t, path)
	c.send(gateCall)
	c.wantReason(1.0, ipc.ReasonInternal)
}
