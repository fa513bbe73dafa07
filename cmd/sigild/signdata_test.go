package main

import (
	"encoding/json"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/sigild/sigild/ipc"
)

// headerToSeal is the header of a block that a clique signer has not sealed yet.
func headerToSeal() *types.Header {
	return &types.Header{ParentHash: common.Hash{1}, UncleHash: types.EmptyUncleHash, Root: common.Hash{2}, TxHash: types.EmptyTxsHash,
		ReceiptHash: types.EmptyReceiptsHash, Difficulty: big.NewInt(2), Number: big.NewInt(7), GasLimit: 30_000_000, Time: 1_800_000_000,
		Extra: make([]byte, 32), BaseFee: big.NewInt(7)}
}

// forSealers is a wallet that signs what no wallet signs by default, unlocked.
func forSealers(t *testing.T, c *ipc.Client) common.Address {
	t.Helper()
	all := anyTerms("validatorData", "cliqueHeader")
	r, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "sealer", Owner: "alice", PIN: ipc.Secret(rightPIN), Policy: &all.Terms.Policy})
	if err != nil {
		t.Fatal(err)
	}
	unlock(t, c, r.Wallet, all)
	return common.HexToAddress(r.Wallet.Accounts[0].Address)
}

// go-ethereum's external signer has a header sealed, which the chain would take.
func TestExternalSignerSealsHeaders(t *testing.T) {
	h, c := serving(t, forClients)
	from := forSealers(t, c)
	header := headerToSeal()
	encoded, err := rlp.EncodeToBytes(header)
	if err != nil {
		t.Fatal(err)
	}
	seal, err := externalBackend(t, h).SignData(accounts.Account{Address: from}, accounts.MimetypeClique, encoded)
	recovered(t, header.Hash().Bytes(), seal, err, from)
	direct, err := callAs[ipc.Hex](t, c, ipc.MethodAccountSignData, accounts.MimetypeClique, from, ipc.Hex(encoded))
	if recovered(t, header.Hash().Bytes(), direct, err, from); len(direct) != 65 || direct[64] > 1 {
		t.Errorf("v of %x is not as a header carries it", direct)
	}
	header.Extra = append(header.Extra, seal...) // sealed already
	if encoded, err = rlp.EncodeToBytes(header); err != nil {
		t.Fatal(err)
	}
	_, err = callAs[ipc.Hex](t, c, ipc.MethodAccountSignData, accounts.MimetypeClique, from, ipc.Hex(encoded))
	if e := wantReason(t, err, ipc.ReasonInvalidParams); e.Field != "data.extraData" {
		t.Errorf("field %q", e.Field)
	}
}

// Data for a validator comes as Clef took it, and as go-ethereum's client sends
// everything.
func TestDataForAValidator(t *testing.T) {
	h, c := serving(t, forClients)
	from := forSealers(t, c)
	const text = `{"address":"0x9858EfFD232B4033E47d90003D41EC34EcaEda94","message":"0x68656c6c6f"}`
	digest := crypto.Keccak256([]byte("\x19\x00"), hexutil.MustDecode("0x9858effd232b4033e47d90003d41ec34ecaeda94"), []byte("hello"))
	signed, err := callAs[ipc.Hex](t, c, ipc.MethodAccountSignData, accounts.MimetypeDataWithValidator, from, json.RawMessage(text))
	if recovered(t, digest, signed, err, from); len(signed) == 65 && signed[64] < 27 {
		t.Errorf("v is %d", signed[64])
	}
	signed, err = externalBackend(t, h).SignData(accounts.Account{Address: from}, accounts.MimetypeDataWithValidator, []byte(text))
	recovered(t, digest, signed, err, from)
	_, err = callAs[ipc.Hex](t, c, ipc.MethodAccountSignData, accounts.MimetypeDataWithValidator, from, json.RawMessage(twice(text, "message")))
	wantReason(t, err, ipc.ReasonInvalidParams)
}

// A wallet whose policy nobody chose signs neither.
func TestSealingIsOptedIn(t *testing.T) {
	_, c := serving(t, forClients)
	w := create(t, c, "1")
	terms := anyTerms("message", "validatorData", "cliqueHeader")
	terms.Terms.Policy.ContractCreation = false
	unlock(t, c, w, terms)
	encoded, err := rlp.EncodeToBytes(headerToSeal())
	if err != nil {
		t.Fatal(err)
	}
	for kind, data := range map[string]any{accounts.MimetypeClique: ipc.Hex(encoded),
		accounts.MimetypeDataWithValidator: map[string]string{"address": w.Accounts[0].Address, "message": "0x00"}} {
		_, err := callAs[ipc.Hex](t, c, ipc.MethodAccountSignData, kind, w.Accounts[0].Address, data)
		wantReason(t, err, "policyDenied")
	}
}
