package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/sigild/sigild/ipc"
)

// openRPCVersion is the version of the OpenRPC specification that the document
// follows.
const openRPCVersion = "1.3.2"

// openRPCDocument is the answer of rpc.discover.
type openRPCDocument struct {
	OpenRPC    string            `json:"openrpc"`
	Info       openRPCInfo       `json:"info"`
	Methods    []openRPCMethod   `json:"methods"`
	Components openRPCComponents `json:"components"`
}

type openRPCInfo struct {
	Title       string `json:"title"`
	Description string `json:"description"`
	// Version is that of the API, not of the program.
	Version string         `json:"version"`
	License openRPCLicense `json:"license"`
}

type openRPCLicense struct {
	Name string `json:"name"`
}

type openRPCMethod struct {
	Name           string              `json:"name"`
	Summary        string              `json:"summary"`
	ParamStructure string              `json:"paramStructure"`
	Params         []openRPCDescriptor `json:"params"`
	Result         openRPCDescriptor   `json:"result"`
}

type openRPCDescriptor struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required,omitempty"`
	Schema      schema `json:"schema"`
}

type openRPCComponents struct {
	Schemas map[string]schema `json:"schemas"`
}

// OpenRPC returns the OpenRPC document of every method that the socket answers,
// indented. It is the same for every installation.
func OpenRPC() ([]byte, error) {
	doc, err := newOpenRPC()
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	return append(text, '\n'), err
}

// newOpenRPC describes what is registered; a method that no table describes,
// and a description without a method, are errors.
func newOpenRPC() (*openRPCDocument, error) {
	described := map[string]description{}
	for _, m := range append(walletMethods(), clientDescriptions()...) {
		described[m.name] = m
	}
	names := slices.Sorted(maps.Keys(new(Daemon).allMethods()))
	if len(names) != len(described) {
		return nil, fmt.Errorf("%d methods are described, %d are registered", len(described), len(names))
	}
	doc := &openRPCDocument{OpenRPC: openRPCVersion, Info: openRPCInfo{Title: "sigild",
		Description: "Wallet keys inside a PKCS#11 token: JSON-RPC 2.0 on a Unix socket.",
		Version:     ipc.APIVersion, License: openRPCLicense{Name: "Apache-2.0"}}}
	schemas := schemaSet{}
	for _, name := range names {
		m, ok := described[name]
		if !ok {
			return nil, fmt.Errorf("the method %s is not described", name)
		}
		doc.Methods = append(doc.Methods, m.openRPC(schemas))
	}
	doc.Components.Schemas = schemas
	return doc, nil
}

// description is what the document says of one method.
type description struct {
	name, summary string
	params        []parameter
	result        reflect.Type
}

func (m description) openRPC(schemas schemaSet) openRPCMethod {
	out := openRPCMethod{Name: m.name, Summary: m.summary, ParamStructure: "by-position", Params: []openRPCDescriptor{},
		Result: openRPCDescriptor{Name: "result", Schema: schemas.of(m.result)}}
	for _, p := range m.params {
		out.Params = append(out.Params, openRPCDescriptor{Name: p.name, Description: p.about,
			Required: !p.optional, Schema: schemas.of(p.kind)})
	}
	return out
}

// describe takes the types from the handler itself, so that they cannot differ.
func describe[P, R any](name, summary string, _ func(*Daemon, context.Context, *call[P]) (R, error)) description {
	return describeAs[P, R](name, summary)
}

// describeAs is describe for a handler that is made by a function.
func describeAs[P, R any](name, summary string) description {
	kind := reflect.TypeFor[P]()
	return description{name, summary, []parameter{{name: "params", about: "one object", kind: kind,
		optional: len(requiredMembers(kind)) == 0}}, reflect.TypeFor[R]()}
}

func clientDescriptions() []description {
	var list []description
	for _, m := range clientMethods() {
		list = append(list, description{m.name, m.summary, m.params, m.result})
	}
	return list
}

// walletMethods describes sigild's own methods.
func walletMethods() []description {
	type payloadParams = ipc.SignPayloadParams
	type payloadResult = *ipc.SignPayloadResult
	return []description{
		describe(ipc.MethodStatus, "The daemon, its devices and their state.", (*Daemon).status),
		describe(ipc.MethodPinKey, "The key that PINs are sealed to, signed by the identity key.", (*Daemon).pinKey),
		describe(ipc.MethodCreateWallet, "Makes a wallet, once for each requestId of an owner.", (*Daemon).createWallet),
		describe(ipc.MethodGetWallet, "One wallet, by id, external id or address.", (*Daemon).getWallet),
		describe(ipc.MethodListWallets, "A page of the caller's wallets, oldest first.", (*Daemon).listWallets),
		describe(ipc.MethodDeriveAccount, "Adds accounts to a wallet.", (*Daemon).deriveAccount),
		describe(ipc.MethodUpdateWallet, "Changes label, external id and tags.", (*Daemon).updateWallet),
		describe(ipc.MethodLabelAccount, "Changes the label of an account.", (*Daemon).labelAccount),
		describe(ipc.MethodFreezeWallet, "Stops a wallet from signing, at once; ends its unlocks.", (*Daemon).freezeWallet),
		describe(ipc.MethodUnfreezeWallet, "Lets a frozen wallet sign again; for operators.", (*Daemon).unfreezeWallet),
		describe(ipc.MethodGiveBackAttempts, "Gives PIN attempts back and ends a wait; for operators.", (*Daemon).giveBackAttempts),
		describe(ipc.MethodFreezeAll, "Freezes every wallet; for operators.", (*Daemon).freezeAll),
		describe(ipc.MethodDeleteWallet, "Deletes a wallet; an operator can restore it until it is purged.", (*Daemon).deleteWallet),
		describe(ipc.MethodRestoreWallet, "Brings a deleted wallet back; for operators.", (*Daemon).restoreWallet),
		describe(ipc.MethodChangePIN, "Seals a wallet under a new PIN.", (*Daemon).changePIN),
		describe(ipc.MethodSetPolicy, "Changes what a wallet may sign.", (*Daemon).setPolicy),
		describe(ipc.MethodUnlock, "Lets the caller sign without the PIN, within terms.", (*Daemon).unlock),
		describe(ipc.MethodLock, "Ends the caller's unlock of a wallet.", (*Daemon).lock),
		describe(ipc.MethodLockAll, "Ends all unlocks of the caller; of everybody, for operators.", (*Daemon).lockAll),
		describe(ipc.MethodSignTransaction, "Signs a transaction.", (*Daemon).signTransaction),
		describe(ipc.MethodSignMessage, "Signs a message (EIP-191).", (*Daemon).signMessage),
		describeAs[payloadParams, payloadResult](ipc.MethodSignTypedData, "Signs typed data (EIP-712)."),
		describeAs[payloadParams, payloadResult](ipc.MethodSignAuthorization, "Signs an authorization (EIP-7702)."),
		describeAs[payloadParams, payloadResult](ipc.MethodSignUserOperation, "Signs a user operation (ERC-4337)."),
		describe(ipc.MethodSignDigest, "Signs 32 bytes, where the wallet's policy allows it.", (*Daemon).signDigest),
		describe(ipc.MethodSignBatch, "Signs several payloads by one PIN, all or none.", (*Daemon).signBatch),
	}
}
