package wallet

import (
	"context"
	"errors"

	"github.com/sigild/sigild/daemon/seal"
)

// ExportRequest asks for the private key of one account.
type ExportRequest struct {
	Peer    Peer
	Wallet  seal.ID
	Account uint32
	Address *[20]byte                  // names the account in place of Account, which is found; nil: Account does
	Verify  func(account uint32) error // as Item's; nil: there is nothing
	PIN     []byte
	Digest  [32]byte // of the parameters without the PIN, the recipient among them
	// Seal closes the private key, 32 bytes, big endian, for its recipient. It
	// keeps no copy of it.
	Seal func(a *seal.Account, key *[32]byte) error
}

// Exported is the answer to an export, beside what Seal was given.
type Exported struct {
	Account  seal.Account
	Attempts Attempts
	Standing *Standing // for whoever keeps the sealed key
}

// Export gives the private key of one account to r.Seal. The token gives the root
// out, and t·d_h is put together here, in memory that is wiped, for the length of
// this call. When Export returns nil, the record says that the key was given out,
// and so does the audit log; then only may what Seal made leave.
func (s *Service) Export(ctx context.Context, r *ExportRequest) (*Exported, error) {
	out := &Exported{}
	var err error
	if err = s.mayExport(ctx); err == nil {
		out.Attempts, err = s.withPIN(ctx, r.Peer, r.Wallet, r.PIN, s.ready(r.check), func(o *opened) error {
			out.Account, out.Standing = o.Header.Accounts[r.Account], s.standing(r.Wallet)
			out.Standing.export = true
			return s.export(ctx, r, o)
		})
	}
	if err != nil {
		return nil, errors.Join(err, s.auditAnyway(ctx, r.event(reasonOf(err))))
	}
	return out, nil
}

func (r *ExportRequest) event(result string) Event {
	return Event{Action: "exportAccount", Peer: r.Peer, Wallet: r.Wallet, Account: r.Account, Digest: r.Digest[:], Result: result}
}

// check decides before any charge, and finds the account that an address names.
func (r *ExportRequest) check(p *seal.Parsed) error {
	if !p.Header.Exportable {
		return ErrNotExportable
	}
	if r.Address != nil {
		account, err := accountAt(p, *r.Address)
		if err != nil {
			return err
		}
		r.Account = account
	}
	if int64(r.Account) >= int64(len(p.Header.Accounts)) {
		return ErrNotFound
	}
	if r.Verify == nil {
		return nil
	}
	return r.Verify(r.Account)
}

// export takes the key out, then writes that down, first in the record and then
// in the audit log: what leaves afterwards is known to have left. The operator is
// asked once more when the record is written, which the TPM may have held up.
func (s *Service) export(ctx context.Context, r *ExportRequest, o *opened) error {
	if err := s.takeOut(ctx, r, o); err != nil {
		return err
	}
	o.rewritten = true
	_, err := s.restated(ctx, &stateChange{actor: Actor{Peer: r.Peer}, wallet: r.Wallet, apply: func(p *seal.Parsed) error {
		for len(p.State.Exported) <= int(r.Account) {
			p.State.Exported = append(p.State.Exported, 0)
		}
		p.State.Exported[r.Account] = s.Now().Unix()
		return nil
	}})
	if err != nil {
		return err
	}
	if err := s.mayExport(ctx); err != nil {
		return err
	}
	return s.audit(ctx, r.event("ok"))
}

// takeOut computes t·d_h, checks that it is the account's key and hands it to
// r.Seal. The operator is asked once more: the request may have waited for its turn,
// a slot and the devices since it was let in.
func (s *Service) takeOut(ctx context.Context, r *ExportRequest, o *opened) (err error) {
	held := &objects{token: s.Token}
	defer held.destroy(ctx, &err)
	k, err := s.unwrapKeys(ctx, held, o.Header, o.wrapped, []uint32{r.Account})
	if err != nil {
		return err
	}
	defer k.wipe()
	a, key := k[r.Account], new([32]byte)
	defer clear(key[:])
	if err := s.mayExport(ctx); err != nil {
		return err
	}
	if err := s.Token.ExportRoot(ctx, a.root, key); err != nil {
		return err
	}
	if err := a.tweak.apply(key); err != nil {
		return err
	}
	public, err := publicOf(key)
	if err != nil {
		return err
	}
	if public != a.public {
		return ErrToken
	}
	return r.Seal(&o.Header.Accounts[r.Account], key)
}
