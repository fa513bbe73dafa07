package ipc

import "encoding/json"

// Any lifts a rule of a Policy or of Terms: as the only entry of a list, or as
// the text of a limit.
const Any = "any"

// Policy is what a wallet, or an unlock, may sign. What is left out is not
// allowed: an absent list has no entries, an absent limit is 0.
type Policy struct {
	// Operations are "transaction", "message", "typedData", "authorization",
	// "userOperation", "validatorData", "cliqueHeader" and "rawDigest".
	Operations []string `json:"operations"`
	// Chains are CAIP-2 names such as "eip155:1", or ["any"].
	Chains []string `json:"chains,omitempty"`
	// Recipients are addresses, or ["any"].
	Recipients []string `json:"recipients,omitempty"`
	// Selectors are the first 4 bytes of call data such as "0xa9059cbb", or ["any"].
	Selectors []string `json:"selectors,omitempty"`
	// MaxValue and MaxCost are for one transaction, in wei as a hexadecimal
	// quantity, or "any".
	MaxValue         string `json:"maxValue,omitempty"`
	MaxCost          string `json:"maxCost,omitempty"`
	ContractCreation bool   `json:"contractCreation,omitempty"`
}

// UpdateWalletParams are the parameters of sigild_updateWallet. What is absent
// stays as it is; an empty text or list removes.
type UpdateWalletParams struct {
	WalletID   Hex       `json:"walletId"`
	Label      *string   `json:"label,omitempty"`
	ExternalID *string   `json:"externalId,omitempty"`
	Tags       *[]string `json:"tags,omitempty"`
}

// LabelAccountParams are the parameters of sigild_labelAccount.
type LabelAccountParams struct {
	WalletID Hex    `json:"walletId"`
	Account  uint32 `json:"account"`
	Label    string `json:"label"`
}

// UnfreezeParams are the parameters of sigild_unfreezeWallet.
type UnfreezeParams struct {
	WalletID Hex `json:"walletId"`
	// FrozenBy leaves a wallet that somebody else froze as it is: "freezeAll" takes
	// back what sigild_freezeAll did.
	FrozenBy string `json:"frozenBy,omitempty"`
}

// WalletParams name a wallet: the parameters of sigild_freezeWallet,
// sigild_restoreWallet and sigild_lock.
type WalletParams struct {
	WalletID Hex `json:"walletId"`
}

// GiveBackParams are the parameters of sigild_giveBackAttempts.
type GiveBackParams struct {
	WalletID Hex `json:"walletId"`
	// Attempts is how many are given back, 1 to 10.
	Attempts uint32 `json:"attempts"`
}

// NoParams are the parameters of sigild_lockAll.
type NoParams struct{}

// FreezeAllParams are the parameters of sigild_freezeAll.
type FreezeAllParams struct {
	// Cursor is that of the previous result; absent in the first call.
	Cursor string `json:"cursor,omitempty"`
}

// FreezeAllResult says how far one call came.
type FreezeAllResult struct {
	// Wallets is how many wallets the call froze; others were frozen before.
	Wallets int `json:"wallets"`
	// Corrupt is how many could not be frozen because their record was changed
	// outside the daemon; such a wallet does not sign.
	Corrupt int `json:"corrupt,omitempty"`
	// Cursor is where to go on; absent once all wallets are frozen.
	Cursor string `json:"cursor,omitempty"`
}

// CountResult says how many wallets a call changed.
type CountResult struct {
	Wallets int `json:"wallets"`
}

// DeleteWalletParams are the parameters of sigild_deleteWallet. An operator
// needs no PIN.
type DeleteWalletParams struct {
	RequestID string     `json:"requestId"`
	WalletID  Hex        `json:"walletId"`
	PIN       Secret     `json:"pin,omitempty"`
	SealedPIN *SealedPIN `json:"sealedPin,omitempty"`
}

// ChangedWalletResult is a wallet that a request with a receipt changed.
type ChangedWalletResult struct {
	Existing bool       `json:"existing"`
	Wallet   WalletInfo `json:"wallet"`
	Receipt  Receipt    `json:"receipt"`
}

// ChangePINParams are the parameters of sigild_changePin.
type ChangePINParams struct {
	RequestID string     `json:"requestId"`
	WalletID  Hex        `json:"walletId"`
	PIN       Secret     `json:"pin,omitempty"`
	SealedPIN *SealedPIN `json:"sealedPin,omitempty"`
	NewPIN    Secret     `json:"newPin,omitempty"`
}

// SetPolicyParams are the parameters of sigild_setPolicy.
type SetPolicyParams struct {
	RequestID string     `json:"requestId"`
	WalletID  Hex        `json:"walletId"`
	Policy    Policy     `json:"policy"`
	PIN       Secret     `json:"pin,omitempty"`
	SealedPIN *SealedPIN `json:"sealedPin,omitempty"`
}

