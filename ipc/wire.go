package ipc

import "encoding/json"

// APIVersion is the version of the methods below. Changes within it are
// additive: a client ignores members that it does not know.
const APIVersion = "1"

// Names of the methods.
const (
	MethodStatus          = "sigild_status"
	MethodCreateWallet    = "sigild_createWallet"
	MethodGetWallet       = "sigild_getWallet"
	MethodListWallets     = "sigild_listWallets"
	MethodDeriveAccount   = "sigild_deriveAccount"
	MethodSignTransaction = "sigild_signTransaction"
	MethodSignMessage     = "sigild_signMessage"

	MethodUpdateWallet      = "sigild_updateWallet"
	MethodLabelAccount      = "sigild_labelAccount"
	MethodFreezeWallet      = "sigild_freezeWallet"
	MethodUnfreezeWallet    = "sigild_unfreezeWallet"
	MethodGiveBackAttempts  = "sigild_giveBackAttempts"
	MethodFreezeAll         = "sigild_freezeAll"
	MethodDeleteWallet      = "sigild_deleteWallet"
	MethodRestoreWallet     = "sigild_restoreWallet"
	MethodChangePIN         = "sigild_changePin"
	MethodSetPolicy         = "sigild_setPolicy"
	MethodUnlock            = "sigild_unlock"
	MethodLock              = "sigild_lock"
	MethodLockAll           = "sigild_lockAll"
	MethodSignTypedData     = "sigild_signTypedData"
	MethodSignAuthorization = "sigild_signAuthorization"
	MethodSignUserOperation = "sigild_signUserOperation"
	MethodSignDigest        = "sigild_signDigest"
	MethodSignBatch         = "sigild_signBatch"
	MethodPinKey            = "sigild_pinKey"
	MethodImportWallet      = "sigild_importWallet"
	MethodExportAccount     = "sigild_exportAccount"
)

// In the parameter types a member without omitempty is required by Decode.

// StatusParams are the parameters of sigild_status: none.
type StatusParams struct{}

// StatusResult describes the daemon and the devices that it uses.
type StatusResult struct {
	APIVersion string `json:"apiVersion"`
	Version    string `json:"version"`
	// State is "ready", "degraded" (something is missing, wallets can be used)
	// or "failing" (wallets cannot be used); Reasons say why and what to do.
	State   string         `json:"state"`
	Reasons []StatusReason `json:"reasons,omitempty"`
	// Dev is true when the daemon was built or set up for development only.
	Dev bool `json:"dev"`
	// Installation is the installation id.
	Installation Hex `json:"installation"`
	// IdentityKey is the P-256 key that signs receipts: the uncompressed
	// point, 65 bytes starting with 0x04 (SEC 1, section 2.3.3).
	IdentityKey Hex           `json:"identityKey"`
	Token       TokenStatus   `json:"token"`
	TPM         TPMStatus     `json:"tpm"`
	Entropy     EntropyStatus `json:"entropy"`
	// Wallets is the number of wallets.
	Wallets  int            `json:"wallets"`
	PINCheck PINCheckStatus `json:"pinCheck"`
	// Custody is whether keys may come from elsewhere, and go there.
	Custody CustodyStatus `json:"custody"`
	// Landlock is what the kernel keeps from the daemon's process.
	Landlock LandlockStatus `json:"landlock"`
	// Notes are sentences for the operator.
	Notes []string `json:"notes,omitempty"`
}

// LandlockStatus describes how the daemon's process is confined.
type LandlockStatus struct {
	// ABI is the kernel's version of Landlock; 0: none is in force.
	ABI int `json:"abi"`
	// Restricts lists what is limited to the configuration's needs: "files",
	// "deviceControl" (ioctl), "tcp".
	Restricts []string `json:"restricts"`
}

