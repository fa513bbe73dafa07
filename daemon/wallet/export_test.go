package wallet

import (
	"context"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// EachActiveBy is EachActive with pages of another size.
func (s *Service) EachActiveBy(ctx context.Context, peer Peer, scanned int, visit func(*Info) bool) error {
	return s.eachActive(ctx, peer, scanned, visit)
}

// RequestKey is requestKey, for the vectors.
func (s *Service) RequestKey(ctx context.Context, relay uint32, texts ...string) (RequestKey, error) {
	return s.requestKey(ctx, relay, texts...)
}

// Done gives the bytes that are stored for a request.
func (s *Service) Done(ctx context.Context, key RequestKey, digest [32]byte, wallet seal.ID, account uint32, at int64) ([]byte, error) {
	r, err := s.request(ctx, key, &done{Digest: digest, Wallet: wallet, Account: account, Time: at})
	if err != nil {
		return nil, err
	}
	return r.Value, nil
}

// ListAllBy is ListAll with pages of another size.
func (s *Service) ListAllBy(ctx context.Context, a Actor, p Page, state Status, scanned int) (*Listing, error) {
	return s.listAll(ctx, a, p, state, scanned)
}

// FreezeAllBy is FreezeAll by another number of wallets at a time.
func (s *Service) FreezeAllBy(ctx context.Context, a Actor, after *seal.ID, budget time.Duration, atATime int) (*FreezeProgress, error) {
	return s.freezeAll(ctx, a, after, budget, atATime)
}
