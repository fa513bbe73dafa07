package ipc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon/channel"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ipctest"
)

var importParams = ipc.ImportWalletParams{RequestID: "r", Owner: "alice", Address: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
	PIN: ipc.Secret("271828"), Key: ipc.Secret(bytes.Repeat([]byte{0xa7}, 32))}

// A key leaves the client in a sealed block, or not at all.
func TestClientSealsKeys(t *testing.T) {
	seen := make(chan string, 1)
	c, path := sealing(t, ipc.MethodImportWallet, func(_ context.Context, params json.RawMessage) (any, error) {
		seen <- string(params)
		return json.RawMessage(`{"existing":true}`), nil
	})
	passed := make(chan string, 4)
	relay := &ipctest.Relay{Request: func(_ string, m ipctest.Message) bool { passed <- string(m["params"]); return true }}
	client := dialWith(t, relay.Serve(t, path), ipc.Identity(c.Identity))
	if r, err := client.ImportWallet(t.Context(), importParams); err != nil || !r.Existing {
		t.Fatalf("%+v, %v", r, err)
	}
	key := strings.Repeat("a7", 32)
	if got := <-seen; !strings.HasSuffix(got, `"pin":"271828","key":"0x`+key+`"}]`) {
		t.Errorf("the daemon saw %s", got)
	}
	close(passed)
	for text := range passed {
		if strings.Contains(text, "271828") || strings.Contains(text, "a7a7a7a7") || strings.Contains(text, `"-"`) {
			t.Errorf("the relay saw %s", text)
		}
	}
	for name, options := range map[string][]ipc.Option{"no identity": nil, "plain PINs": {ipc.PlainPINs()}} {
		client := dialWith(t, path, options...)
		if _, err := client.ImportWallet(t.Context(), importParams); !errors.Is(err, ipc.ErrNoIdentity) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := client.ExportAccount(t.Context(), ipc.ExportAccountParams{Address: importParams.Address, PIN: importParams.PIN}); !errors.Is(err, ipc.ErrNoIdentity) {
			t.Errorf("%s, an export: %v", name, err)
		}
	}
	short := importParams
	short.Key = short.Key[1:]
	if _, err := client.ImportWallet(t.Context(), short); !errors.Is(err, ipc.ErrParams) {
		t.Errorf("a key of 31 bytes: %v", err)
	}
	if got := fmt.Sprintf("%v %+v", importParams, importParams); strings.Contains(got, "167") || strings.Contains(got, "271828") {
		t.Errorf("the parameters print as %s", got)
	}
	if _, err := ipc.Decode[ipc.ImportWalletParams](json.RawMessage(`[{"requestId":"r","owner":"o","address":"a","key":"0x00"}]`)); ipc.ReasonOf(err) != ipc.ReasonInvalidParams {
		t.Errorf("a key in the clear is decoded: %v", err)
	}
}

// exporting serves sigild_exportAccount as a daemon would, with a key of its own.
func exporting(t *testing.T, change func(*channel.Export)) (*ipctest.Channel, string) {
	var c *ipctest.Channel
	c, path := sealing(t, ipc.MethodExportAccount, func(_ context.Context, params json.RawMessage) (any, error) {
		var list []json.RawMessage
		var p struct{ Recipient ipc.Hex }
		if err := errors.Join(json.Unmarshal(params, &list), json.Unmarshal(list[0], &p)); err != nil {
			return nil, err
		}
		digest, err := channel.Digest(list[0])
		if err != nil {
			return nil, err
		}
		e := channel.Export{Installation: c.Installation, Wallet: channel.ID{1}, Account: 2, Address: [20]byte{3}, Digest: digest}
		change(&e)
		s, err := e.Seal(p.Recipient, &[32]byte{31: 9})
		if err != nil {
			return nil, err
		}
		return ipc.ExportAccountResult{WalletID: append(ipc.Hex{1}, make([]byte, 15)...), Account: 2,
			Address: "0x0300000000000000000000000000000000000000", Key: ipc.SealedKey{Enc: s.Enc, Ciphertext: s.Ciphertext}}, nil
	})
	return c, path
}

func TestClientOpensAnExport(t *testing.T) {
	p := ipc.ExportAccountParams{WalletID: append(ipc.Hex{1}, make([]byte, 15)...), PIN: ipc.Secret("271828")}
	c, path := exporting(t, func(*channel.Export) {})
	key, r, err := dialWith(t, path, ipc.Identity(c.Identity)).ExportAccount(t.Context(), p)
	if err != nil || !bytes.Equal(key, append(make([]byte, 31), 9)) || r.Account != 2 {
		t.Fatalf("%x, %+v, %v", []byte(key), r, err)
	}
	if p.Recipient != nil {
		t.Error("the caller's parameters were changed")
	}
	for name, change := range map[string]func(*channel.Export){
		"installation": func(e *channel.Export) { e.Installation[0]++ }, "wallet": func(e *channel.Export) { e.Wallet[0]++ },
		"account": func(e *channel.Export) { e.Account++ }, "address": func(e *channel.Export) { e.Address[0]++ },
		"digest": func(e *channel.Export) { e.Digest[0]++ },
	} {
		c, path := exporting(t, change)
		key, _, err := dialWith(t, path, ipc.Identity(c.Identity)).ExportAccount(t.Context(), p)
		if !errors.Is(err, ipc.ErrProtocol) || key != nil {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

// A relay that puts its own recipient in place of the client's, or its own key in
// the answer, gets nothing, and is found out.
func TestClientFindsAnotherRecipient(t *testing.T) {
	p := ipc.ExportAccountParams{WalletID: append(ipc.Hex{1}, make([]byte, 15)...), PIN: ipc.Secret("271828")}
	c, path := exporting(t, func(*channel.Export) {})
	own, err := channel.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	swap := &ipctest.Relay{Request: func(method string, m ipctest.Message) bool {
		if method == ipc.MethodExportAccount {
			var list []map[string]json.RawMessage
			if json.Unmarshal(m["params"], &list) == nil {
				list[0]["recipient"], _ = json.Marshal(ipc.Hex(own.Public()))
				m["params"], _ = json.Marshal(list)
			}
		}
		return true
	}}
	if key, _, err := dialWith(t, swap.Serve(t, path), ipc.Identity(c.Identity)).ExportAccount(t.Context(), p); err == nil || key != nil {
		t.Error("another recipient was served")
	}
	forge := &ipctest.Relay{Answer: func(method string, m ipctest.Message) bool {
		if method == ipc.MethodExportAccount {
			var r map[string]json.RawMessage
			if json.Unmarshal(m["result"], &r) == nil {
				r["sealedKey"] = json.RawMessage(`{"enc":"0x00","ciphertext":"0x00"}`)
				m["result"], _ = json.Marshal(r)
			}
		}
		return true
	}}
	if key, _, err := dialWith(t, forge.Serve(t, path), ipc.Identity(c.Identity)).ExportAccount(t.Context(), p); !errors.Is(err, ipc.ErrProof) || key != nil {
		t.Errorf("a forged answer: %v", err)
	}
}