// StatusReason is one thing that is wrong.
type StatusReason struct {
	// Reason is a stable word; docs/faults.md lists them.
	Reason string `json:"reason"`
	Since  Time   `json:"since"`
	// Detail is what the device or the service said.
	Detail string `json:"detail"`
	// Works says what still works, Action what an operator does.
	Works  string `json:"works"`
	Action string `json:"action"`
}

// TokenStatus describes the PKCS#11 token.
type TokenStatus struct {
	Model        string `json:"model"`
	Manufacturer string `json:"manufacturer"`
	Serial       string `json:"serial,omitempty"`
	Firmware     string `json:"firmware"`
	// Enforcement is "token" when the token itself refuses to give keys out,
	// "daemon" when only the daemon's own checks stand in the way.
	Enforcement string `json:"enforcement"`
	// Custody is "token" or "software-token".
	Custody string `json:"custody"`
	// WrapMechanism is the CK_MECHANISM_TYPE that wraps keys at rest.
	WrapMechanism string `json:"wrapMechanism"`
	// Generation is that of the token keys which new wallets use.
	Generation int `json:"generation"`
}

// TPMStatus describes the TPM.
type TPMStatus struct {
	Manufacturer string `json:"manufacturer"`
	Firmware     string `json:"firmware"`
	// PCRProfile is the name of the profile, PCRs are its registers.
	PCRProfile string `json:"pcrProfile"`
	PCRs       []int  `json:"pcrs"`
}

// EntropyStatus names the sources of randomness.
type EntropyStatus struct {
	Sources []string `json:"sources"`
	// Dropped are sources that the configuration leaves out.
	Dropped []string `json:"dropped,omitempty"`
}

// PINCheckStatus describes what a PIN check costs.
type PINCheckStatus struct {
	// Argon2 are the parameters of new wallets, such as "m=19456,t=2,p=1".
	Argon2 string `json:"argon2"`
	// Anchor is the kind of the TPM counter, "orderly" or "durable".
	Anchor string `json:"anchor,omitempty"`
	// Failures is the number of consecutive wrong PINs that lock a wallet.
	Failures int `json:"failures,omitempty"`
	// PlainPIN is true when this peer may send PINs in the clear.
	PlainPIN bool `json:"plainPin"`
}

// CustodyStatus says what may pass between this installation and others.
type CustodyStatus struct {
	// Import is for sigild_importWallet.
	Import CustodyAbility `json:"import"`
	// Export is for exportable wallets and sigild_exportAccount.
	Export CustodyAbility `json:"export"`
}

// CustodyAbility is one way for keys.
type CustodyAbility struct {
	// Allowed is true when the configuration allows it.
	Allowed bool `json:"allowed"`
	// Able is true when the token did it, with a throw-away key, when its keys were
	// last opened.
	Able bool `json:"able"`
	// Detail is the token's answer when it is not able.
	Detail string `json:"detail,omitempty"`
}

// CreateWalletParams are the parameters of sigild_createWallet.
type CreateWalletParams struct {
	// RequestID makes the call idempotent for this peer and owner.
	RequestID string     `json:"requestId"`
	Owner     string     `json:"owner"`
	PIN       Secret     `json:"pin,omitempty"`
	SealedPIN *SealedPIN `json:"sealedPin,omitempty"`
	Label     string     `json:"label,omitempty"`
	// ExternalID is the relay's own name for the wallet, unique for the relay.
	ExternalID string   `json:"externalId,omitempty"`
	Tags       []string `json:"tags,omitempty"`
	// Policy is what the wallet may sign; absent: transactions, messages and
	// typed data for any chain and recipient.
	Policy *Policy `json:"policy,omitempty"`
	// Exportable makes a wallet whose PIN can give its keys out. It cannot be
	// changed later.
	Exportable bool `json:"exportable,omitempty"`
}

// CreateWalletResult is the wallet, new or as an earlier call made it.
type CreateWalletResult struct {
	Existing bool       `json:"existing"`
	Wallet   WalletInfo `json:"wallet"`
	Receipt  Receipt    `json:"receipt"`
}

