package ipc

// SealedPIN carries a PIN, and a new one or a private key beside it, that the
// user's device sealed to the daemon's key for one request; it stands in place of
// pin and newPin. Package channel has the protocol.
type SealedPIN struct {
	// KeyID is that of sigild_pinKey, 16 bytes.
	KeyID Hex `json:"keyId"`
	// Enc is the HPKE encapsulation, Ciphertext the sealed PINs.
	Enc        Hex `json:"enc"`
	Ciphertext Hex `json:"ciphertext"`
	// Expires is at most 120 seconds ahead.
	Expires Time `json:"expires"`
}

// PinKeyParams are the parameters of sigild_pinKey: none.
type PinKeyParams struct{}

// PinKeyResult is the key to seal PINs to. Only Statement, once its signature
// was verified under the pinned identity key, may be relied on; the other
// members show people what it says.
type PinKeyResult struct {
	KeyID        Hex    `json:"keyId"`
	PublicKey    Hex    `json:"publicKey"`
	Suite        string `json:"suite"`
	NotBefore    Time   `json:"notBefore"`
	NotAfter     Time   `json:"notAfter"`
	Installation Hex    `json:"installation"`
	// Time is the daemon's clock, not signed; Statement has one that is.
	Time Time `json:"time"`
	// Statement is the text that was signed, after "sigild/pin-key/v1\n".
	Statement string `json:"statement"`
	// Signature is ECDSA P-256 with SHA-256, ASN.1 DER.
	Signature Hex `json:"signature"`
}
