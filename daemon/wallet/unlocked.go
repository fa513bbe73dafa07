package wallet

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/sigild/sigild/daemon/seal"
)

// UnlockedAccount is an account that signs for a peer without a PIN.
type UnlockedAccount struct {
	Wallet  seal.ID
	Account uint32
	Address [20]byte
}

// Unlocked lists the accounts that the peer's unlocks cover, sorted by wallet
// and account. It touches neither the store nor the token.
func (s *Service) Unlocked(peer Peer) []UnlockedAccount {
	var list []UnlockedAccount
	for _, key := range s.unlocks.keys() {
		if key.uid != peer.UID {
			continue
		}
		if u := s.unlocks.find(key); u != nil {
			list = append(list, u.accounts(key.wallet, peer)...)
		}
	}
	slices.SortFunc(list, func(a, b UnlockedAccount) int {
		return cmp.Or(bytes.Compare(a.Wallet[:], b.Wallet[:]), cmp.Compare(a.Account, b.Account))
	})
	return list
}

// accounts lists what the unlock covers, nothing once it is over or for
// another connection than its own.
func (u *unlock) accounts(wallet seal.ID, peer Peer) []UnlockedAccount {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended != nil || !time.Now().Before(u.until) || (!u.terms.AnyClient && peer.Connection != u.peer.Connection) {
		return nil
	}
	var list []UnlockedAccount
	for index, a := range u.keys {
		list = append(list, UnlockedAccount{Wallet: wallet, Account: index, Address: address(a.public)})
	}
	return list
}