// GetWalletParams are the parameters of sigild_getWallet: exactly one of them.
type GetWalletParams struct {
	WalletID   Hex    `json:"walletId,omitempty"`
	Address    string `json:"address,omitempty"`
	ExternalID string `json:"externalId,omitempty"`
}

// ListWalletsParams are the parameters of sigild_listWallets.
type ListWalletsParams struct {
	Owner string `json:"owner,omitempty"`
	Tag   string `json:"tag,omitempty"`
	// State is "active", "frozen", "locked" or "deleted".
	State string `json:"state,omitempty"`
	// From and Until bound the time of creation: at or after, and before.
	From  *Time `json:"from,omitempty"`
	Until *Time `json:"until,omitempty"`
	// Cursor is that of the previous result; it has no other meaning.
	Cursor string `json:"cursor,omitempty"`
	// Limit is the largest number of wallets to return: a page has fewer where they
	// take more than about 1 MiB.
	Limit int `json:"limit,omitempty"`
	// Relay is the uid whose wallets are listed, and AllRelays lists everybody's, in
	// the order of their ids; both for operators.
	Relay     *uint32 `json:"relay,omitempty"`
	AllRelays bool    `json:"allRelays,omitempty"`
}

// ListWalletsResult is one page.
type ListWalletsResult struct {
	Wallets []WalletInfo `json:"wallets"`
	// Cursor is absent on the last page, and only there.
	Cursor string `json:"cursor,omitempty"`
	// Corrupt names wallets whose record was changed outside the daemon.
	Corrupt []Hex `json:"corrupt,omitempty"`
}

// DeriveAccountParams are the parameters of sigild_deriveAccount.
type DeriveAccountParams struct {
	RequestID string `json:"requestId"`
	WalletID  Hex    `json:"walletId"`
	// Count is how many accounts to add, 1 if absent.
	Count     int        `json:"count,omitempty"`
	PIN       Secret     `json:"pin,omitempty"`
	SealedPIN *SealedPIN `json:"sealedPin,omitempty"`
}

// DeriveAccountResult is the accounts, new or as an earlier call made them.
type DeriveAccountResult struct {
	Existing bool `json:"existing"`
	// Account is the first of Accounts.
	Account  AccountInfo   `json:"account"`
	Accounts []AccountInfo `json:"accounts"`
	Receipt  Receipt       `json:"receipt"`
}

// SignTransactionParams are the parameters of sigild_signTransaction, with
// exactly one of WalletID and Address.
type SignTransactionParams struct {
	WalletID Hex    `json:"walletId,omitempty"`
	Address  string `json:"address,omitempty"`
	// Account is the index of the account, 0 if absent.
	Account *uint32 `json:"account,omitempty"`
	// Transaction is the unsigned transaction as an Ethereum JSON-RPC object.
	Transaction json.RawMessage `json:"transaction"`
	PIN         Secret          `json:"pin,omitempty"`
	SealedPIN   *SealedPIN      `json:"sealedPin,omitempty"`
}

// SignTransactionResult is a signed transaction.
type SignTransactionResult struct {
	// Raw is the transaction's network encoding, Hash its 32-byte hash.
	Raw  Hex `json:"raw"`
	Hash Hex `json:"hash"`
	// Transaction is the signed transaction as an Ethereum JSON-RPC object.
	Transaction json.RawMessage `json:"transaction"`
	// Signature is r ‖ s ‖ y parity, 32 + 32 + 1 bytes.
	Signature    Hex `json:"signature"`
	AttemptsLeft int `json:"attemptsLeft"`
}

// SignMessageParams are the parameters of sigild_signMessage, with exactly one
// of WalletID and Address.
type SignMessageParams struct {
	WalletID Hex    `json:"walletId,omitempty"`
	Address  string `json:"address,omitempty"`
	// Account is the index of the account, 0 if absent.
	Account *uint32 `json:"account,omitempty"`
	// Message is what the user is shown, before the EIP-191 prefix.
	Message   Hex        `json:"message"`
	PIN       Secret     `json:"pin,omitempty"`
	SealedPIN *SealedPIN `json:"sealedPin,omitempty"`
}

