package eth

import (
	"bytes"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"
)

// body holds the fields that all transaction types share, and the fees.
type body struct {
	txType         uint8
	chainID        uint64
	nonce, gas     uint64
	from, to       *common.Address
	value          *uint256.Int
	data           []byte
	accessList     types.AccessList
	gasPrice       *uint256.Int // types 0x0 and 0x1
	feeCap, tipCap *uint256.Int // types 0x2 to 0x4
}

func parseBody(f fields) (body, error) {
	var b body
	var err error
	if b.txType, err = typeOf(f); err != nil {
		return body{}, err
	}
	if err = checkForm(f, b.txType); err != nil {
		return body{}, err
	}
	for _, part := range []func(fields) error{b.parseOrigin, b.parseGas, b.parseFees, b.parseCall} {
		if err = part(f); err != nil {
			return body{}, err
		}
	}
	return b, nil
}

// parseOrigin reads what binds the transaction to a chain and an account.
func (b *body) parseOrigin(f fields) (err error) {
	if b.chainID, err = read(f, "chainId", value.chainID); err != nil {
		return err
	}
	if b.chainID == 0 {
		return at("chainId", problem("must not be 0: a transaction is for one chain"))
	}
	if b.nonce, err = read(f, "nonce", value.nonce); err != nil {
		return err
	}
	b.from, err = read(f, "from", addressPointer)
	return err
}

func (b *body) parseGas(f fields) (err error) {
	name, _ := f.hasAny("gas", "gasLimit")
	if b.gas, err = read(f, name, value.uint64); err != nil {
		return err
	}
	if f.has("gasLimit") {
		limit, err := read(f, "gasLimit", value.uint64)
		if err != nil {
			return err
		}
		if limit != b.gas {
			return at("gasLimit", problem("contradicts gas: give one of them, or both with the same value"))
		}
	}
	if b.gas == 0 {
		return at(name, problem("must not be 0"))
	}
	return nil
}

func (b *body) parseFees(f fields) (err error) {
	if b.gasPrice, err = read(f, "gasPrice", value.word); err != nil {
		return err
	}
	if b.feeCap, err = read(f, "maxFeePerGas", value.word); err != nil {
		return err
	}
	if b.tipCap, err = read(f, "maxPriorityFeePerGas", value.word); err != nil {
		return err
	}
	if b.feeCap != nil && b.tipCap.Gt(b.feeCap) {
		return at("maxPriorityFeePerGas", problem("is larger than maxFeePerGas"))
	}
	return nil
}

func (b *body) parseCall(f fields) (err error) {
	if b.to, err = read(f, "to", addressPointer); err != nil {
		return err
	}
	if b.value, err = read(f, "value", value.word); err != nil {
		return err
	}
	if b.value == nil {
		b.value = new(uint256.Int)
	}
	if b.data, err = callData(f); err != nil {
		return err
	}
	if b.to == nil && len(b.data) == 0 {
		return at("to", problem("is required, unless data holds the code of a contract to create"))
	}
	b.accessList, err = read(f, "accessList", accessList)
	return err
}

// callData reads "data" and "input", two names of one field.
func callData(f fields) ([]byte, error) {
	data, err := read(f, "data", value.bytes)
	if err != nil {
		return nil, err
	}
	if !f.has("input") {
		return data, nil
	}
	input, err := read(f, "input", value.bytes)
	if err != nil {
		return nil, err
	}
	if f.has("data") && !bytes.Equal(data, input) {
		return nil, at("input", problem("contradicts data: give one of them, or both with the same value"))
	}
	return input, nil
}

func addressPointer(v value) (*common.Address, error) {
	address, err := v.address()
	return &address, err
}

// accessList reads an EIP-2930 access list.
func accessList(v value) (types.AccessList, error) {
	return each(v, MaxValues, func(entry value) (types.AccessTuple, error) {
		var tuple types.AccessTuple
		f, err := exactFields(entry, "address", "storageKeys")
		if err != nil {
			return tuple, err
		}
		if tuple.Address, err = read(f, "address", value.address); err != nil {
			return tuple, err
		}
		tuple.StorageKeys, err = read(f, "storageKeys", func(keys value) ([]common.Hash, error) {
			return each(keys, MaxValues, value.hash)
		})
		return tuple, err
	})
}

// txData makes go-ethereum's form of the transaction.
func (b *body) txData(f fields) (types.TxData, error) {
	switch b.txType {
	case types.LegacyTxType:
		return &types.LegacyTx{
			Nonce: b.nonce, GasPrice: b.gasPrice.ToBig(), Gas: b.gas,
			To: b.to, Value: b.value.ToBig(), Data: b.data,
		}, nil
	case types.AccessListTxType:
		return &types.AccessListTx{
			ChainID: b.bigChainID(), Nonce: b.nonce, GasPrice: b.gasPrice.ToBig(), Gas: b.gas,
			To: b.to, Value: b.value.ToBig(), Data: b.data, AccessList: b.accessList,
		}, nil
	case types.DynamicFeeTxType:
		return &types.DynamicFeeTx{
			ChainID: b.bigChainID(), Nonce: b.nonce, GasTipCap: b.tipCap.ToBig(), GasFeeCap: b.feeCap.ToBig(),
			Gas: b.gas, To: b.to, Value: b.value.ToBig(), Data: b.data, AccessList: b.accessList,
		}, nil
	case types.BlobTxType:
		return b.blobTx(f)
	default:
		return b.setCodeTx(f)
	}
}

func (b *body) bigChainID() *big.Int { return new(big.Int).SetUint64(b.chainID) }

func (b *body) setCodeTx(f fields) (types.TxData, error) {
	authorizations, err := read(f, "authorizationList", b.authorizationList)
	if err != nil {
		return nil, err
	}
	return &types.SetCodeTx{
		ChainID: uint256.NewInt(b.chainID), Nonce: b.nonce, GasTipCap: b.tipCap, GasFeeCap: b.feeCap,
		Gas: b.gas, To: *b.to, Value: b.value, Data: b.data, AccessList: b.accessList,
		AuthList: authorizations,
	}, nil
}
