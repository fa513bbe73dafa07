package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

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

// termsOf reads the command that an error names.
func termsOf(t *testing.T, message, address string) ipc.UnlockParams {
	t.Helper()
	_, command, found := strings.Cut(message, "sigilctl unlock "+address+" ")
	if !found || strings.ContainsAny(message, "{}") { // viem counts braces to find the end of an answer
		t.Fatalf("no command in %q", message)
	}
	p := ipc.UnlockParams{PIN: ipc.Secret(rightPIN), Terms: ipc.Terms{TotalValue: "0x0"}} // as sigilctl does
	flags := flag.NewFlagSet("unlock", flag.ContinueOnError)
	list := func(to *[]string) func(string) error {
		return func(text string) error { *to = append(*to, text); return nil }
	}
	amount := func(to *string) func(string) error {
		return func(text string) (err error) {
			if *to = text; text != ipc.Any {
				wei, ok := new(big.Int).SetString(strings.TrimSuffix(text, "wei"), 10)
				if !ok {
					return fmt.Errorf("%q is no amount", text)
				}
				*to = fmt.Sprintf("%#x", wei)
			}
			return err
		}
	}
	flags.StringVar(&p.Bind, "bind", "", "")
	flags.IntVar(&p.Terms.Signatures, "signatures", 0, "")
	flags.BoolVar(&p.Terms.Policy.ContractCreation, "contract-creation", false, "")
	flags.Func("ttl", "", func(text string) error {
		d, err := time.ParseDuration(text)
		p.Terms.Seconds = int(d.Seconds())
		return err
	})
	flags.Func("account", "", func(text string) error { return json.Unmarshal([]byte("["+text+"]"), &p.Terms.Accounts) })
	flags.Func("operation", "", list(&p.Terms.Policy.Operations))
	flags.Func("chain", "", list(&p.Terms.Policy.Chains))
	flags.Func("recipient", "", list(&p.Terms.Policy.Recipients))
	flags.Func("selector", "", list(&p.Terms.Policy.Selectors))
	flags.Func("max-value", "", amount(&p.Terms.Policy.MaxValue))
	flags.Func("max-cost", "", amount(&p.Terms.Policy.MaxCost))
	flags.Func("total-value", "", amount(&p.Terms.TotalValue))
	if err := flags.Parse(strings.Fields(command)); err != nil {
		t.Fatal(err)
	}
	return p
}

// The command in the error of a locked account unlocks it for what was asked,
// once.
func TestLockedAccountSaysHowToUnlockIt(t *testing.T) {
	_, c := serving(t)
	all := anyTerms("transaction", "message", "typedData")
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
	for name, call := range map[string]struct {
		method, address string
		params          []any
	}{
		"a call":              {"eth_signTransaction", first, []any{nodeRequest(first)}},
		"a creation":          {"account_signTransaction", first, []any{creation}},
		"data of one byte":    {"eth_signTransaction", first, []any{short}},
		"a message":           {"personal_sign", first, []any{ipc.Hex("hello"), first}},
		"typed data":          {"eth_signTypedData_v4", first, []any{first, permit}},
		"data of Clef's kind": {"account_signData", first, []any{"text/plain", first, ipc.Hex("hello")}},
		"another account":     {"eth_sign", second, []any{second, ipc.Hex("hello")}},
	} {
		_, err := callAs[json.RawMessage](t, c, call.method, call.params...)
		e := wantReason(t, err, "unlockRequired")
		if e.Charged == nil || *e.Charged {
			t.Errorf("%s: not said to be free", name)
		}
		unlock(t, c, r.Wallet, termsOf(t, e.Message, call.address))
		if _, err := callAs[json.RawMessage](t, c, call.method, call.params...); err != nil {
			t.Errorf("%s, after %q: %v", name, e.Message, err)
		}
		_, err = callAs[json.RawMessage](t, c, call.method, call.params...)
		wantReason(t, err, "unlockRequired")
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
