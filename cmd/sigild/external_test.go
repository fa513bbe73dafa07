package main

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/accounts/external"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"
	"github.com/holiman/uint256"

	"github.com/sigild/sigild/daemon/daemontest"
	"github.com/sigild/sigild/ipc"
)

// anyTerms unlock account 0 for every connection of this user.
func anyTerms(operations ...string) ipc.UnlockParams {
	return ipc.UnlockParams{PIN: ipc.Secret(rightPIN), Bind: "uid", Terms: ipc.Terms{Signatures: 100, Seconds: 600,
		TotalValue: ipc.Any, Policy: ipc.Policy{Operations: operations, Chains: []string{ipc.Any}, Recipients: []string{ipc.Any},
			Selectors: []string{ipc.Any}, MaxValue: ipc.Any, MaxCost: ipc.Any, ContractCreation: true}}}
}

func unlock(t testing.TB, c *ipc.Client, w ipc.WalletInfo, p ipc.UnlockParams) {
	t.Helper()
	p.WalletID = w.WalletID
	if _, err := c.Unlock(testContext(t), p); err != nil {
		t.Fatal(err)
	}
}

// forClients is a configuration for programs that take sigild for a node.
func forClients(o *daemontest.Options) { o.Config["ethereum"] = "chain_id = 1337" }

// unlocked gives a host with a wallet that signs anything without its PIN,
// contract creation and authorizations too.
func unlocked(t testing.TB) (*daemontest.Host, *ipc.Client, ipc.WalletInfo) {
	t.Helper()
	h, c := serving(t, forClients)
	all := anyTerms("transaction", "message", "typedData", "authorization")
	r, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "1", Owner: "alice",
		PIN: ipc.Secret(rightPIN), Policy: &all.Terms.Policy})
	if err != nil {
		t.Fatal(err)
	}
	unlock(t, c, r.Wallet, all)
	return h, c, r.Wallet
}

func externalBackend(t testing.TB, h *daemontest.Host) accounts.Wallet {
	t.Helper()
	backend, err := external.NewExternalBackend(h.Socket)
	if err != nil {
		t.Fatal(err)
	}
	return backend.Wallets()[0]
}

