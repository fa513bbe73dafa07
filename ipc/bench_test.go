package ipc_test

import (
	"encoding/json"
	"testing"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

// BenchmarkRoundTrip is a call that does nothing, from client to server and
// back.
func BenchmarkRoundTrip(b *testing.B) {
	_, path := ipctest.Serve(b, ipc.Options{Allow: everybody, Methods: methods()})
	c, err := ipc.Dial(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Call(b.Context(), "test_nothing", nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScanner(b *testing.B) {
	message, err := json.Marshal(make([]string, 20_000))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		ipc.Frame(message, 16<<10, 1<<20, 64, 1<<20)
	}
}

func BenchmarkDecode(b *testing.B) {
	params := json.RawMessage(`[{"walletId":"0x00112233445566778899aabbccddeeff","transaction":{"type":"0x2","chainId":"0x1","nonce":"0x0","to":"0x0000000000000000000000000000000000000000","value":"0x1","gas":"0x5208","maxFeePerGas":"0x1","maxPriorityFeePerGas":"0x1"},"pin":"493817"}]`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ipc.Decode[ipc.SignTransactionParams](params); err != nil {
			b.Fatal(err)
		}
	}
}
