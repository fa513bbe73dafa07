package ipc

import "encoding/json"

// Names of the methods that other programs already speak. Their parameters are
// by position.
const (
	MethodAccountVersion         = "account_version"
	MethodAccountList            = "account_list"
	MethodAccountSignTransaction = "account_signTransaction"
	MethodAccountSignData        = "account_signData"
	MethodAccountSignTypedData   = "account_signTypedData"

	MethodEthAccounts        = "eth_accounts"
	MethodEthChainID         = "eth_chainId"
	MethodEthSign            = "eth_sign"
	MethodEthSignTransaction = "eth_signTransaction"
	MethodEthSignTypedData   = "eth_signTypedData"
	MethodEthSignTypedDataV4 = "eth_signTypedData_v4"
	MethodPersonalSign       = "personal_sign"
	MethodClientVersion      = "web3_clientVersion"
	MethodNetVersion         = "net_version"
	MethodRPCModules         = "rpc_modules"
	MethodDiscover           = "rpc.discover"
)

// AccountAPIVersion is the version of the account_* methods that
// account_version tells: that of Clef's external API whose shapes they have.
const AccountAPIVersion = "6.1.0"

// SignedTransaction is the result of account_signTransaction, and of
// eth_signTransaction where ethereum.sign_transaction_result is "object".
type SignedTransaction struct {
	// Raw is what eth_sendRawTransaction takes.
	Raw Hex `json:"raw"`
	// Tx is the transaction with its signature, as eth_getTransaction shows it;
	// a blob transaction has its sidecar.
	Tx json.RawMessage `json:"tx"`
}
