package main

import (
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// callAs calls a method whose parameters are by position.
func callAs[R any](t testing.TB, c *ipc.Client, method string, params ...any) (out R, err error) {
	t.Helper()
	return out, c.Call(testContext(t), method, params, &out)
}

func TestNodeMethods(t *testing.T) {
	_, c := serving(t, forClients)
	for method, want := range map[string]string{
		"account_version": `"6.1.0"`, "eth_chainId": `"0x539"`, "net_version": `"1337"`, "eth_accounts": `[]`, "account_list": `[]`,
	} {
		if got, err := callAs[json.RawMessage](t, c, method); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v, want %s", method, got, err, want)
		}
	}
	if version, err := callAs[string](t, c, "web3_clientVersion"); err != nil || !strings.HasPrefix(version, "sigild/") {
		t.Errorf("web3_clientVersion: %q, %v", version, err)
	}
	if modules, err := callAs[map[string]string](t, c, "rpc_modules"); err != nil || modules["eth"] == "" || modules["account"] == "" {
		t.Errorf("rpc_modules: %v, %v", modules, err)
	}
	doc, err := callAs[struct {
		OpenRPC string `json:"openrpc"`
		Methods []struct{ Name string }
	}](t, c, "rpc.discover")
	if err != nil || doc.OpenRPC != "1.3.2" {
		t.Fatalf("rpc.discover: %+v, %v", doc, err)
	}
	for _, m := range doc.Methods { // each that is described answers
		if _, err := callAs[json.RawMessage](t, c, m.Name, "one", "too", "many"); ipc.ReasonOf(err) != ipc.ReasonInvalidParams {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}

func TestNoChainIsConfigured(t *testing.T) {
	_, c := serving(t)
	for _, method := range []string{"eth_chainId", "net_version"} {
		_, err := callAs[string](t, c, method)
		mustContain(t, wantReason(t, err, "chainNotConfigured").Message, "chain_id")
	}
	tx := nodeRequest("0x9858EfFD232B4033E47d90003D41EC34EcaEda94")
	delete(tx, "chainId")
	_, err := callAs[json.RawMessage](t, c, "account_signTransaction", tx)
	mustContain(t, wantReason(t, err, ipc.ReasonInvalidParams).Message, "transaction.chainId")
}

// nodeRequest is a transaction as programs send it, complete.
func nodeRequest(from string) map[string]any {
	return map[string]any{"from": from, "to": "0x9858EfFD232B4033E47d90003D41EC34EcaEda94", "chainId": "0x539", "nonce": "0x0",
		"gas": "0xc350", "value": "0x5", "maxFeePerGas": "0x9", "maxPriorityFeePerGas": "0x1", "data": "0xa9059cbb"}
}

func TestEthSignatures(t *testing.T) {
	_, c, w := unlocked(t)
	address := w.Accounts[0].Address
	from := common.HexToAddress(address)
	for _, form := range []string{address, strings.ToLower(address)} {
		bySign, err := callAs[ipc.Hex](t, c, "eth_sign", form, ipc.Hex("hello"))
		recovered(t, accounts.TextHash([]byte("hello")), bySign, err, from)
		personal, err := callAs[ipc.Hex](t, c, "personal_sign", ipc.Hex("hello"), form)
		recovered(t, accounts.TextHash([]byte("hello")), personal, err, from)
	}
	raw, err := callAs[ipc.Hex](t, c, "eth_signTransaction", nodeRequest(address))
	if err != nil {
		t.Fatal(err)
	}
	tx := new(types.Transaction)
	if err := tx.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	if sender, err := types.Sender(types.LatestSignerForChainID(big.NewInt(1337)), tx); err != nil || sender != from || tx.Type() != 2 {
		t.Errorf("sender %s, type %d, %v", sender, tx.Type(), err)
	}
}

// Nothing is filled in or guessed: what is missing or contradicts is named.
func TestClientsAreToldWhatIsMissing(t *testing.T) {
	_, c, w := unlocked(t)
	address := w.Accounts[0].Address
	without := func(name string) map[string]any {
		r := nodeRequest(address)
		delete(r, name)
		return r
	}
	with := func(name string, value any) map[string]any {
		r := nodeRequest(address)
		r[name] = value
		return r
	}
	for _, method := range []string{"eth_signTransaction", "account_signTransaction"} {
		for name, r := range map[string]map[string]any{
			"from": without("from"), "nonce": without("nonce"), "gas": without("gas"),
			"maxFeePerGas": without("maxFeePerGas"), "maxPriorityFeePerGas": without("maxPriorityFeePerGas"),
			"gasPrice": with("gasPrice", "0x1"), "speed": with("speed", "fast"), "input": with("input", "0x00"),
		} {
			_, err := callAs[json.RawMessage](t, c, method, r)
			mustContain(t, wantReason(t, err, ipc.ReasonInvalidParams).Message, name)
		}
	}
	typed := json.RawMessage(permit)
	salted := strings.Replace(permit, `"name":"Token"`, `"name":"Token","salt":""`, 1) // as go-ethereum's own type sends it
	for _, r := range []struct {
		method string
		params []any
		field  string
	}{
		{"account_signTransaction", []any{nodeRequest(address), "transfer(address)"}, "methodSelector"},
		{"account_signTransaction", []any{nodeRequest(address), 7}, "methodSelector"},
		{"account_signTransaction", []any{}, "parameters"},
		{"account_signTransaction", []any{nil}, "transaction"},
		{"account_signTransaction", []any{with("chainId", "1337")}, "transaction.chainId"},
		{"eth_signTransaction", []any{without("chainId")}, "transaction.chainId"},
		{"eth_sign", []any{ipc.Hex("hello"), address}, "address"},
		{"eth_sign", []any{address, "hello"}, "data"},
		{"eth_sign", []any{address}, "parameters"},
		{"personal_sign", []any{address, ipc.Hex("hello")}, "address"},
		{"personal_sign", []any{ipc.Hex("hello"), address, "402916"}, "parameters"},
		{"eth_signTypedData_v4", []any{address, "not JSON"}, "typedData"},
		{"eth_signTypedData_v4", []any{address, []any{typed}}, "typedData"},
		{"eth_signTypedData_v4", []any{address, strings.Replace(permit, `"name":"Token"`, `"name":"Token","name":"Other"`, 1)}, "typedData.domain.name"},
		{"eth_signTypedData_v4", []any{address, strings.Replace(permit, `"name":"Token"`, `"name":"Token","salt":"0x01"`, 1)}, "typedData.domain"},
		// Whitespace before the text hides nothing.
		{"eth_signTypedData_v4", []any{address, "\n" + strings.Replace(salted, `"name":"Token"`, `"name":"Token","name":"Other"`, 1)}, "typedData.domain.name"},
		{"account_signTypedData", []any{address, " " + twice(salted, "message")}, "typedData.message"},
		{"account_signData", []any{"data/typed", address, ipc.Hex(" \t" + twice(salted, "domain"))}, "typedData.domain"},
		{"account_signData", []any{"data/typed", address, ipc.Hex("hello")}, "typedData"},
		{"account_signData", []any{"text/plain", address, "hello"}, "data"},
	} {
		_, err := callAs[json.RawMessage](t, c, r.method, r.params...)
		e := wantReason(t, err, ipc.ReasonInvalidParams)
		mustContain(t, e.Field+" "+e.Message, r.field)
	}
	selected, err := callAs[ipc.SignedTransaction](t, c, "account_signTransaction", nodeRequest(address), "transfer(address,uint256)")
	if err != nil || len(selected.Raw) == 0 {
		t.Errorf("with the right selector: %v", err)
	}
	_, err = callAs[ipc.Hex](t, c, "personal_sign", ipc.Hex("hello"), "0x9858EfFD232B4033E47d90003D41EC34EcaEda94")
	wantReason(t, err, "notFound")
}

// twice puts an empty object before a member of a JSON text, under its name.
func twice(text, member string) string {
	return strings.Replace(text, `"`+member+`":`, `"`+member+`":{},"`+member+`":`, 1)
}

// sigilctl gives a way to run the program that people run, with a home of its own
// and the right PIN.
func sigilctl(t *testing.T, h *daemontest.Host) func(args ...string) (string, error) {
	t.Helper()
	dir := buildSigilctl(t)
	return func(args ...string) (string, error) {
		cmd := exec.CommandContext(testContext(t), filepath.Join(dir, "sigilctl"), append(args, "--socket", h.Socket, "--pin-fd", "0")...)
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_STATE_HOME="+dir)
		cmd.Stdin = strings.NewReader(rightPIN + "\n")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// commandOf gives the arguments of the command that an error names.
func commandOf(t *testing.T, message, address string) []string {
	t.Helper()
	_, command, found := strings.Cut(message, "sigilctl ")
	if !found || !strings.HasPrefix(command, "unlock "+address+" --bind uid --ttl 15m ") || strings.ContainsAny(message, "{}") { // viem counts braces to find the end of an answer
		t.Fatalf("no command in %q", message)
	}
	return strings.Fields(command)
}

// The command in the error of a locked account, as it is printed, unlocks it for
// what was asked, once, and for nothing else.
func TestLockedAccountSaysHowToUnlockIt(t *testing.T) {
	h, c := serving(t)
	run := sigilctl(t, h)
	all := anyTerms("transaction", "message", "typedData", "validatorData", "cliqueHeader")
	r, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(rightPIN), Policy: &all.Terms.Policy})
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.DeriveAccount(testContext(t), ipc.DeriveAccountParams{RequestID: "2", WalletID: r.Wallet.WalletID, PIN: ipc.Secret(rightPIN)})
	if err != nil {
		t.Fatal(err)
	}
	first, second := r.Wallet.Accounts[0].Address, d.Account.Address
	creation := nodeRequest(first)
	delete(creation, "to")
	short := nodeRequest(first)
	short["data"] = "0x01"
	dearer := nodeRequest(first)
	dearer["value"] = "0x6"
	header, err := rlp.EncodeToBytes(headerToSeal())
	if err != nil {
		t.Fatal(err)
	}
	forValidator := map[string]string{"address": second, "message": "0x68656c6c6f"}
	type request struct {
		method, address string
		params          []any
	}
	message := request{"personal_sign", first, []any{ipc.Hex("hello"), first}}
	transfer := request{"eth_signTransaction", first, []any{nodeRequest(first)}}
	for name, r2 := range map[string]struct{ asked, other request }{
		"a call":               {transfer, request{"eth_signTransaction", first, []any{dearer}}},
		"a creation":           {request{"account_signTransaction", first, []any{creation}}, transfer},
		"data of one byte":     {request{"eth_signTransaction", first, []any{short}}, message},
		"a message":            {message, transfer},
		"typed data":           {request{"eth_signTypedData_v4", first, []any{first, permit}}, message},
		"data of Clef's kind":  {request{"account_signData", first, []any{"text/plain", first, ipc.Hex("hello")}}, transfer},
		"data for a validator": {request{"account_signData", first, []any{"data/validator", first, forValidator}}, message},
		"a header":             {request{"account_signData", first, []any{"application/x-clique-header", first, ipc.Hex(header)}}, message},
		"another account":      {request{"eth_sign", second, []any{second, ipc.Hex("hello")}}, message},
	} {
		ask := func(q request) error {
			_, err := callAs[json.RawMessage](t, c, q.method, q.params...)
			return err
		}
		e := wantReason(t, ask(r2.asked), "unlockRequired")
		if e.Charged == nil || *e.Charged {
			t.Errorf("%s: not said to be free", name)
		}
		if out, err := run(commandOf(t, e.Message, r2.asked.address)...); err != nil {
			t.Errorf("%s: %q: %v\n%s", name, e.Message, err, out)
			continue
		}
		wantReason(t, ask(r2.other), "termsExceeded")
		if err := ask(r2.asked); err != nil {
			t.Errorf("%s, after %q: %v", name, e.Message, err)
		}
		wantReason(t, ask(r2.asked), "unlockRequired")
	}
}

// What is unlocked for one connection is not shown as unlocked to another.
func TestListedAccounts(t *testing.T) {
	h, c := serving(t, forClients)
	first, second := create(t, c, "1"), create(t, c, "2")
	if err := c.Call(testContext(t), ipc.MethodFreezeWallet, ipc.WalletParams{WalletID: create(t, c, "3").WalletID}, nil); err != nil {
		t.Fatal(err)
	}
	mine := anyTerms("message")
	mine.Bind = "connection"
	mine.Terms.Policy.ContractCreation = false
	unlock(t, c, second, mine)
	a, b := first.Accounts[0].Address, second.Accounts[0].Address
	for _, method := range []string{"eth_accounts", "account_list"} {
		if got, err := callAs[[]string](t, c, method); err != nil || !slices.Equal(got, []string{b, a}) {
			t.Errorf("%s: %v, %v, want the unlocked one first", method, got, err)
		}
		got, err := callAs[[]string](t, dial(t, h.Socket), method)
		if slices.Sort(got); err != nil || !slices.Equal(got, slices.Sorted(slices.Values([]string{a, b}))) {
			t.Errorf("%s on another connection: %v, %v", method, got, err)
		}
	}
}

// A list that is bounded has what is unlocked, and then others that can sign.
func TestListedAccountsAreBounded(t *testing.T) {
	_, c := serving(t, withConfig(map[string]string{"ethereum": "accounts = 2"}))
	var addresses []string
	for n := range 5 {
		w := create(t, c, fmt.Sprint(n))
		addresses = append(addresses, w.Accounts[0].Address)
		if n < 2 { // frozen ones take no place
			if err := c.Call(testContext(t), ipc.MethodFreezeWallet, ipc.WalletParams{WalletID: w.WalletID}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if n == 4 {
			terms := anyTerms("message")
			terms.Terms.Policy.ContractCreation = false
			unlock(t, c, w, terms)
		}
	}
	got, err := callAs[[]string](t, c, "eth_accounts")
	if err != nil || len(got) != 2 || got[0] != addresses[4] || !slices.Contains(addresses[2:4], got[1]) {
		t.Errorf("%v, %v, want the last and one of the two before of %v", got, err, addresses)
	}
}

// The number of accounts that are not unlocked is bounded by the configuration,
// and eth_signTransaction answers as it says.
func TestConfiguredShapes(t *testing.T) {
	h, c, w := unlocked(t)
	stop(t, h)
	h.Config["ethereum"] = "accounts = 0\nsign_transaction_result = \"object\""
	if err := h.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	start(t, h)
	if got, err := callAs[[]string](t, c, "eth_accounts"); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	unlock(t, c, w, anyTerms("transaction"))
	if got, err := callAs[[]string](t, c, "eth_accounts"); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	out, err := callAs[ipc.SignedTransaction](t, c, "eth_signTransaction", nodeRequest(w.Accounts[0].Address))
	if err != nil || len(out.Raw) == 0 || len(out.Tx) == 0 {
		t.Errorf("%+v, %v", out, err)
	}
}
