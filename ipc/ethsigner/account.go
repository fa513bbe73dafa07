package ethsigner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/accounts"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"

	"github.com/sigild/sigild/ipc"
)

// Errors by which sigild refuses; errors.Is asks for the reason.
var (
	// ErrUnlockRequired is returned when no PIN was given and the account is
	// not unlocked.
	ErrUnlockRequired error = &ipc.Error{Reason: "unlockRequired", Message: "the account is not unlocked"}
	// ErrRelock is returned once when the token lost the unlocked keys.
	ErrRelock error = &ipc.Error{Reason: "relock", Message: "unlock the account again"}
	// ErrTerms is returned when the unlock's terms do not allow the payload.
	ErrTerms error = &ipc.Error{Reason: "termsExceeded", Message: "the unlock's terms do not allow this"}
	// ErrPolicy is returned when the wallet's policy does not allow it.
	ErrPolicy error = &ipc.Error{Reason: "policyDenied", Message: "the wallet's policy does not allow this"}
	// ErrNotFound is returned when sigild has no such account for this user.
	ErrNotFound error = &ipc.Error{Reason: "notFound", Message: "no such account"}
)

// Errors of this package.
var (
	// ErrAnswer is returned when an answer is not this account's signature over
	// what was asked for. Nothing of it may be used.
	ErrAnswer = errors.New("ethsigner: the answer is not the signature that was asked for")
	// ErrChain is returned where no chain is named, and for a transaction of
	// another one.
	ErrChain = errors.New("ethsigner: the transaction is not for this chain")
)

// An Account is one account that sigild keeps. It is safe for concurrent use if
// PIN is.
type Account struct {
	client  *ipc.Client
	address common.Address
	// PIN, if not nil, gives the PIN for one signature; it is wiped afterwards.
	// Set it before the first use.
	PIN func(context.Context) (ipc.Secret, error)
}

// New returns the account of an address. Nothing is sent yet.
func New(client *ipc.Client, address common.Address) *Account {
	return &Account{client: client, address: address}
}

// Address is the account's address.
func (a *Account) Address() common.Address { return a.address }

// SignMessage signs a personal message (EIP-191): 65 bytes r ‖ s ‖ v, v 27 or 28.
func (a *Account) SignMessage(ctx context.Context, message []byte) ([]byte, error) {
	if message == nil {
		message = []byte{}
	}
	out, err := ask(ctx, a, func(pin ipc.Secret) (*ipc.SignMessageResult, error) {
		return a.client.SignMessage(ctx, ipc.SignMessageParams{Address: a.address.Hex(), Message: message, PIN: pin})
	})
	if err != nil {
		return nil, err
	}
	return a.checked(accounts.TextHash(message), out.Signature)
}

// SignTypedData signs typed data (EIP-712): 65 bytes r ‖ s ‖ v, v 27 or 28.
func (a *Account) SignTypedData(ctx context.Context, data apitypes.TypedData) ([]byte, error) {
	digest, _, err := apitypes.TypedDataAndHash(data)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(struct {
		Types       apitypes.Types `json:"types"`
		PrimaryType string         `json:"primaryType"`
		Domain      map[string]any `json:"domain"`
		Message     any            `json:"message"`
	}{data.Types, data.PrimaryType, data.Domain.Map(), wireValue(data.Message)})
	if err != nil {
		return nil, err
	}
	out, err := a.signPayload(ctx, a.client.SignTypedData, payload)
	if err != nil {
		return nil, err
	}
	return a.checked(digest, out.Signature)
}

// SignAuthorization signs an EIP-7702 authorization, which lets the code at an
// address act as this account. The wallet's policy must allow it.
func (a *Account) SignAuthorization(ctx context.Context, s types.SetCodeAuthorization) (types.SetCodeAuthorization, error) {
	payload, err := json.Marshal(map[string]any{"chainId": s.ChainID.Hex(), "address": s.Address, "nonce": quantity(s.Nonce)})
	if err != nil {
		return types.SetCodeAuthorization{}, err
	}
	out, err := a.signPayload(ctx, a.client.SignAuthorization, payload)
	if err != nil {
		return types.SetCodeAuthorization{}, err
	}
	var signed types.SetCodeAuthorization
	if err := json.Unmarshal(out.Signed, &signed); err != nil {
		return types.SetCodeAuthorization{}, fmt.Errorf("%w: %v", ErrAnswer, err)
	}
	authority, err := signed.Authority()
	if err != nil || authority != a.address || signed.SigHash() != s.SigHash() {
		return types.SetCodeAuthorization{}, ErrAnswer
	}
	return signed, nil
}

func (a *Account) signPayload(ctx context.Context, method func(context.Context, ipc.SignPayloadParams) (*ipc.SignPayloadResult, error),
	payload json.RawMessage) (*ipc.SignPayloadResult, error) {
	return ask(ctx, a, func(pin ipc.Secret) (*ipc.SignPayloadResult, error) {
		return method(ctx, ipc.SignPayloadParams{Address: a.address.Hex(), Payload: payload, PIN: pin})
	})
}

// ask calls with the PIN, if there is one. Without, an answer that was lost is
// asked for again: a signature can be made twice.
func ask[R any](ctx context.Context, a *Account, call func(ipc.Secret) (*R, error)) (*R, error) {
	if a.PIN == nil {
		out, err := call(nil)
		if errors.Is(err, ipc.ErrConnectionLost) {
			out, err = call(nil)
		}
		return out, err
	}
	pin, err := a.PIN(ctx)
	defer pin.Wipe()
	if err != nil {
		return nil, err
	}
	return call(pin)
}

// checked returns a signature if it is this account's over the digest.
func (a *Account) checked(digest, signature []byte) ([]byte, error) {
	if len(signature) != 65 || (signature[64] != 27 && signature[64] != 28) {
		return nil, ErrAnswer
	}
	plain := bytes.Clone(signature)
	plain[64] -= 27
	key, err := crypto.SigToPub(digest, plain)
	if err != nil || crypto.PubkeyToAddress(*key) != a.address {
		return nil, ErrAnswer
	}
	return signature, nil
}

// wireValue spells the values of typed data as sigild reads them: an integer is
// a string, since a JSON number holds 53 bits.
func wireValue(v any) any {
	switch v := v.(type) {
	case *big.Int:
		return v.String()
	case []byte:
		return hexutil.Bytes(v)
	case apitypes.TypedDataMessage: // another name of map[string]any
		out := make(map[string]any, len(v))
		for name, item := range v {
			out[name] = wireValue(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for n, item := range v {
			out[n] = wireValue(item)
		}
		return out
	}
	return v
}
