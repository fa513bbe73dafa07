package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"strconv"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

// listAddresses gives the accounts that sign without a PIN now, and then, up to
// the configured number, others of the peer's active wallets, oldest first: for
// these a signature is refused with the command that unlocks them.
func (d *Daemon) listAddresses(ctx context.Context, c *clientCall) (any, error) {
	list := []string{}
	seen := map[[20]byte]bool{}
	add := func(a [20]byte) {
		if !seen[a] {
			seen[a] = true
			list = append(list, eth.Checksum(a))
		}
	}
	for _, u := range d.wallets.Unlocked(c.peer) {
		add(u.Address)
	}
	most := d.config.Ethereum.Accounts
	if len(list) >= most {
		return list, nil
	}
	err := d.wallets.EachActive(ctx, c.peer, func(i *wallet.Info) bool {
		for _, a := range i.Header.Accounts {
			if len(list) < most {
				add([20]byte(a.Address))
			}
		}
		return len(list) < most
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// signBy has the account of an address sign by the unlock that the peer holds.
func (d *Daemon) signBy(ctx context.Context, peer wallet.Peer, address [20]byte, p *payload) (*ipc.BatchSignature, error) {
	s, _, err := d.sign(ctx, peer, target{address: common.Address(address).Hex()}, nil, p)
	if errors.Is(err, wallet.ErrUnlockRequired) || errors.Is(err, wallet.ErrRelock) {
		return nil, d.unlockFirst(ctx, peer, address, p, err)
	}
	return s, err
}

func (d *Daemon) accountSignTransaction(ctx context.Context, c *clientCall) (any, error) {
	var selector json.RawMessage
	if len(c.args) > 1 {
		selector = c.args[1]
	}
	tx, err := d.withChain(c.args[0])
	if err != nil {
		return nil, err
	}
	s, err := d.signTransactionBy(ctx, c.peer, tx, selector)
	if err != nil {
		return nil, err
	}
	return signedTransaction(s.Raw)
}

// withChain gives a transaction that names no chain the configured one. This is
// what the callers of an external signer expect of it, and so bind's Clef
// transactor never names one; eth_signTransaction does not do it.
func (d *Daemon) withChain(raw json.RawMessage) (json.RawMessage, error) {
	var tx map[string]json.RawMessage
	if d.config.Ethereum.ChainID == 0 || json.Unmarshal(raw, &tx) != nil || tx == nil {
		return raw, nil
	}
	if named := tx["chainId"]; named != nil && string(named) != "null" {
		return raw, nil
	}
	tx["chainId"] = json.RawMessage(`"0x` + strconv.FormatUint(d.config.Ethereum.ChainID, 16) + `"`)
	return json.Marshal(tx)
}

func (d *Daemon) ethSignTransaction(ctx context.Context, c *clientCall) (any, error) {
	s, err := d.signTransactionBy(ctx, c.peer, c.args[0], nil)
	if err != nil {
		return nil, err
	}
	if d.config.Ethereum.SignTransactionResult == "object" {
		return signedTransaction(s.Raw)
	}
	return s.Raw, nil
}

// signTransactionBy signs by the account that the transaction itself names.
func (d *Daemon) signTransactionBy(ctx context.Context, peer wallet.Peer, raw, selector json.RawMessage) (*ipc.BatchSignature, error) {
	p, err := transactionPayload(raw)
	if err != nil {
		return nil, err
	}
	if err := checkSelector(selector, p.facts.Selector); err != nil {
		return nil, err
	}
	if p.sender == nil {
		return nil, ipc.InvalidParams("transaction.from", "is required: it says which account signs")
	}
	return d.signBy(ctx, peer, *p.sender, p)
}

// checkSelector compares a function's signature, where one was given, with the
// call data.
func checkSelector(raw json.RawMessage, selector []byte) error {
	if raw == nil || string(raw) == "null" {
		return nil
	}
	function, err := ipc.DecodeArg[string](raw, "methodSelector")
	if err != nil {
		return err
	}
	if !bytes.Equal(crypto.Keccak256([]byte(function))[:4], selector) {
		return ipc.InvalidParams("methodSelector", "is not the function that the transaction calls")
	}
	return nil
}

// signedTransaction shows a signed transaction as geth and Clef do.
func signedTransaction(raw []byte) (*ipc.SignedTransaction, error) {
	tx := new(types.Transaction)
	if err := tx.UnmarshalBinary(raw); err != nil {
		return nil, err
	}
	shown, err := tx.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return &ipc.SignedTransaction{Raw: raw, Tx: shown}, nil
}

func (d *Daemon) accountSignData(ctx context.Context, c *clientCall) (any, error) {
	text, err := ipc.DecodeArg[string](c.args[0], "contentType")
	if err != nil {
		return nil, err
	}
	contentType, _, err := mime.ParseMediaType(text)
	if err != nil {
		return nil, ipc.InvalidParams("contentType", "must be text/plain or data/typed")
	}
	switch contentType {
	case accounts.MimetypeTextPlain:
		return d.signMessageBy(ctx, c.peer, c.args[1], c.args[2])
	case accounts.MimetypeTypedData:
		data, err := ipc.DecodeArg[ipc.Hex](c.args[2], "data")
		if err != nil {
			return nil, err
		}
		return d.signTyped(ctx, c.peer, c.args[1], json.RawMessage(data))
	}
	return nil, ipc.InvalidParams("contentType", "must be text/plain or data/typed: headers of sealed blocks "+
		"and data for a validator are not signed, since no policy could tell what they do")
}

func (d *Daemon) ethSign(ctx context.Context, c *clientCall) (any, error) {
	return d.signMessageBy(ctx, c.peer, c.args[0], c.args[1])
}

func (d *Daemon) personalSign(ctx context.Context, c *clientCall) (any, error) {
	return d.signMessageBy(ctx, c.peer, c.args[1], c.args[0])
}

// signMessageBy signs bytes with the prefix of EIP-191.
func (d *Daemon) signMessageBy(ctx context.Context, peer wallet.Peer, address, data json.RawMessage) (any, error) {
	a, err := addressArg(address)
	if err != nil {
		return nil, err
	}
	message, err := ipc.DecodeArg[ipc.Hex](data, "data")
	if err != nil {
		return nil, err
	}
	return signatureOf(d.signBy(ctx, peer, a, messagePayload(message)))
}

func (d *Daemon) signTypedDataBy(ctx context.Context, c *clientCall) (any, error) {
	data := c.args[1]
	if data[0] == '"' { // ethers and viem send the JSON text in a string
		text, err := ipc.DecodeArg[string](data, "typedData")
		if err != nil {
			return nil, err
		}
		data = json.RawMessage(text)
	}
	return d.signTyped(ctx, c.peer, c.args[0], data)
}

func (d *Daemon) signTyped(ctx context.Context, peer wallet.Peer, address, data json.RawMessage) (any, error) {
	a, err := addressArg(address)
	if err != nil {
		return nil, err
	}
	if data, err = withoutEmptyDomain(data); err != nil {
		return nil, err
	}
	p, err := typedDataPayload(data)
	if err != nil {
		return nil, err
	}
	return signatureOf(d.signBy(ctx, peer, a, p))
}

func signatureOf(s *ipc.BatchSignature, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return s.Signature, nil
}

func addressArg(raw json.RawMessage) ([20]byte, error) {
	text, err := ipc.DecodeArg[string](raw, "address")
	if err != nil {
		return [20]byte{}, err
	}
	return parseAddress(text)
}

// withoutEmptyDomain takes out of the domain what its type does not declare, as
// far as that is "" or null: go-ethereum's own type sends every field of a
// domain, and what is not declared does not enter the digest. Anything else is
// left for the strict reader to refuse.
func withoutEmptyDomain(raw json.RawMessage) (json.RawMessage, error) {
	if _, err := ipc.DecodeArg[json.RawMessage](raw, "typedData"); err != nil {
		return nil, err
	}
	var data, domain map[string]json.RawMessage
	if json.Unmarshal(raw, &data) != nil || json.Unmarshal(data["domain"], &domain) != nil {
		return raw, nil
	}
	var types map[string]json.RawMessage
	var declared []struct{ Name string }
	if json.Unmarshal(data["types"], &types) != nil || json.Unmarshal(types["EIP712Domain"], &declared) != nil {
		return raw, nil
	}
	needed := map[string]bool{}
	for _, field := range declared {
		needed[field.Name] = true
	}
	changed := false
	for name, value := range domain {
		if !needed[name] && (string(value) == `""` || string(value) == "null") {
			delete(domain, name)
			changed = true
		}
	}
	if !changed {
		return raw, nil
	}
	text, err := json.Marshal(domain)
	if err != nil {
		return nil, err
	}
	data["domain"] = text
	return json.Marshal(data)
}
