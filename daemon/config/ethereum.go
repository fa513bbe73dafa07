package config

import (
	"errors"
	"math"
)

// Ethereum is what sigild tells programs that take it for a node: the methods
// eth_*, personal_* and account_*.
type Ethereum struct {
	// ChainID is what eth_chainId and net_version answer, and the chain of an
	// account_signTransaction that names none; 0: all of these are refused. It
	// does not keep a transaction from naming another chain.
	ChainID uint64 `toml:"chain_id"`
	// Accounts is how many accounts eth_accounts and account_list show, when so
	// many are not unlocked.
	Accounts int `toml:"accounts"`
	// SignTransactionResult is what eth_signTransaction answers: "raw", the
	// signed transaction's bytes, or "object", {raw, tx}.
	SignTransactionResult string `toml:"sign_transaction_result"`
}

func (e Ethereum) check() error {
	var chain error
	if e.ChainID > math.MaxInt64 {
		chain = errors.New("ethereum.chain_id: is too large")
	}
	return errors.Join(chain, between("ethereum.accounts", e.Accounts, 0, 1000),
		oneOf("ethereum.sign_transaction_result", e.SignTransactionResult, "raw", "object"))
}
