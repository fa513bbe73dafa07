package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// TestConversations plays testdata/*.txt: bad input to every method, with the
// code, the reason and the field of each answer. No wallet exists.
func TestConversations(t *testing.T) {
	h, c := serving(t)
	ipctest.Run(t, "testdata/*.txt", func(t *testing.T) net.Conn { return ipctest.Connect(t, h.Socket) })
	if n := countWallets(t, c); n != 0 {
		t.Errorf("bad input made %d wallets", n)
	}
}

// exchange sends a text as it is and reads one answer.
func exchange(t *testing.T, conn net.Conn, answers *json.Decoder, text string) (result json.RawMessage, reason string) {
	t.Helper()
	if _, err := io.WriteString(conn, text+"\n"); err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Result json.RawMessage
		Error  *ipc.Error
	}
	if err := answers.Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.Result, ipc.ReasonOf(errorOrNil(answer.Error))
}

func errorOrNil(e *ipc.Error) error {
	if e == nil {
		return nil
	}
	return e
}

func request(method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":[%s]}`, method, params)
}

// nested is a value in so many arrays.
func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

// TestHugeAndDeepInput sends what no file should hold. After each the same
// connection answers; a batch, which has no id, ends it.
func TestHugeAndDeepInput(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	conn := ipctest.Connect(t, h.Socket)
	answers := json.NewDecoder(conn)
	id, pin := fmt.Sprintf(`"walletId":%q`, w.WalletID), fmt.Sprintf(`"pin":%q`, rightPIN)
	huge := strings.Repeat("00", 1<<20)
	batch := "[" + strings.TrimSuffix(strings.Repeat(request(ipc.MethodStatus, "{}")+",", 65), ",") + "]"
	for name, bad := range map[string]struct{ text, reason string }{
		"a huge message":            {request(ipc.MethodSignMessage, `{`+id+`,"message":"0x`+huge+`",`+pin+`}`), ipc.ReasonTooLarge},
		"a huge PIN":                {request(ipc.MethodCreateWallet, `{"requestId":"2","owner":"a","pin":"`+huge[:1<<19]+`"}`), "pinSyntax"},
		"a huge unknown member":     {request(ipc.MethodGetWallet, `{"`+huge[:1<<19]+`":1}`), ipc.ReasonInvalidParams},
		"a huge method":             {request(huge[:1<<10], "{}"), ipc.ReasonInvalidRequest},
		"deep parameters":           {request(ipc.MethodGetWallet, nested(1000)), ipc.ReasonTooDeep},
		"a deep transaction":        {request(ipc.MethodSignTransaction, `{`+id+`,"transaction":`+nested(1000)+`,`+pin+`}`), ipc.ReasonTooDeep},
		"a transaction within":      {request(ipc.MethodSignTransaction, `{`+id+`,"transaction":{"accessList":`+nested(40)+`},`+pin+`}`), ipc.ReasonInvalidParams},
		"a batch that is too long":  {batch, ipc.ReasonBatchTooLong},
		"another sender":            {request(ipc.MethodSignTransaction, `{`+id+`,"transaction":`+fromAnother()+`,`+pin+`}`), "wrongSender"},
		"an account that is not":    {request(ipc.MethodSignMessage, `{`+id+`,"account":1,"message":"0x00",`+pin+`}`), "notFound"},
		"an address and an account": {request(ipc.MethodSignMessage, fmt.Sprintf(`{"address":%q,"account":1,"message":"0x00",%s}`, w.Accounts[0].Address, pin)), ipc.ReasonInvalidParams},
		"a PIN that cannot be":      {request(ipc.MethodSignMessage, `{`+id+`,"message":"0x00","pin":"1234567\u0007"}`), "pinSyntax"},
	} {
		if _, reason := exchange(t, conn, answers, bad.text); reason != bad.reason {
			t.Errorf("%s: reason %q, want %q", name, reason, bad.reason)
		}
		if bad.text[0] == '[' {
			if err := answers.Decode(new(json.RawMessage)); !errors.Is(err, io.EOF) {
				t.Errorf("%s: the connection goes on: %v", name, err)
			}
			conn = ipctest.Connect(t, h.Socket)
			answers = json.NewDecoder(conn)
		}
		if result, reason := exchange(t, conn, answers, request(ipc.MethodStatus, "{}")); reason != "" || len(result) == 0 {
			t.Fatalf("after %s: reason %q", name, reason)
		}
	}
	if left := attemptsLeft(t, c, w.WalletID); left != 10 {
		t.Errorf("bad input cost attempts: %d left", left)
	}
	signAll(t, c, w, 0)
}

func fromAnother() string {
	return strings.Replace(fmt.Sprintf(dynamicFee, 0), "{", `{"from":"0x9858EfFD232B4033E47d90003D41EC34EcaEda94",`, 1)
}

// TestGarbageEndsOneConnectionOnly sends bytes that are not JSON; other
// connections go on.
func TestGarbageEndsOneConnectionOnly(t *testing.T) {
	h, c := serving(t)
	for _, garbage := range []string{"\x00\x01\x02", "GET / HTTP/1.1\r\n\r\n", "{\"jsonrpc\"", strings.Repeat("x", 1<<16)} {
		conn := ipctest.Connect(t, h.Socket)
		if _, err := io.WriteString(conn, garbage); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, conn) // to the end of the connection, within its deadline
	}
	if _, err := c.Status(testContext(t)); err != nil {
		t.Error(err)
	}
	mustRun(t, h)
}

// mustRun checks that sigild is the process that it was.
func mustRun(t *testing.T, h *daemontest.Host) {
	t.Helper()
	if err := h.Stop(); err != nil {
		t.Errorf("sigild did not end well: %v", err)
	}
}
