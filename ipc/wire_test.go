package ipc_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/sigild/sigild/ipc"
)

// TestWireNames pins the spelling of what clients in other languages read.
func TestWireNames(t *testing.T) {
	id, at, account := ipc.Hex{0xAB}, ipc.At(time.Unix(1_700_000_000, 0)), uint32(1)
	accounts := []ipc.AccountInfo{{Index: 1, Curve: "c", PublicKey: id, Address: "a", Custody: "token"}}
	wallet := ipc.WalletInfo{
		WalletID: id, Owner: "o", Label: "l", CreatedAt: at, Accounts: accounts, Custody: "token", Exportable: true, State: "active", AttemptsLeft: 9,
		Provenance: []ipc.ProvenanceRecord{{Source: "kms", Count: 32, RequestID: "r", Region: "g", Manufacturer: "m", Model: "n", Version: "v", Time: at}},
		Dropped:    []string{"tpm"},
	}
	const accountJSON = `{"index":1,"curve":"c","publicKey":"0xab","address":"a","custody":"token"}`
	const walletJSON = `{"walletId":"0xab","owner":"o","label":"l","createdAt":"2023-11-14T22:13:20Z","accounts":[` + accountJSON + `],"custody":"token","exportable":true,` +
		`"provenance":[{"source":"kms","count":32,"requestId":"r","region":"g","manufacturer":"m","model":"n","version":"v","time":"2023-11-14T22:13:20Z"}],"dropped":["tpm"],"state":"active","attemptsLeft":9}`
	const receiptJSON = `{"statement":"s","signature":"0xab","key":"0xab"}`
	receipt := ipc.Receipt{Statement: "s", Signature: id, Key: id}
	for _, test := range []struct {
		value any
		want  string
	}{
		{wallet, walletJSON},
		{ipc.CreateWalletResult{Wallet: wallet, Receipt: receipt}, `{"existing":false,"wallet":` + walletJSON + `,"receipt":` + receiptJSON + `}`},
		{ipc.DeriveAccountResult{Existing: true, Account: accounts[0], Accounts: accounts, Receipt: receipt}, `{"existing":true,"account":` + accountJSON + `,"accounts":[` + accountJSON + `],"receipt":` + receiptJSON + `}`},
		{ipc.ListWalletsResult{Wallets: []ipc.WalletInfo{}, Cursor: "c"}, `{"wallets":[],"cursor":"c"}`},
		{
			ipc.SignTransactionResult{Raw: id, Hash: id, Transaction: json.RawMessage(`{}`), Signature: id, AttemptsLeft: 1},
			`{"raw":"0xab","hash":"0xab","transaction":{},"signature":"0xab","attemptsLeft":1}`,
		},
		{ipc.SignMessageResult{Signature: id, Digest: id, AttemptsLeft: 1}, `{"signature":"0xab","digest":"0xab","attemptsLeft":1}`},
		{ipc.ListWalletsParams{Owner: "o", Cursor: "c", Limit: 1}, `{"owner":"o","cursor":"c","limit":1}`},
		{
			ipc.SignTransactionParams{WalletID: id, Address: "a", Account: &account, Transaction: json.RawMessage(`{}`)},
			`{"walletId":"0xab","address":"a","account":1,"transaction":{}}`,
		},
		{
			ipc.ImportWalletParams{RequestID: "r", Owner: "o", Address: "a", PIN: ipc.Secret("271828"), Key: ipc.Secret(id)},
			`{"requestId":"r","owner":"o","address":"a"}`,
		},
		{
			ipc.ExportAccountParams{Address: "a", Account: &account, Recipient: id, PIN: ipc.Secret("271828")},
			`{"address":"a","account":1,"recipient":"0xab"}`,
		},
		{
			ipc.ExportAccountResult{WalletID: id, Address: "a", Key: ipc.SealedKey{Enc: id, Ciphertext: id}, AttemptsLeft: 1},
			`{"walletId":"0xab","account":0,"address":"a","sealedKey":{"enc":"0xab","ciphertext":"0xab"},"attemptsLeft":1}`,
		},
		{ipc.SignMessageParams{WalletID: id, Message: id}, `{"walletId":"0xab","message":"0xab"}`},
		{
			ipc.StatusResult{
				APIVersion: "1", Version: "v", State: "ready", Dev: true, Installation: id, IdentityKey: id, Wallets: 2, Notes: []string{"n"}, Landlock: ipc.LandlockStatus{ABI: 7, Restricts: []string{"files"}},
				Token:    ipc.TokenStatus{Model: "m", Manufacturer: "f", Serial: "s", Firmware: "w", Enforcement: "token", Custody: "token", WrapMechanism: "x", Generation: 1},
				TPM:      ipc.TPMStatus{Manufacturer: "m", Firmware: "w", PCRProfile: "uki", PCRs: []int{7}},
				Entropy:  ipc.EntropyStatus{Sources: []string{"kms"}, Dropped: []string{"tpm"}},
				PINCheck: ipc.PINCheckStatus{Argon2: "a", Anchor: "orderly", Failures: 10, PlainPIN: true},
				Custody: ipc.CustodyStatus{Import: ipc.CustodyAbility{Allowed: true, Detail: "d"},
					Export: ipc.CustodyAbility{Able: true}},
			},
			`{"apiVersion":"1","version":"v","state":"ready","dev":true,"installation":"0xab","identityKey":"0xab",` +
				`"token":{"model":"m","manufacturer":"f","serial":"s","firmware":"w","enforcement":"token","custody":"token","wrapMechanism":"x","generation":1},` +
				`"tpm":{"manufacturer":"m","firmware":"w","pcrProfile":"uki","pcrs":[7]},"entropy":{"sources":["kms"],"dropped":["tpm"]},"wallets":2,` +
				`"pinCheck":{"argon2":"a","anchor":"orderly","failures":10,"plainPin":true},"custody":{"import":{"allowed":true,"able":false,"detail":"d"},"export":{"allowed":false,"able":true}},"landlock":{"abi":7,"restricts":["files"]},"notes":["n"]}`,
		},
	} {
		if got, err := json.Marshal(test.value); err != nil || string(got) != test.want {
			t.Errorf("%T:\n got %s, %v\nwant %s", test.value, got, err, test.want)
		}
	}
}

func TestTimeAndHexAsText(t *testing.T) {
	at := ipc.At(time.Unix(1_700_000_000, 5))
	wire, err := json.Marshal(map[ipc.Time]string{at: "x"})
	if err != nil || string(wire) != `{"2023-11-14T22:13:20Z":"x"}` {
		t.Errorf("got %s, %v", wire, err)
	}
	for _, bad := range []string{`1`, `"2023-11-14"`, `"2023-11-14T22:13:20+00:00"`, `"Z"`, `null`} {
		var back ipc.Time
		if err := back.UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("took %s", bad)
		}
	}
	if got := fmt.Sprint(ipc.Hex{1, 0xFE}, ipc.Hex(nil), ipc.Peer{UID: 1, GID: 2, PID: 3}); got != "0x01fe 0x uid 1 gid 2 pid 3" {
		t.Errorf("got %s", got)
	}
}
