package daemon

import (
	"context"
	"encoding/json"
	"reflect"

	"github.com/sigild/sigild/ipc"
)

// walletMethod is one row of the table of sigild's own methods: what is
// registered, what rpc.discover answers and what docs/rpc.md shows.
type walletMethod struct {
	description
	handler func(*Daemon) ipc.Handler
}

// own makes a row. The types come from the handler itself, so that the
// description cannot differ from it.
func own[P, R any](name, summary string, run func(*Daemon, context.Context, *call[P]) (R, error)) walletMethod {
	kind := reflect.TypeFor[P]()
	params := []parameter{{name: "params", about: "one object", kind: kind, optional: len(requiredMembers(kind)) == 0}}
	return walletMethod{
		description: description{name: name, summary: summary, params: params, result: reflect.TypeFor[R]()},
		handler: func(d *Daemon) ipc.Handler {
			return handle(d, func(ctx context.Context, c *call[P]) (R, error) { return run(d, ctx, c) })
		},
	}
}

// walletMethods is that table, in the order of docs/rpc.md.
func walletMethods() []walletMethod {
	return []walletMethod{
		own(ipc.MethodStatus, "What the daemon is, which devices it uses, and what it can promise.", (*Daemon).status),
		own(ipc.MethodPinKey, "The key to seal PINs to, signed by the identity key.", (*Daemon).pinKey),

		own(ipc.MethodCreateWallet, "Makes a wallet with one account out of all sources of randomness, once for each requestId of an owner.", (*Daemon).createWallet),
		own(ipc.MethodImportWallet, "Makes a wallet of a private key that exists elsewhere, once for each requestId of an owner.", (*Daemon).importWallet),
		own(ipc.MethodExportAccount, "Gives the private key of an exportable wallet's account out, sealed to a recipient.", (*Daemon).exportAccount),
		own(ipc.MethodGetWallet, "One wallet, by exactly one of its id, the address of one of its accounts, and the relay's own name for it.", (*Daemon).getWallet),
		own(ipc.MethodListWallets, "A page of the caller's wallets, oldest first.", (*Daemon).listWallets),
		own(ipc.MethodUpdateWallet, "Changes what the relay says of a wallet: label, external id, tags.", (*Daemon).updateWallet),
		own(ipc.MethodFreezeWallet, "Stops every use of a wallet at once, and ends its unlocks.", (*Daemon).freezeWallet),
		own(ipc.MethodUnfreezeWallet, "Lets a frozen wallet be used again; for operators.", (*Daemon).unfreezeWallet),
		own(ipc.MethodGiveBackAttempts, "Gives PIN attempts back to a wallet that is locked or waits, and ends the wait; for operators.", (*Daemon).giveBackAttempts),
		own(ipc.MethodFreezeAll, "Freezes the wallets of all relays; for operators.", (*Daemon).freezeAll),
		own(ipc.MethodDeleteWallet, "Puts a tombstone on a wallet; an operator can restore it until it is purged.", (*Daemon).deleteWallet),
		own(ipc.MethodRestoreWallet, "Takes a deleted wallet's tombstone away, before it is purged; for operators.", (*Daemon).restoreWallet),
		own(ipc.MethodSetPolicy, "Gives a wallet another policy, which only its PIN can do; ends its unlocks.", (*Daemon).setPolicy),

		own(ipc.MethodDeriveAccount, "Adds accounts to a wallet.", (*Daemon).deriveAccount),
		own(ipc.MethodLabelAccount, "Changes the label of an account.", (*Daemon).labelAccount),

		own(ipc.MethodChangePIN, "Seals a wallet under a new PIN.", (*Daemon).changePIN),
		own(ipc.MethodUnlock, "Checks the PIN once and lets a wallet sign without it, for as long as the terms say.", (*Daemon).unlock),
		own(ipc.MethodLock, "Ends the caller's unlock of a wallet, also one that is being made, and answers once nothing signs by it. It is no error when there is none.", (*Daemon).lock),
		own(ipc.MethodLockAll, "Ends every unlock of the caller, as sigild_lock does; called by an operator, everybody's.", (*Daemon).lockAll),

		own(ipc.MethodSignTransaction, "Signs a transaction of type 0 to 4.", (*Daemon).signTransaction),
		own(ipc.MethodSignMessage, "Signs a message (EIP-191, version 0x45).", (*Daemon).signMessage),
		own(ipc.MethodSignTypedData, "Signs typed data (EIP-712).", signPayload(typedDataPayload)),
		own(ipc.MethodSignAuthorization, "Signs an authorization (EIP-7702).", signPayload(authorizationPayload)),
		own(ipc.MethodSignUserOperation, "Signs a user operation (ERC-4337).", signPayload(userOperationPayload)),
		own(ipc.MethodSignDigest, "Signs 32 bytes, where the wallet's policy allows it.", (*Daemon).signDigest),
		own(ipc.MethodSignBatch, "Signs several payloads by one PIN, all or none.", (*Daemon).signBatch),
	}
}

// methods are all that the socket answers.
func (d *Daemon) methods() map[string]ipc.Handler {
	all := map[string]ipc.Handler{}
	for _, m := range walletMethods() {
		h := m.handler(d)
		all[m.name] = func(ctx context.Context, raw json.RawMessage) (any, error) {
			return h(context.WithValue(ctx, methodKey{}, m.name), raw)
		}
	}
	for _, m := range clientMethods() {
		all[m.name] = d.handleClient(m)
	}
	return all
}

// methodKey is where the context of a request has its method's name.
type methodKey struct{}
