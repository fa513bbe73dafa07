package ethsigner

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/sigild/sigild/ipc"
)

// SignTx signs a transaction of any type for a chain. A transaction whose own
// chain id is 0, as contract bindings make it, gets that chain's. A blob
// transaction keeps its sidecar.
func (a *Account) SignTx(ctx context.Context, tx *types.Transaction, chainID *big.Int) (*types.Transaction, error) {
	if chainID == nil || chainID.Sign() <= 0 {
		return nil, ErrChain
	}
	if own := tx.ChainId(); tx.Type() != types.LegacyTxType && own.Sign() != 0 && own.Cmp(chainID) != 0 {
		return nil, ErrChain
	}
	payload, err := json.Marshal(a.fields(tx, chainID))
	if err != nil {
		return nil, err
	}
	out, err := ask(ctx, a, func(pin ipc.Secret) (*ipc.SignTransactionResult, error) {
		return a.client.SignTransaction(ctx, ipc.SignTransactionParams{Address: a.address.Hex(), Transaction: payload, PIN: pin})
	})
	if err != nil {
		return nil, err
	}
	return a.checkedTransaction(tx, out.Raw, chainID)
}

// checkedTransaction returns the signed transaction if it is the one that was
// asked for, and signed by this account.
func (a *Account) checkedTransaction(asked *types.Transaction, raw []byte, chainID *big.Int) (*types.Transaction, error) {
	signed := new(types.Transaction)
	if err := signed.UnmarshalBinary(raw); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrAnswer, err)
	}
	signer := types.LatestSignerForChainID(chainID)
	sender, err := types.Sender(signer, signed)
	if err != nil || sender != a.address || signed.Type() != asked.Type() || signer.Hash(signed) != signer.Hash(asked) {
		return nil, ErrAnswer
	}
	return signed, nil
}

// SignerFn returns the function by which go-ethereum's contract bindings sign.
// ctx bounds each signature.
func (a *Account) SignerFn(ctx context.Context, chainID *big.Int) bind.SignerFn {
	return func(address common.Address, tx *types.Transaction) (*types.Transaction, error) {
		if address != a.address {
			return nil, bind.ErrNotAuthorized
		}
		return a.SignTx(ctx, tx, chainID)
	}
}

// TransactOpts returns options for go-ethereum's contract bindings. ctx bounds
// the signature and the calls that go with it.
func (a *Account) TransactOpts(ctx context.Context, chainID *big.Int) *bind.TransactOpts {
	return &bind.TransactOpts{From: a.address, Signer: a.SignerFn(ctx, chainID), Context: ctx}
}

// fields gives a transaction in the field names of Ethereum JSON-RPC.
func (a *Account) fields(tx *types.Transaction, chainID *big.Int) map[string]any {
	f := map[string]any{
		"type": quantity(uint64(tx.Type())), "chainId": (*hexutil.Big)(chainID), "from": a.address.Hex(),
		"nonce": quantity(tx.Nonce()), "gas": quantity(tx.Gas()), "value": (*hexutil.Big)(tx.Value()), "input": hexutil.Bytes(tx.Data()),
	}
	if tx.To() != nil {
		f["to"] = tx.To().Hex()
	}
	if tx.Type() == types.LegacyTxType || tx.Type() == types.AccessListTxType {
		f["gasPrice"] = (*hexutil.Big)(tx.GasPrice())
	} else {
		f["maxFeePerGas"] = (*hexutil.Big)(tx.GasFeeCap())
		f["maxPriorityFeePerGas"] = (*hexutil.Big)(tx.GasTipCap())
	}
	if tx.Type() != types.LegacyTxType {
		f["accessList"] = accessList(tx.AccessList())
	}
	if tx.Type() == types.SetCodeTxType {
		f["authorizationList"] = tx.SetCodeAuthorizations()
	}
	if tx.Type() == types.BlobTxType {
		addBlobs(f, tx)
	}
	return f
}

func addBlobs(f map[string]any, tx *types.Transaction) {
	f["maxFeePerBlobGas"] = (*hexutil.Big)(tx.BlobGasFeeCap())
	f["blobVersionedHashes"] = tx.BlobHashes()
	if s := tx.BlobTxSidecar(); s != nil {
		f["blobs"], f["commitments"], f["proofs"] = s.Blobs, s.Commitments, s.Proofs
	}
}

// accessList has an empty list, not null, where there are no storage keys.
func accessList(list types.AccessList) types.AccessList {
	out := make(types.AccessList, len(list))
	for n, entry := range list {
		out[n] = types.AccessTuple{Address: entry.Address, StorageKeys: append([]common.Hash{}, entry.StorageKeys...)}
	}
	return out
}

func quantity(n uint64) hexutil.Uint64 { return hexutil.Uint64(n) }
