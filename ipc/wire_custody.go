package ipc

// In the parameter types of this file the PIN and the key are no members: they
// travel in SealedPIN only. The client seals the fields that have the tag
// "sealed".

// ImportWalletParams are the parameters of sigild_importWallet.
type ImportWalletParams struct {
	// RequestID makes the call idempotent for this peer and owner.
	RequestID string `json:"requestId"`
	Owner     string `json:"owner"`
	// Address must be the one of the key.
	Address string `json:"address"`
	// PIN is that of the new wallet.
	PIN Secret `json:"-" sealed:"pin"`
	// Key is the private key, 32 bytes, big endian.
	Key Secret `json:"-" sealed:"key"`
	// SealedPIN carries the PIN and the private key. It is required.
	SealedPIN *SealedPIN `json:"sealedPin,omitempty"`
	Label     string     `json:"label,omitempty"`
	// ExternalID is the relay's own name for the wallet, unique for the relay.
	ExternalID string   `json:"externalId,omitempty"`
	Tags       []string `json:"tags,omitempty"`
	// Policy is as in sigild_createWallet.
	Policy *Policy `json:"policy,omitempty"`
	// Exportable is as in sigild_createWallet.
	Exportable bool `json:"exportable,omitempty"`
}

// ExportAccountParams are the parameters of sigild_exportAccount, with exactly
// one of WalletID and Address.
type ExportAccountParams struct {
	WalletID Hex    `json:"walletId,omitempty"`
	Address  string `json:"address,omitempty"`
	// Account is the index of the account, 0 if absent.
	Account *uint32 `json:"account,omitempty"`
	// Recipient is the public key, 1216 bytes (MLKEM768-X25519), that the private
	// key is sealed to.
	Recipient Hex    `json:"recipient"`
	PIN       Secret `json:"-" sealed:"pin"`
	// SealedPIN carries the PIN. It is required.
	SealedPIN *SealedPIN `json:"sealedPin,omitempty"`
}

// ExportAccountResult is a private key, sealed to the recipient of the request.
type ExportAccountResult struct {
	WalletID Hex       `json:"walletId"`
	Account  uint32    `json:"account"`
	Address  string    `json:"address"`
	Key      SealedKey `json:"sealedKey"`
	// AttemptsLeft is the number of wrong PINs that the wallet still bears.
	AttemptsLeft int `json:"attemptsLeft"`
}

// SealedKey is a private key as it travels; package channel has the protocol.
type SealedKey struct {
	// Enc is the HPKE encapsulation, 1120 bytes.
	Enc Hex `json:"enc"`
	// Ciphertext is the sealed private key, 48 bytes.
	Ciphertext Hex `json:"ciphertext"`
}
