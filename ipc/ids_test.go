package ipc_test

import (
	"bufio"
	"fmt"
	"strings"
	"testing"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// Ids come back byte by byte as they were sent: a number that no float64 holds,
// and an escape, mean something to the peer only as they are.
func TestIdsAreEchoedAsTheyWereSent(t *testing.T) {
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods()})
	c := ipctest.Connect(t, path)
	lines := bufio.NewReader(c)
	for _, id := range []string{
		"0", "-0", "-7", "1.50", "1e3", "1E+2", "9007199254740993", "123456789012345678901234567890", "0.1000",
		"null", `""`, `" "`, `"1"`, `"\u0061"`, `"\"}{"`, `"é😀"`, `"\ud83d\ude00"`, `"` + strings.Repeat("x", 254) + `"`,
	} {
		for _, form := range []string{`{"jsonrpc":"2.0","id":%s,"method":"test_nothing"}`, `[{"method":"test_nothing","id":%s,"jsonrpc":"2.0"}]`} {
			if _, err := fmt.Fprintf(c, form, id); err != nil {
				t.Fatal(err)
			}
			want := `{"jsonrpc":"2.0","id":` + id + `,"result":null}`
			if form[0] == '[' {
				want = "[" + want + "]"
			}
			got, err := lines.ReadString('\n')
			if err != nil || strings.TrimSpace(got) != want {
				t.Fatalf("got %s, %v, want %s", got, err, want)
			}
		}
	}
}

// An id of any other kind belongs to no answer, and the stream goes on.
func TestIdsOfOtherKindsAreRefused(t *testing.T) {
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods()})
	c := talk(t, path)
	for _, id := range []string{"true", "false", "[]", "[1]", "{}", `{"id":1}`, `"` + strings.Repeat("x", 255) + `"`, strings.Repeat("1", 257)} {
		c.send(`{"jsonrpc":"2.0","id":` + id + `,"method":"test_nothing"}`)
		c.wantReason(nil, ipc.ReasonInvalidRequest)
		c.send(`{"jsonrpc":"2.0","id":2,"method":"test_echo","params":[]}`)
		c.wantResult(2, `[]`)
	}
}

func TestBatchSplitAtEveryByte(t *testing.T) {
	_, path := ipctest.Serve(t, ipc.Options{Allow: everybody, Methods: methods()})
	c := ipctest.Connect(t, path)
	lines := bufio.NewReader(c)
	batch := `[{"jsonrpc":"2.0","id":"é","method":"test_echo","params":["]}😀"]}, {"jsonrpc":"2.0","method":"test_panic"},` +
		`{"jsonrpc":"2.0","id":2,"method":"nowhere"}]`
	want := `[{"jsonrpc":"2.0","id":"é","result":["]}😀"]},{"jsonrpc":"2.0","id":2,"error":`
	for i := 1; i < len(batch); i++ {
		inPieces(t, c, batch[:i], batch[i:])
		if got, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(got, want) {
			t.Fatalf("split at %d: got %s, %v", i, got, err)
		}
	}
}

// A peer that ends its requests still gets every answer, in whatever order, of
// what it sent before: single ones and a batch, without a newline at the end.
func TestHalfClosedPeerGetsAllItsAnswers(t *testing.T) {
	g, _, path := serveGate(t, ipc.Options{})
	c := talk(t, path)
	c.send(gateCall + `[{"jsonrpc":"2.0","id":2,"method":"test_gate"},{"jsonrpc":"2.0","id":3,"method":"test_nothing"}]` +
		`{"jsonrpc":"2.0","id":4,"method":"test_nothing"}`)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	await(t, g.entered)
	await(t, g.entered)
	close(g.open)
	lines := bufio.NewReader(c)
	var all strings.Builder
	for range 3 {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(line)
	}
	for _, id := range []string{"1", "2", "3", "4"} {
		if strings.Count(all.String(), `"id":`+id+",") != 1 {
			t.Errorf("answers %s: want id %s once", all.String(), id)
		}
	}
	if more, err := lines.ReadString('\n'); err == nil || more != "" {
		t.Errorf("after the answers: %q, %v", more, err)
	}
}
