package seal

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
)

// ErrCorrupt is returned for a stored record that was changed, belongs to
// another wallet or installation, or was not written by this program. It is
// found before any attempt is charged.
var ErrCorrupt = errors.New("the record was changed outside the daemon")

// Parsed is a record whose MAC was verified.
type Parsed struct {
	Record Record
	Header *Header
	State  *State
	Stored []byte // the bytes that were parsed
}

// Parse verifies stored bytes as the record of wallet: the MAC first, then the
// form. It returns ErrCorrupt, or mac's own error when the token did not answer.
func Parse(ctx context.Context, data []byte, installation, wallet ID, mac MAC) (*Parsed, error) {
	p := Parsed{Stored: data}
	if err := decodeRecord(data, &p.Record); err != nil {
		return nil, err
	}
	sum, err := mac(ctx, p.Record.MACInput())
	if err != nil {
		return nil, fmt.Errorf("MAC of the record: %w", err)
	}
	if !hmac.Equal(sum[:], p.Record.MAC) {
		return nil, ErrCorrupt
	}
	if err := p.decodeParts(); err != nil {
		return nil, err
	}
	if p.Header.Wallet != wallet || p.Header.Installation != installation {
		return nil, fmt.Errorf("%w: it belongs to another wallet or installation", ErrCorrupt)
	}
	return &p, nil
}

func decodeRecord(data []byte, r *Record) error {
	if err := decode(data, r); err != nil {
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	if r.Format != Format || len(r.MAC) != MACSize {
		return fmt.Errorf("%w: format %d", ErrCorrupt, r.Format)
	}
	return nil
}

func (p *Parsed) decodeParts() error {
	header, err := DecodeHeader(p.Record.Header)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	var state State
	if err := decode(p.Record.State, &state); err != nil {
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	p.Header, p.State = header, &state
	return nil
}
