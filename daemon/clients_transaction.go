package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

func (d *Daemon) accountSignTransaction(ctx context.Context, c *clientCall) (any, error) {
	var selector json.RawMessage
	if len(c.args) > 1 {
		selector = c.args[1]
	}
	s, err := d.signTransactionBy(ctx, c.peer, c.args[0], selector, true)
	if err != nil {
		return nil, err
	}
	return signedTransaction(s.Raw)
}

func (d *Daemon) ethSignTransaction(ctx context.Context, c *clientCall) (any, error) {
	s, err := d.signTransactionBy(ctx, c.peer, c.args[0], nil, false)
	if err != nil {
		return nil, err
	}
	if d.config.Ethereum.SignTransactionResult == "object" {
		return signedTransaction(s.Raw)
	}
	return s.Raw, nil
}

// signTransactionBy signs by the account that the transaction itself names. Where
// fill says so, one that names no chain gets the configured one: this is what the
// callers of an external signer expect of it, so that bind's Clef transactor never
// names one. eth_signTransaction fills nothing in.
func (d *Daemon) signTransactionBy(ctx context.Context, peer wallet.Peer, raw, selector json.RawMessage, fill bool) (*ipc.BatchSignature, error) {
	var chain uint64
	if fill {
		chain = d.config.Ethereum.ChainID
	}
	raw, err := sentTransaction(raw, chain)
	if err != nil {
		return nil, err
	}
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

// shownOnly are what programs show of a transaction that is signed or mined. It
// says nothing of one that is to be signed.
var shownOnly = []string{"hash", "blockHash", "blockNumber", "blockTimestamp", "transactionIndex", "v", "r", "s", "yParity"}

// sentTransaction takes out of a transaction what it cannot have yet, as far as
// that is null or zero: Nethermind sends its own type, which always has it.
// Anything else is left for the strict reader to refuse. chain is put where the
// transaction names none, unless it is 0.
func sentTransaction(raw json.RawMessage, chain uint64) (json.RawMessage, error) {
	var tx map[string]json.RawMessage // without duplicates: DecodeArgs has looked
	if json.Unmarshal(raw, &tx) != nil || tx == nil {
		return raw, nil
	}
	changed := false
	for _, name := range shownOnly {
		if value, given := tx[name]; given && isNothing(value) {
			delete(tx, name)
			changed = true
		}
	}
	if named := tx["chainId"]; chain != 0 && (named == nil || string(named) == "null") {
		tx["chainId"] = json.RawMessage(`"0x` + strconv.FormatUint(chain, 16) + `"`)
		changed = true
	}
	if !changed {
		return raw, nil
	}
	return json.Marshal(tx)
}

// isNothing takes null, 0 and a string of "0x" and zeros.
func isNothing(value json.RawMessage) bool {
	text := string(value)
	if digits, isHex := strings.CutPrefix(text, `"0x`); isHex {
		return strings.Trim(digits, "0") == `"`
	}
	return text == "null" || text == "0"
}
