package wallet

import (
	"context"
	"errors"
)

// Imported is a private key that is brought in as account 0 of a new wallet.
type Imported struct {
	Key []byte // 32 bytes, big endian, 1 to n-1; the caller wipes it
	// Address must be the key's. The request's digest covers it, and so what is
	// brought in.
	Address [20]byte
}

// admitsImport refuses a key before it reaches the token. The store looks at the
// address once more, in the transaction that writes the wallet.
func (s *Service) admitsImport(ctx context.Context, r *CreateRequest, key RequestKey) error {
	if err := checkKey(r.Import.Key); err != nil {
		return err
	}
	_, err := s.Store.ByAddress(ctx, r.Peer.UID, r.Import.Address)
	switch {
	case err == nil:
		return s.takenBy(ctx, r, key)
	case errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

// takenBy tells an address that this very request took, when it was sent twice at
// once, from one that another wallet has.
func (s *Service) takenBy(ctx context.Context, r *CreateRequest, key RequestKey) error {
	switch d, err := s.repeated(ctx, key, r.Digest); {
	case err != nil:
		return err
	case d != nil:
		return ErrRequestReused
	}
	return ErrAddressTaken
}

// importRoot has the token take the key, and compares the point that it then
// signs by with the address.
func (s *Service) importRoot(ctx context.Context, held *objects, i *Imported) (*account, error) {
	root, point, err := s.Token.ImportRoot(ctx, (*[32]byte)(i.Key))
	if _, err := held.add(root, err); err != nil {
		return nil, err
	}
	if address(point) != i.Address {
		return nil, ErrAddress
	}
	return &account{root: root, point: point, imported: true}, nil
}
