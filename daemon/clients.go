package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strconv"

	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

// clientCall is one request of a program that takes sigild for a node or for
// an external signer. Its parameters are by position.
type clientCall struct {
	peer wallet.Peer
	args []json.RawMessage
}

// clientMethod is one row of the table of methods that other programs speak.
// No PIN can be given in them: an account signs by an unlock.
type clientMethod struct {
	description
	run func(*Daemon, context.Context, *clientCall) (any, error)
}

// parameter describes one parameter by position.
type parameter struct {
	name, about string
	kind        reflect.Type
	optional    bool
}

// addressText is an account's address on the wire.
type addressText string

// signatureText is the signature of a message on the wire.
type signatureText string

// quantityText is a number on the wire.
type quantityText string

// signedResult is what eth_signTransaction answers, by the configuration.
type signedResult struct{}

// transactionObject is a transaction in the field names of Ethereum JSON-RPC.
type transactionObject json.RawMessage

// dataOrObject is bytes, or what they are the JSON text of.
type dataOrObject json.RawMessage

// typedDataObject is the object {types, primaryType, domain, message} of EIP-712.
type typedDataObject json.RawMessage

// clientMethods is that table.
func clientMethods() []clientMethod {
	text := reflect.TypeFor[string]()
	account := parameter{name: "address", about: "the account that signs", kind: reflect.TypeFor[addressText]()}
	data := parameter{name: "data", about: "the bytes of the message", kind: reflect.TypeFor[ipc.Hex]()}
	typed := parameter{name: "typedData", about: "the typed data (EIP-712), also as a string that holds its JSON text",
		kind: reflect.TypeFor[typedDataObject]()}
	tx := func(filled string) parameter {
		return parameter{name: "transaction", about: "a complete transaction with from, chainId, nonce, gas and fees: " + filled,
			kind: reflect.TypeFor[transactionObject]()}
	}
	signature, addresses := reflect.TypeFor[signatureText](), reflect.TypeFor[[]addressText]()
	row := func(name, summary string, params []parameter, result reflect.Type, run func(*Daemon, context.Context, *clientCall) (any, error)) clientMethod {
		return clientMethod{description{name, summary, params, result}, run}
	}
	return []clientMethod{
		row(ipc.MethodAccountVersion, "The version of the methods that start with account_.", nil, text, (*Daemon).accountVersion),
		row(ipc.MethodAccountList, "The accounts that can sign, as eth_accounts.", nil, addresses, (*Daemon).listAddresses),
		row(ipc.MethodAccountSignTransaction, "Signs a transaction by an unlocked account.", []parameter{tx("nothing is filled in but the configured chain, where none is named"), {
			name: "methodSelector", about: "the signature of the called function, such as transfer(address,uint256), which the call data must match",
			kind: text, optional: true}}, reflect.TypeFor[ipc.SignedTransaction](), (*Daemon).accountSignTransaction),
		row(ipc.MethodAccountSignData, "Signs data of a content type by an unlocked account: a message (EIP-191), typed data (EIP-712), data for a validator (EIP-191, version 0x00), or the header of a block to seal (EIP-225).",
			[]parameter{{name: "contentType", about: "text/plain, data/typed, data/validator or application/x-clique-header", kind: text}, account,
				{name: "data", about: "in hexadecimal the message, or the RLP of the header without a signature; typed data, or address and message for a validator, as an object or as its JSON text in hexadecimal", kind: reflect.TypeFor[dataOrObject]()}},
			signature, (*Daemon).accountSignData),
		row(ipc.MethodAccountSignTypedData, "Signs typed data (EIP-712) by an unlocked account.",
			[]parameter{account, typed}, signature, (*Daemon).signTypedDataBy),
		row(ipc.MethodEthAccounts, "The accounts that are unlocked for the caller, and then others of its active wallets.",
			nil, addresses, (*Daemon).listAddresses),
		row(ipc.MethodEthChainID, "The chain id of the configuration.", nil, reflect.TypeFor[quantityText](), (*Daemon).ethChainID),
		row(ipc.MethodEthSign, "Signs a message (EIP-191) by an unlocked account.", []parameter{account, data}, signature, (*Daemon).ethSign),
		row(ipc.MethodEthSignTransaction, "Signs a transaction by an unlocked account. Answers its bytes, or raw and tx where the configuration says so.",
			[]parameter{tx("nothing is filled in")}, reflect.TypeFor[signedResult](), (*Daemon).ethSignTransaction),
		row(ipc.MethodEthSignTypedData, "The same as eth_signTypedData_v4.", []parameter{account, typed}, signature, (*Daemon).signTypedDataBy),
		row(ipc.MethodEthSignTypedDataV4, "Signs typed data (EIP-712) by an unlocked account.",
			[]parameter{account, typed}, signature, (*Daemon).signTypedDataBy),
		row(ipc.MethodPersonalSign, "Signs a message (EIP-191) by an unlocked account.", []parameter{data, account}, signature, (*Daemon).personalSign),
		row(ipc.MethodClientVersion, "The name and version of this program.", nil, text, (*Daemon).clientVersion),
		row(ipc.MethodNetVersion, "The chain id of the configuration, in decimal.", nil, text, (*Daemon).netVersion),
		row(ipc.MethodRPCModules, "The namespaces of the methods and their versions.", nil, reflect.TypeFor[map[string]string](), (*Daemon).rpcModules),
		row(ipc.MethodDiscover, "The OpenRPC document of all methods.", nil, reflect.TypeFor[openRPCDocument](), (*Daemon).discover),
	}
}

