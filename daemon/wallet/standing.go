package wallet

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/sigild/sigild/daemon/seal"
)

// changes counts, for every wallet, what took rights away: freezes, deletions, new
// PINs and new policies. Wallets share counts, so that there are never more of them:
// ids are random, and who shares one at the wrong moment only asks again.
type changes [1 << 12]atomic.Uint64

func (c *changes) of(wallet seal.ID) *atomic.Uint64 {
	return &c[int(binary.BigEndian.Uint16(wallet[:]))%len(c)]
}

// Standing is the state of a wallet in which a signature was made, or a key taken
// out: what is kept of it may be given away again only as long as that stands.
type Standing struct {
	service *Service
	wallet  seal.ID
	count   uint64
	export  bool // it is a key
}

// standing is that of now. The caller holds the wallet's turn, in which every such
// change is counted, so that none can come between what is made and this.
func (s *Service) standing(wallet seal.ID) *Standing {
	return &Standing{service: s, wallet: wallet, count: s.changes.of(wallet).Load()}
}

// Holds says whether the wallet was neither frozen nor deleted since, got no other PIN
// or policy, and is not being frozen; and that keys may leave, if it is one. It reads
// memory only, and charges nothing.
func (t *Standing) Holds() bool {
	if t.export && !t.service.allowed().Export {
		return false
	}
	return !t.service.freezing.has(t.wallet) && t.service.changes.of(t.wallet).Load() == t.count
}
