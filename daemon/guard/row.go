package guard

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// ErrCorrupt is returned for a row or root that is missing, was changed
// outside the daemon, or belongs to another wallet. No attempt is charged.
var ErrCorrupt = errors.New("the attempt counter is missing or was changed outside the daemon")

// Format is the version of the layouts that this program writes.
const Format = 1

const (
	rowLabel  = "sigild/guard/v1"
	rootLabel = "sigild/guard-root/v1"
)

// MAC computes HMAC-SHA256 by the token's record key.
type MAC func(ctx context.Context, message []byte) ([32]byte, error)

// Row is the attempt counter of one wallet.
type Row struct {
	Wallet      [16]byte `cbor:"1,keyasint"`
	Revision    uint64   `cbor:"2,keyasint"`           // one more at each write
	Consecutive uint32   `cbor:"3,keyasint"`           // charges since the last passed check
	Lifetime    uint32   `cbor:"4,keyasint"`           // charges that never became a passed check
	Recent      []int64  `cbor:"5,keyasint"`           // seconds of the TPM's clock of the latest of those, at most RecentMax
	NotBefore   int64    `cbor:"6,keyasint"`           // seconds of the TPM's clock before which no check is made
	LastPass    int64    `cbor:"7,keyasint"`           // Unix seconds of the last passed check
	Given       uint32   `cbor:"8,keyasint"`           // attempts that an operator gave back
	Accepted    uint64   `cbor:"9,keyasint,omitempty"` // Root.Accepted when the row was written
}

// RecentMax is how many charges a row dates.
const RecentMax = 64

// Root stands over all rows of a database and ties it to its token and TPM.
type Root struct {
	Installation [16]byte `cbor:"1,keyasint"`
	Epoch        uint64   `cbor:"2,keyasint"` // 1 at provisioning
	Step         uint64   `cbor:"3,keyasint"` // version that the anchor counts
	AnchorName   []byte   `cbor:"4,keyasint"` // Counter.Name of the anchor
	AnchorValue  uint64   `cbor:"5,keyasint"`
	Keys         []byte   `cbor:"6,keyasint"` // 32 bytes: digest of the token keys' fingerprints
	Tree         []byte   `cbor:"7,keyasint"` // 32 bytes: root of the hash tree over rows and records; empty without an anchor
	Audit        []byte   `cbor:"8,keyasint"` // 32 bytes: head of the audit log; empty when not bound

	UncleanName  []byte `cbor:"9,keyasint,omitempty"`  // Counter.Name of the unclean counter; empty with a durable anchor
	UncleanValue uint64 `cbor:"10,keyasint,omitempty"` // its value when an operator last acknowledged
	Resets       uint32 `cbor:"11,keyasint,omitempty"` // the TPM's reset count when 5 was last compared with the counter
	Accepted     uint64 `cbor:"12,keyasint,omitempty"` // random name of the latest acceptance of an older copy; 0: there was none
	UncleanDue   uint64 `cbor:"13,keyasint,omitempty"` // value that the unclean counter must have reached
}

// envelope is a stored row or root: [format, body, MAC over label ‖ body].
type envelope struct {
	_      struct{} `cbor:",toarray"`
	Format uint8
	Body   []byte
	MAC    []byte
}

var encoding = must(cbor.CoreDetEncOptions().EncMode())

var decoding = must(cbor.DecOptions{
	DupMapKey:         cbor.DupMapKeyEnforcedAPF,
	IndefLength:       cbor.IndefLengthForbidden,
	TagsMd:            cbor.TagsForbidden,
	ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	MaxNestedLevels:   4,
	MaxArrayElements:  1024,
	MaxMapPairs:       32,
}.DecMode())

func must[T any](mode T, err error) T {
	if err != nil {
		panic("guard: CBOR options: " + err.Error())
	}
	return mode
}

// EncodeRow gives the bytes to store for r.
func EncodeRow(ctx context.Context, r *Row, mac MAC) ([]byte, error) {
	return seal(ctx, rowLabel, r, mac)
}

// DecodeRow verifies stored bytes as the row of wallet. It returns ErrCorrupt,
// or mac's own error when the token did not answer.
func DecodeRow(ctx context.Context, data []byte, wallet [16]byte, mac MAC) (*Row, error) {
	var r Row
	if err := unseal(ctx, rowLabel, data, &r, mac); err != nil {
		return nil, err
	}
	if r.Wallet != wallet || len(r.Recent) > RecentMax {
		return nil, ErrCorrupt
	}
	return &r, nil
}

// EncodeRoot gives the bytes to store for r.
func EncodeRoot(ctx context.Context, r *Root, mac MAC) ([]byte, error) {
	return seal(ctx, rootLabel, r, mac)
}

// DecodeRoot verifies stored bytes as the root of installation.
func DecodeRoot(ctx context.Context, data []byte, installation [16]byte, mac MAC) (*Root, error) {
	var r Root
	if err := unseal(ctx, rootLabel, data, &r, mac); err != nil {
		return nil, err
	}
	if r.Installation != installation {
		return nil, fmt.Errorf("%w: it is another installation's", ErrCorrupt)
	}
	return &r, nil
}

func seal(ctx context.Context, label string, v any, mac MAC) ([]byte, error) {
	body, err := encoding.Marshal(v)
	if err != nil {
		return nil, err
	}
	sum, err := mac(ctx, append([]byte(label), body...))
	if err != nil {
		return nil, fmt.Errorf("MAC of the attempt counter: %w", err)
	}
	return encoding.Marshal(&envelope{Format: Format, Body: body, MAC: sum[:]})
}

func unseal(ctx context.Context, label string, data []byte, v any, mac MAC) error {
	var e envelope
	if err := strict(data, &e); err != nil || e.Format != Format {
		return ErrCorrupt
	}
	sum, err := mac(ctx, append([]byte(label), e.Body...))
	if err != nil {
		return fmt.Errorf("MAC of the attempt counter: %w", err)
	}
	if !hmac.Equal(sum[:], e.MAC) || strict(e.Body, v) != nil {
		return ErrCorrupt
	}
	return nil
}

// strict decodes the one encoding that Marshal would give.
func strict(data []byte, v any) error {
	if err := decoding.Unmarshal(data, v); err != nil {
		return err
	}
	again, err := encoding.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return errors.New("not in canonical form")
	}
	return nil
}