func gethClient(t testing.TB, h *daemontest.Host) *rpc.Client {
	t.Helper()
	c, err := rpc.DialIPC(testContext(t), h.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestExternalSignerLists(t *testing.T) {
	h, c, w := unlocked(t)
	locked := create(t, c, "2")
	signer := externalBackend(t, h)
	if status, err := signer.Status(); err != nil || status != "ok [version="+ipc.AccountAPIVersion+"]" {
		t.Errorf("status %q, %v", status, err)
	}
	list := signer.Accounts()
	if len(list) != 2 || list[0].Address.Hex() != w.Accounts[0].Address || list[1].Address.Hex() != locked.Accounts[0].Address {
		t.Fatalf("got %v, want the unlocked one first and then the other", list)
	}
	if !signer.Contains(list[0]) || signer.Contains(accounts.Account{Address: common.Address{1}}) {
		t.Error("the list is not what it contains")
	}
}

// transactions are one of each type that go-ethereum's external signer sends
// whole, and two contract creations.
func transactions(t *testing.T) map[string]types.TxData {
	t.Helper()
	to, data := common.HexToAddress("0x9858EfFD232B4033E47d90003D41EC34EcaEda94"), common.FromHex("0xa9059cbb00")
	chain, fee, tip, value := big.NewInt(1337), big.NewInt(20e9), big.NewInt(1e9), big.NewInt(5)
	list := types.AccessList{{Address: to, StorageKeys: []common.Hash{{1}}}}
	sidecar := sidecarOf(t, types.BlobSidecarVersion0, 1)
	return map[string]types.TxData{
		"legacy":          &types.LegacyTx{Nonce: 1, GasPrice: fee, Gas: 50000, To: &to, Value: value, Data: data},
		"legacy creation": &types.LegacyTx{Nonce: 2, GasPrice: fee, Gas: 90000, Data: data},
		"access list":     &types.AccessListTx{ChainID: chain, Nonce: 3, GasPrice: fee, Gas: 50000, To: &to, Value: value, AccessList: list},
		"dynamic fee":     &types.DynamicFeeTx{ChainID: chain, Nonce: 4, GasFeeCap: fee, GasTipCap: tip, Gas: 50000, To: &to, Value: value, Data: data, AccessList: list},
		"creation":        &types.DynamicFeeTx{ChainID: chain, Nonce: 5, GasFeeCap: fee, GasTipCap: tip, Gas: 90000, Data: data},
		"blob": &types.BlobTx{ChainID: uint256.NewInt(1337), Nonce: 6, GasFeeCap: uint256.MustFromBig(fee), GasTipCap: uint256.MustFromBig(tip),
			Gas: 50000, To: to, Value: uint256.NewInt(5), BlobFeeCap: uint256.NewInt(9), BlobHashes: sidecar.BlobHashes(), Sidecar: sidecar},
	}
}

func TestExternalSignerSignsEachTransaction(t *testing.T) {
	h, _, w := unlocked(t)
	signer := externalBackend(t, h)
	from := accounts.Account{Address: common.HexToAddress(w.Accounts[0].Address)}
	chain := types.LatestSignerForChainID(big.NewInt(1337))
	for name, data := range transactions(t) {
		tx := types.NewTx(data)
		signed, err := signer.SignTx(from, tx, big.NewInt(1337))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if sender, err := types.Sender(chain, signed); err != nil || sender != from.Address {
			t.Errorf("%s: sender %s, %v", name, sender, err)
		}
		if signed.Type() != tx.Type() || chain.Hash(signed) != chain.Hash(tx) {
			t.Errorf("%s: another transaction was signed", name)
		}
	}
	unnamed := types.NewTx(&types.LegacyTx{Gas: 21000, To: &from.Address, GasPrice: big.NewInt(1), Value: new(big.Int)})
	if signed, err := signer.SignTx(from, unnamed, nil); err != nil || signed.ChainId().Int64() != 1337 {
		t.Errorf("without a chain: %v, want the configured one", err)
	}
}

// go-ethereum's external signer sends a type 4 transaction without its
// authorizations, so that no signer can tell it from type 2: what comes back is
// that. Who calls account_signTransaction with the list gets type 4.
func TestExternalSignerAndAuthorizations(t *testing.T) {
	h, c, w := unlocked(t)
	from := common.HexToAddress(w.Accounts[0].Address)
	a, err := c.SignAuthorization(testContext(t), ipc.SignPayloadParams{WalletID: w.WalletID,
		Payload: json.RawMessage(`{"chainId":"0x539","address":"0x9858EfFD232B4033E47d90003D41EC34EcaEda94","nonce":"0x1"}`)})
	if err != nil {
		t.Fatal(err)
	}
	var authorization types.SetCodeAuthorization
	if err := json.Unmarshal(a.Signed, &authorization); err != nil {
		t.Fatal(err)
	}
	if authority, err := authorization.Authority(); err != nil || authority != from {
		t.Fatalf("authority %s, %v", authority, err)
	}
	tx := types.NewTx(&types.SetCodeTx{ChainID: uint256.NewInt(1337), GasFeeCap: uint256.NewInt(9), GasTipCap: uint256.NewInt(1),
		Gas: 90000, To: from, Value: new(uint256.Int), AuthList: []types.SetCodeAuthorization{authorization}})
	signed, err := externalBackend(t, h).SignTx(accounts.Account{Address: from}, tx, big.NewInt(1337))
	if err != nil || signed.Type() != types.DynamicFeeTxType {
		t.Errorf("go-ethereum's external signer: %v, %v", signed, err)
	}
	var out ipc.SignedTransaction
	args := map[string]any{"from": from, "to": from, "chainId": "0x539", "nonce": "0x0", "gas": "0x15f90", "value": "0x0",
		"maxFeePerGas": "0x9", "maxPriorityFeePerGas": "0x1", "authorizationList": []any{a.Signed}}
	if err := gethClient(t, h).CallContext(testContext(t), &out, "account_signTransaction", args); err != nil {
		t.Fatal(err)
	}
	whole, shown := new(types.Transaction), new(types.Transaction)
	if err := whole.UnmarshalBinary(out.Raw); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Tx, shown); err != nil || shown.Hash() != whole.Hash() {
		t.Errorf("tx and raw differ: %v", err)
	}
	sender, err := types.Sender(types.LatestSignerForChainID(big.NewInt(1337)), whole)
	if err != nil || sender != from || whole.Type() != types.SetCodeTxType || len(whole.SetCodeAuthorizations()) != 1 {
		t.Errorf("type %d by %s, %v", whole.Type(), sender, err)
	}
}

const permit = `{"types":{"EIP712Domain":[{"name":"name","type":"string"},{"name":"chainId","type":"uint256"},{"name":"verifyingContract","type":"address"}],
"Permit":[{"name":"spender","type":"address"},{"name":"value","type":"uint256"}]},"primaryType":"Permit",
"domain":{"name":"Token","chainId":"0x539","verifyingContract":"0x9858EfFD232B4033E47d90003D41EC34EcaEda94"},
"message":{"spender":"0x9858EfFD232B4033E47d90003D41EC34EcaEda94","value":"1000000"}}`

func TestExternalSignerSignsDataAndTypedData(t *testing.T) {
	h, _, w := unlocked(t)
	signer, from := externalBackend(t, h), common.HexToAddress(w.Accounts[0].Address)
	account := accounts.Account{Address: from}
	text, err := signer.SignText(account, []byte("hello"))
	recovered(t, accounts.TextHash([]byte("hello")), text, err, from)
	data, err := signer.SignData(account, accounts.MimetypeTextPlain, []byte{0, 0xff})
	recovered(t, accounts.TextHash([]byte{0, 0xff}), data, err, from)

	var typed apitypes.TypedData
	if err := json.Unmarshal([]byte(permit), &typed); err != nil {
		t.Fatal(err)
	}
	digest, _, err := apitypes.TypedDataAndHash(typed)
	if err != nil {
		t.Fatal(err)
	}
	byData, err := signer.SignData(account, accounts.MimetypeTypedData, []byte(permit))
	recovered(t, digest, byData, err, from)
	c := gethClient(t, h)
	for _, form := range []any{typed, permit, json.RawMessage(permit)} { // go-ethereum's type has every field of a domain
		var signature hexutil.Bytes
		err = c.CallContext(testContext(t), &signature, "account_signTypedData", from, form)
		recovered(t, digest, signature, err, from)
	}
	for _, kind := range []string{"text/html", "text", ""} {
		if _, err := signer.SignData(account, kind, []byte("hello")); err == nil || !strings.Contains(err.Error(), "contentType") {
			t.Errorf("%q: %v", kind, err)
		}
	}
}

// recovered checks a signature with go-ethereum only.
func recovered(t *testing.T, digest, signature []byte, err error, want common.Address) {
	t.Helper()
	if err != nil || len(signature) != 65 {
		t.Errorf("signature %x, %v", signature, err)
		return
	}
	signature = bytes.Clone(signature)
	if signature[64] >= 27 {
		signature[64] -= 27
	}
	key, err := crypto.SigToPub(digest, signature)
	if err != nil || crypto.PubkeyToAddress(*key) != want {
		t.Errorf("not signed by %s: %v", want, err)
	}
}