// handleClient checks the number of parameters, runs the method and names its
// error for the wire.
func (d *Daemon) handleClient(m clientMethod) ipc.Handler {
	least := 0
	for _, p := range m.params {
		if !p.optional {
			least++
		}
	}
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		peer, ok := ipc.PeerFrom(ctx)
		if !ok {
			return nil, errors.New("request without a peer")
		}
		args, err := ipc.DecodeArgsBetween(raw, least, len(m.params))
		if err != nil {
			return nil, err
		}
		connection, _ := ipc.ConnectionFrom(ctx)
		result, err := m.run(d, ctx, &clientCall{args: args,
			peer: wallet.Peer{UID: peer.UID, GID: peer.GID, PID: peer.PID, Connection: connection}})
		if err != nil {
			d.inspect(err)
			return nil, wireError(err)
		}
		return result, nil
	}
}

func (d *Daemon) accountVersion(context.Context, *clientCall) (any, error) {
	return ipc.AccountAPIVersion, nil
}

func (d *Daemon) clientVersion(context.Context, *clientCall) (any, error) {
	return fmt.Sprintf("sigild/%s/%s-%s/%s", d.options.Version, runtime.GOOS, runtime.GOARCH, runtime.Version()), nil
}

// errNoChain is returned to a caller that asks for a chain which nobody set.
var errNoChain = errors.New("no chain is configured")

func (d *Daemon) ethChainID(context.Context, *clientCall) (any, error) {
	if d.config.Ethereum.ChainID == 0 {
		return nil, errNoChain
	}
	return "0x" + strconv.FormatUint(d.config.Ethereum.ChainID, 16), nil
}

func (d *Daemon) netVersion(context.Context, *clientCall) (any, error) {
	if d.config.Ethereum.ChainID == 0 {
		return nil, errNoChain
	}
	return strconv.FormatUint(d.config.Ethereum.ChainID, 10), nil
}

func (d *Daemon) rpcModules(context.Context, *clientCall) (any, error) {
	return map[string]string{"account": ipc.AccountAPIVersion, "eth": "1.0", "net": "1.0", "personal": "1.0",
		"rpc": "1.0", "sigild": ipc.APIVersion, "web3": "1.0"}, nil
}

func (d *Daemon) discover(context.Context, *clientCall) (any, error) {
	return newOpenRPC(), nil
}