// Terms are what an unlock is good for; each is explicit.
type Terms struct {
	// Signatures is how many may be made.
	Signatures int `json:"signatures"`
	// Seconds is how long the unlock lasts at most.
	Seconds int `json:"seconds"`
	// Accounts that may sign; absent: account 0.
	Accounts []uint32 `json:"accounts,omitempty"`
	// Policy is what they may sign, besides the wallet's own policy.
	Policy Policy `json:"policy"`
	// TotalValue bounds the value of all transactions together, in wei as a
	// hexadecimal quantity, or "any".
	TotalValue string `json:"totalValue"`
}

// UnlockParams are the parameters of sigild_unlock.
type UnlockParams struct {
	WalletID  Hex        `json:"walletId"`
	PIN       Secret     `json:"pin,omitempty"`
	SealedPIN *SealedPIN `json:"sealedPin,omitempty"`
	Terms     Terms      `json:"terms"`
	// Bind is "connection" (the default: the unlock ends with this connection)
	// or "uid" (every connection of this user may sign).
	Bind string `json:"bind,omitempty"`
}

// UnlockResult says what was unlocked.
type UnlockResult struct {
	Signatures   int  `json:"signatures"`
	Until        Time `json:"until"`
	AttemptsLeft int  `json:"attemptsLeft"`
	// Failures is how many wrong PINs came since the last right one.
	Failures int `json:"failures"`
}

// LockResult says whether the wallet had been unlocked.
type LockResult struct {
	Locked bool `json:"locked"`
}

// SignPayloadParams are the parameters of sigild_signTypedData,
// sigild_signAuthorization and sigild_signUserOperation, with exactly one of
// WalletID and Address.
type SignPayloadParams struct {
	WalletID Hex    `json:"walletId,omitempty"`
	Address  string `json:"address,omitempty"`
	// Account is the index of the account, 0 if absent.
	Account *uint32 `json:"account,omitempty"`
	// Payload is the typed data (EIP-712), the authorization (EIP-7702) or the
	// user operation (ERC-4337).
	Payload   json.RawMessage `json:"payload"`
	PIN       Secret          `json:"pin,omitempty"`
	SealedPIN *SealedPIN      `json:"sealedPin,omitempty"`
}

// SignPayloadResult is a signature over a payload.
type SignPayloadResult struct {
	// Signature is r ‖ s ‖ v, 32 + 32 + 1 bytes, v 27 or 28.
	Signature Hex `json:"signature"`
	// Digest is the 32 bytes that were signed.
	Digest Hex `json:"digest"`
	// Signed is the signed authorization, for sigild_signAuthorization.
	Signed       json.RawMessage `json:"signed,omitempty"`
	AttemptsLeft int             `json:"attemptsLeft"`
}

// SignDigestParams are the parameters of sigild_signDigest, which a wallet's
// policy must allow by "rawDigest".
type SignDigestParams struct {
	WalletID Hex    `json:"walletId,omitempty"`
	Address  string `json:"address,omitempty"`
	// Account is the index of the account, 0 if absent.
	Account *uint32 `json:"account,omitempty"`
	// Digest is 32 bytes.
	Digest    Hex        `json:"digest"`
	PIN       Secret     `json:"pin,omitempty"`
	SealedPIN *SealedPIN `json:"sealedPin,omitempty"`
}

// SignBatchParams are the parameters of sigild_signBatch: one PIN for all items.
type SignBatchParams struct {
	WalletID  Hex         `json:"walletId"`
	Items     []BatchItem `json:"items"`
	PIN       Secret      `json:"pin,omitempty"`
	SealedPIN *SealedPIN  `json:"sealedPin,omitempty"`
}

// BatchItem is one of transaction, message, typedData, authorization and
// userOperation.
type BatchItem struct {
	Account       uint32          `json:"account,omitempty"`
	Transaction   json.RawMessage `json:"transaction,omitempty"`
	Message       *Hex            `json:"message,omitempty"`
	TypedData     json.RawMessage `json:"typedData,omitempty"`
	Authorization json.RawMessage `json:"authorization,omitempty"`
	UserOperation json.RawMessage `json:"userOperation,omitempty"`
}

// SignBatchResult holds one signature an item, in their order.
type SignBatchResult struct {
	Signatures   []BatchSignature `json:"signatures"`
	AttemptsLeft int              `json:"attemptsLeft"`
}

// BatchSignature is the signature of one item; Raw, Hash and Transaction are
// those of a transaction, Signed that of an authorization.
type BatchSignature struct {
	Signature   Hex             `json:"signature"`
	Digest      Hex             `json:"digest"`
	Raw         Hex             `json:"raw,omitempty"`
	Hash        Hex             `json:"hash,omitempty"`
	Transaction json.RawMessage `json:"transaction,omitempty"`
	Signed      json.RawMessage `json:"signed,omitempty"`
}
