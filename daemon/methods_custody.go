package daemon

import (
	"context"
	"errors"

	"github.com/ethereum/go-ethereum/common"

	"github.com/sigild/sigild/daemon/channel"
	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
)

// allowed is what the operator lets pass, as of the last reload.
func (d *Daemon) allowed() wallet.Allowed {
	c := d.settings().Custody
	return wallet.Allowed{Import: c.Import, Export: c.Export}
}

func (d *Daemon) importWallet(ctx context.Context, c *call[ipc.ImportWalletParams]) (*ipc.CreateWalletResult, error) {
	rules, err := newPolicy(c.params.Policy)
	if err != nil {
		return nil, err
	}
	address, err := parseAddress(c.params.Address)
	if err != nil {
		return nil, err
	}
	return d.create(ctx, &wallet.CreateRequest{Peer: c.peer, RequestID: c.params.RequestID,
		Owner: c.params.Owner, ExternalID: c.params.ExternalID, Tags: c.params.Tags, Label: c.params.Label,
		Policy: rules, PIN: c.params.PIN, Digest: c.digest, Exportable: c.params.Exportable,
		Repetition: c.repetition(), Import: &wallet.Imported{Key: c.params.Key, Address: address}})
}

// exportAccount seals one private key to the recipient of the request, which the
// sealed PIN is bound to: who stands between can put no other in its place.
func (d *Daemon) exportAccount(ctx context.Context, c *call[ipc.ExportAccountParams]) (*ipc.ExportAccountResult, error) {
	if err := channel.CheckRecipient(c.params.Recipient); err != nil {
		return nil, ipc.InvalidParams("recipient", err.Error())
	}
	var named wallet.Item
	id, err := d.locate(ctx, c.peer, target{c.params.WalletID, c.params.Address, c.params.Account}, &named)
	if err != nil {
		return nil, err
	}
	var sealed *channel.SealedKey
	out, err := d.wallets.Export(ctx, &wallet.ExportRequest{Peer: c.peer, Wallet: id, Account: named.Account, Address: named.Address, Verify: named.Verify,
		PIN: c.params.PIN, Digest: c.digest, Seal: func(a *seal.Account, key *[32]byte) (err error) {
			e := channel.Export{Installation: channel.ID(d.doc.ID), Wallet: channel.ID(id), Account: a.Index,
				Address: [20]byte(a.Address), Digest: c.digest}
			sealed, err = e.Seal(c.params.Recipient, key)
			return err
		}})
	if err != nil {
		return nil, err
	}
	c.standing = out.Standing
	return &ipc.ExportAccountResult{WalletID: id[:], Account: out.Account.Index, Address: eth.Checksum(common.Address(out.Account.Address)),
		Key: ipc.SealedKey{Enc: sealed.Enc, Ciphertext: sealed.Ciphertext}, AttemptsLeft: int(out.Attempts.Left)}, nil
}

// custodyStatus says what is allowed, and what the token was seen to do.
func (d *Daemon) custodyStatus() ipc.CustodyStatus {
	allowed := d.allowed()
	able := func(allowed bool, can func(*hsm.Keys) error) ipc.CustodyAbility {
		a := ipc.CustodyAbility{Allowed: allowed, Able: true}
		err := errors.New("the token was not seen yet")
		if c := d.lines.token.Last(); c != nil {
			err = can(c.Keys(d.token.newest.Token))
		}
		if err != nil {
			a.Able, a.Detail = false, err.Error()
		}
		return a
	}
	return ipc.CustodyStatus{Import: able(allowed.Import, (*hsm.Keys).CanImport), Export: able(allowed.Export, (*hsm.Keys).CanExport)}
}

// custodyNotes tell an operator who allowed what the token cannot do.
func (d *Daemon) custodyNotes() (notes []string) {
	s := d.custodyStatus()
	if s.Import.Allowed && !s.Import.Able {
		notes = append(notes, "custody.import is allowed, but the token takes no private keys: "+s.Import.Detail)
	}
	if s.Export.Allowed && !s.Export.Able {
		notes = append(notes, "custody.export is allowed, but the token gives no keys out: "+s.Export.Detail)
	}
	return notes
}