// SignMessageResult is a signature by EIP-191, version 0x45.
type SignMessageResult struct {
	// Signature is r ‖ s ‖ v, 32 + 32 + 1 bytes, v 27 or 28.
	Signature Hex `json:"signature"`
	// Digest is the 32 bytes that were signed.
	Digest       Hex `json:"digest"`
	AttemptsLeft int `json:"attemptsLeft"`
}

// WalletInfo describes a wallet.
type WalletInfo struct {
	// WalletID is 16 bytes.
	WalletID  Hex           `json:"walletId"`
	Owner     string        `json:"owner"`
	Label     string        `json:"label,omitempty"`
	CreatedAt Time          `json:"createdAt"`
	Accounts  []AccountInfo `json:"accounts"`
	// Custody is that of account 0, the weakest of the wallet: accounts that an
	// imported wallet derives have their own.
	Custody    string `json:"custody"`
	Exportable bool   `json:"exportable"`
	// ExportedAt is when a key of the wallet was last given out; each account has
	// its own.
	ExportedAt *Time `json:"exportedAt,omitempty"`
	// Provenance is of the randomness that shapes every key but an imported one.
	Provenance []ProvenanceRecord `json:"provenance"`
	// Dropped are sources of randomness that the configuration left out.
	Dropped []string `json:"dropped,omitempty"`
	// State is "active", or says why the wallet does not sign: "frozen",
	// "locked" or "deleted".
	State      string   `json:"state"`
	ExternalID string   `json:"externalId,omitempty"`
	Tags       []string `json:"tags,omitempty"`
	Policy     *Policy  `json:"policy,omitempty"`
	// FrozenAt, FrozenBy and DeletedAt explain the state.
	FrozenAt  *Time  `json:"frozenAt,omitempty"`
	FrozenBy  string `json:"frozenBy,omitempty"`
	DeletedAt *Time  `json:"deletedAt,omitempty"`
	// PINSetAt is when the PIN was last changed.
	PINSetAt     *Time `json:"pinSetAt,omitempty"`
	AttemptsLeft int   `json:"attemptsLeft"`
	// Relay is the uid that made the wallet, in an operator's list.
	Relay *uint32 `json:"relay,omitempty"`
}

// AccountInfo describes one account of a wallet.
type AccountInfo struct {
	Index uint32 `json:"index"`
	// Curve is "secp256k1" or "ed25519".
	Curve string `json:"curve"`
	// PublicKey is the uncompressed point, 65 bytes, for secp256k1.
	PublicKey Hex `json:"publicKey"`
	// Address is spelled as EIP-55 says, for secp256k1.
	Address string `json:"address"`
	// Custody says where the private key can be in the clear: "token",
	// "software-token", or "import" for one that came from elsewhere.
	Custody string `json:"custody"`
	Label   string `json:"label,omitempty"`
	// ExportedAt is when the private key was last given out: since then it exists
	// elsewhere.
	ExportedAt *Time `json:"exportedAt,omitempty"`
}

// ProvenanceRecord says where a share of a wallet's randomness came from,
// never the bytes.
type ProvenanceRecord struct {
	Source string `json:"source"`
	// Count is the number of bytes.
	Count        int    `json:"count"`
	RequestID    string `json:"requestId,omitempty"`
	Region       string `json:"region,omitempty"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
	Version      string `json:"version,omitempty"`
	Time         Time   `json:"time"`
}

// Receipt is a statement that the installation's identity key signed.
type Receipt struct {
	// Statement is the exact text that was signed.
	Statement string `json:"statement"`
	Signature Hex    `json:"signature"`
	Key       Hex    `json:"key"`
}
