package wallet

import "context"

// EachActiveBy is EachActive with pages of another size.
func (s *Service) EachActiveBy(ctx context.Context, peer Peer, scanned int, visit func(*Info) bool) error {
	return s.eachActive(ctx, peer, scanned, visit)
}
