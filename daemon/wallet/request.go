package wallet

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/sigild/sigild/daemon/seal"
)

const (
	requestLabel = "sigild/request-key/v1"
	doneLabel    = "sigild/done/v1"
	doneSize     = 32 + 16 + 4 + 8
)

// done is a request that was carried out. Stored as digest (32 bytes) ‖ wallet
// (16) ‖ account (4, big endian) ‖ Unix seconds (8, big endian) ‖ HMAC-SHA256
// (32) by the token's record key over doneLabel ‖ request key ‖ those 60 bytes.
type done struct {
	Digest  [32]byte // of the parameters without the PIN
	Wallet  seal.ID
	Account uint32
	Time    int64
}

// requestKey is HMAC-SHA256 by the token's record key over requestLabel ‖ relay
// uid ‖ each text after its length, lengths and uid as 4 bytes, big endian. The
// key's first bytes are the request's place in the guard's hash tree: a relay,
// which chooses the texts, must not be able to put all its requests into one leaf.
func (s *Service) requestKey(ctx context.Context, relay uint32, texts ...string) (RequestKey, error) {
	sum, err := s.Token.RecordMAC(ctx, requestMessage(relay, texts...))
	if err != nil {
		return RequestKey{}, fmt.Errorf("key of the request: %w", err)
	}
	return sum, nil
}

func requestMessage(relay uint32, texts ...string) []byte {
	b := binary.BigEndian.AppendUint32([]byte(requestLabel), relay)
	for _, t := range texts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(t)))
		b = append(b, t...)
	}
	return b
}

func (d *done) bytes() []byte {
	b := append(d.Digest[:], d.Wallet[:]...)
	b = binary.BigEndian.AppendUint32(b, d.Account)
	return binary.BigEndian.AppendUint64(b, uint64(d.Time))
}

func doneMessage(key RequestKey, body []byte) []byte {
	return append(append([]byte(doneLabel), key[:]...), body...)
}

// request encodes a request to be stored with what it changes.
func (s *Service) request(ctx context.Context, key RequestKey, d *done) (*Request, error) {
	body := d.bytes()
	sum, err := s.Token.RecordMAC(ctx, doneMessage(key, body))
	if err != nil {
		return nil, fmt.Errorf("MAC of the request: %w", err)
	}
	return &Request{Key: key, Value: append(body, sum[:]...)}, nil
}

// repeated looks a request up: nil when it is new, ErrRequestReused when its
// id came before with other parameters.
func (s *Service) repeated(ctx context.Context, key RequestKey, digest [32]byte) (*done, error) {
	data, err := s.Store.Request(ctx, key)
	if err != nil || data == nil {
		return nil, err
	}
	d, err := s.decodeDone(ctx, key, data)
	if err != nil {
		return nil, err
	}
	if d.Digest != digest {
		return nil, ErrRequestReused
	}
	return d, nil
}

func (s *Service) decodeDone(ctx context.Context, key RequestKey, data []byte) (*done, error) {
	if len(data) != doneSize+sha256.Size {
		return nil, seal.ErrCorrupt
	}
	body, sum := data[:doneSize], data[doneSize:]
	want, err := s.Token.RecordMAC(ctx, doneMessage(key, body))
	if err != nil {
		return nil, fmt.Errorf("MAC of the request: %w", err)
	}
	if !hmac.Equal(want[:], sum) {
		return nil, seal.ErrCorrupt
	}
	d := &done{
		Digest: [32]byte(body[:32]), Wallet: seal.ID(body[32:48]),
		Account: binary.BigEndian.Uint32(body[48:52]), Time: int64(binary.BigEndian.Uint64(body[52:60])),
	}
	return d, nil
}
