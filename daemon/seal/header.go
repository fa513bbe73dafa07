package seal

import (
	"bytes"
	"fmt"
)

// Format is the version of the record's layout that this program writes.
const Format = 1

// Curve names a signature scheme in a header. The words are stored.
type Curve string

// Secp256k1 is ECDSA over secp256k1 (SEC 2), for Ethereum and its relatives.
const Secp256k1 Curve = "secp256k1"

// Custody says where an account's private key can be in the clear.
type Custody string

const (
	// CustodyToken: only inside a token with a boundary of its own.
	CustodyToken Custody = "token"
	// CustodySoftwareToken: inside a software token, which lives in the
	// daemon's process.
	CustodySoftwareToken Custody = "software-token"
	// CustodyImport: the key came from elsewhere, where it may still be, and
	// passed through the daemon's memory once; now it is in the token as others
	// are. Its root is the key itself: the tweak is 1.
	CustodyImport Custody = "import"
)

// Header is the part of a record that is readable without the PIN and cannot
// change without it: its encoded bytes are the associated data of the box.
type Header struct {
	Format       uint8     `cbor:"1,keyasint"`
	Wallet       ID        `cbor:"2,keyasint"`
	Installation ID        `cbor:"3,keyasint"`
	Created      int64     `cbor:"4,keyasint"` // Unix seconds
	Keys         KeyIDs    `cbor:"5,keyasint"`
	Mechanism    uint64    `cbor:"6,keyasint"` // CKM_ that wrapped the keys in the box
	KDF          Argon2    `cbor:"7,keyasint"`
	Accounts     []Account `cbor:"8,keyasint"` // by index, from 0, without gaps
	Relay        uint32    `cbor:"9,keyasint"` // uid that created the wallet
	Owner        string    `cbor:"10,keyasint"`
	Policy       []byte    `cbor:"11,keyasint"` // daemon/policy's encoding
	Exportable   bool      `cbor:"12,keyasint"` // wrapped by the export keys; the PIN gives the keys out
	Limits       Limits    `cbor:"13,keyasint"`
	Sources      []Source  `cbor:"14,keyasint"` // what went into the seed
	Dropped      []string  `cbor:"15,keyasint"` // sources that the configuration left out
}

// KeyIDs name the long-lived keys that a record needs to be opened.
type KeyIDs struct {
	Token uint32 `cbor:"1,keyasint"` // generation of the wrap and pin keys
	Host  uint32 `cbor:"2,keyasint"` // number of the TPM host key's value
}

// Limits are the wallet's PIN attempts (see package guard).
type Limits struct {
	Consecutive uint32 `cbor:"1,keyasint"` // failures in a row until locked
	Window      uint32 `cbor:"2,keyasint"` // failures within WindowDays
	WindowDays  uint32 `cbor:"3,keyasint"`
	Lifetime    uint32 `cbor:"4,keyasint"` // failures ever
}

// DefaultLimits are 10 in a row, 30 in 30 days and 1,000 in a wallet's life.
func DefaultLimits() Limits {
	return Limits{Consecutive: 10, Window: 30, WindowDays: 30, Lifetime: 1000}
}

// Account is one key of a wallet. Its private key is tweak·root, exists
// nowhere, and is used as two halves: the root in the token, the tweak derived
// from the wallet's derivation key at each use. The one exception is account 0
// of an imported wallet, whose root is the whole key.
type Account struct {
	Index   uint32  `cbor:"1,keyasint"`
	Curve   Curve   `cbor:"2,keyasint"`
	Public  []byte  `cbor:"3,keyasint"` // 33 bytes, compressed (SEC 1)
	Root    []byte  `cbor:"4,keyasint"` // 33 bytes: public half of the root pair
	Address []byte  `cbor:"5,keyasint"` // 20 bytes, Ethereum
	Custody Custody `cbor:"6,keyasint"`
	Created int64   `cbor:"7,keyasint"` // Unix seconds
}

// Source is the provenance of one answer in a wallet's seed; never its bytes.
type Source struct {
	Name         string `cbor:"1,keyasint"`
	Count        uint32 `cbor:"2,keyasint"` // bytes taken
	RequestID    string `cbor:"3,keyasint,omitempty"`
	Region       string `cbor:"4,keyasint,omitempty"`
	Manufacturer string `cbor:"5,keyasint,omitempty"`
	Model        string `cbor:"6,keyasint,omitempty"`
	Version      string `cbor:"7,keyasint,omitempty"`
	Time         int64  `cbor:"8,keyasint"` // Unix seconds
}

// DecodeHeader parses the header bytes of a record and checks what every
// reader relies on. It returns ErrFormat.
func DecodeHeader(data []byte) (*Header, error) {
	var h Header
	if err := decode(data, &h); err != nil {
		return nil, err
	}
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	return &h, nil
}

// Encode gives the header's only encoding.
func (h *Header) Encode() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	return encode(h)
}

func (h *Header) check() error {
	if h.Format != Format {
		return fmt.Errorf("record format %d is not known", h.Format)
	}
	if err := h.KDF.Check(); err != nil {
		return err
	}
	if len(h.KDF.Salt) != saltSize {
		return fmt.Errorf("salt has %d bytes", len(h.KDF.Salt))
	}
	if len(h.Accounts) == 0 {
		return fmt.Errorf("no account")
	}
	for i, a := range h.Accounts {
		if err := a.check(i); err != nil {
			return fmt.Errorf("account %d: %w", i, err)
		}
	}
	return nil
}

func (a Account) check(index int) error {
	switch {
	case int(a.Index) != index:
		return fmt.Errorf("has index %d", a.Index)
	case a.Curve != Secp256k1:
		return fmt.Errorf("curve %q is not known", a.Curve)
	case len(a.Public) != 33 || len(a.Root) != 33 || len(a.Address) != 20:
		return fmt.Errorf("key or address of a wrong size")
	}
	return a.checkCustody()
}

// checkCustody: only the first account can be one that was brought in, and its
// public key is that of its root.
func (a Account) checkCustody() error {
	switch a.Custody {
	case CustodyToken, CustodySoftwareToken:
		return nil
	case CustodyImport:
		if a.Index == 0 && bytes.Equal(a.Public, a.Root) {
			return nil
		}
		return fmt.Errorf("custody %q does not fit this account", a.Custody)
	}
	return fmt.Errorf("custody %q is not known", a.Custody)
}
