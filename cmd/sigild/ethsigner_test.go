package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"
	"github.com/holiman/uint256"

	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/ipc/ethsigner"
)

// The account checks each answer by itself: what comes back without an error is
// the signature of just that.
func TestSignerSignsEverything(t *testing.T) {
	_, c, w := unlocked(t)
	account := ethsigner.New(c, common.HexToAddress(w.Accounts[0].Address))
	ctx, chain := testContext(t), big.NewInt(1337)
	authorization, err := account.SignAuthorization(ctx, types.SetCodeAuthorization{ChainID: *uint256.NewInt(1337), Address: common.Address{1}, Nonce: 7})
	if err != nil {
		t.Fatal(err)
	}
	all := transactions(t)
	all["set code"] = &types.SetCodeTx{ChainID: uint256.NewInt(1337), GasFeeCap: uint256.NewInt(9), GasTipCap: uint256.NewInt(1),
		Gas: 90000, To: account.Address(), Value: new(uint256.Int), AuthList: []types.SetCodeAuthorization{authorization},
		AccessList: types.AccessList{{Address: account.Address()}}}
	opts := account.TransactOpts(ctx, chain)
	for name, data := range all {
		tx := types.NewTx(data)
		signed, err := opts.Signer(opts.From, tx)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if (signed.BlobTxSidecar() == nil) != (tx.BlobTxSidecar() == nil) {
			t.Errorf("%s: the sidecar is gone", name)
		}
	}
	if _, err := opts.Signer(common.Address{1}, types.NewTx(all["legacy"])); !errors.Is(err, bind.ErrNotAuthorized) {
		t.Errorf("another account: %v", err)
	}
	for _, wrong := range []*big.Int{nil, new(big.Int), big.NewInt(1)} {
		if _, err := account.SignTx(ctx, types.NewTx(all["dynamic fee"]), wrong); !errors.Is(err, ethsigner.ErrChain) {
			t.Errorf("chain %v: %v", wrong, err)
		}
	}
	for _, message := range [][]byte{nil, []byte("hello"), {0, 0xff}} {
		signature, err := account.SignMessage(ctx, message)
		recovered(t, accounts.TextHash(message), signature, err, account.Address())
	}
	var typed apitypes.TypedData
	if err := json.Unmarshal([]byte(permit), &typed); err != nil {
		t.Fatal(err)
	}
	typed.Message["value"] = new(big.Int).Lsh(big.NewInt(1), 200)
	digest, _, err := apitypes.TypedDataAndHash(typed)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := account.SignTypedData(ctx, typed)
	recovered(t, digest, signature, err, account.Address())
}

func TestSignerErrors(t *testing.T) {
	_, c := serving(t)
	w := create(t, c, "1")
	ctx := testContext(t)
	account := ethsigner.New(c, common.HexToAddress(w.Accounts[0].Address))
	_, err := account.SignMessage(ctx, []byte("hello"))
	if !errors.Is(err, ethsigner.ErrUnlockRequired) {
		t.Errorf("locked: %v", err)
	}
	terms := anyTerms("transaction")
	terms.Terms.Policy.ContractCreation = false
	unlock(t, c, w, terms)
	if _, err := account.SignMessage(ctx, []byte("hello")); !errors.Is(err, ethsigner.ErrTerms) {
		t.Errorf("beyond the terms: %v", err)
	}
	if _, err := account.SignTx(ctx, types.NewTx(transactions(t)["creation"]), big.NewInt(1337)); !errors.Is(err, ethsigner.ErrPolicy) {
		t.Errorf("beyond the policy: %v", err)
	}
	if _, err := ethsigner.New(c, common.Address{1}).SignMessage(ctx, nil); !errors.Is(err, ethsigner.ErrNotFound) {
		t.Errorf("an unknown account: %v", err)
	}
	if _, err := account.Digests(ctx); !errors.Is(err, ethsigner.ErrRawDigest) {
		t.Errorf("without the policy: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := account.SignMessage(ended, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// With a PIN for each signature no unlock is needed; the PIN is wiped.
func TestSignerAsksForThePIN(t *testing.T) {
	h, c := serving(t)
	w := create(t, c, "1")
	account := ethsigner.New(c, common.HexToAddress(w.Accounts[0].Address))
	var given ipc.Secret
	account.PIN = func(context.Context) (ipc.Secret, error) {
		given = ipc.Secret(rightPIN)
		return given, nil
	}
	for range 2 {
		signature, err := account.SignMessage(testContext(t), []byte("hello"))
		recovered(t, accounts.TextHash([]byte("hello")), signature, err, account.Address())
		if string(given) != string(make([]byte, len(rightPIN))) {
			t.Error("the PIN is still there")
		}
		stop(t, h)
		start(t, h) // the client dials again
	}
	refused := errors.New("the user went away")
	account.PIN = func(context.Context) (ipc.Secret, error) { return nil, refused }
	if _, err := account.SignMessage(testContext(t), nil); !errors.Is(err, refused) {
		t.Errorf("without a PIN: %v", err)
	}
}

func TestDigestSigner(t *testing.T) {
	_, c := serving(t)
	all := anyTerms("rawDigest")
	r, err := c.CreateWallet(testContext(t), ipc.CreateWalletParams{RequestID: "1", Owner: "alice", PIN: ipc.Secret(rightPIN), Policy: &all.Terms.Policy})
	if err != nil {
		t.Fatal(err)
	}
	unlock(t, c, r.Wallet, all)
	signer, err := ethsigner.New(c, common.HexToAddress(r.Wallet.Accounts[0].Address)).Digests(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("hello"))
	signature, err := signer.Sign(nil, digest[:], nil)
	if err != nil || !ecdsa.VerifyASN1(signer.Public().(*ecdsa.PublicKey), digest[:], signature) {
		t.Errorf("signature %x, %v", signature, err)
	}
	if _, err := signer.Sign(nil, digest[:31], nil); !errors.Is(err, ethsigner.ErrDigest) {
		t.Errorf("31 bytes: %v", err)
	}
}
