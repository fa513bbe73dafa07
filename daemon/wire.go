package daemon

import (
	"fmt"
	"time"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/ethereum/go-ethereum/common"

	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

func walletInfo(i *wallet.Info) (ipc.WalletInfo, error) {
	h := i.Header
	w := ipc.WalletInfo{
		WalletID: h.Wallet[:], Owner: h.Owner, Label: i.State.Label, CreatedAt: ipc.At(time.Unix(h.Created, 0)),
		Custody: string(h.Accounts[0].Custody), Exportable: h.Exportable, State: string(i.Status()),
		AttemptsLeft: int(i.Attempts.Left), Dropped: h.Dropped, ExternalID: i.State.ExternalID, Tags: i.State.Tags,
		ExportedAt: at(latest(i.State.Exported)),
		FrozenAt:   at(i.State.Frozen), FrozenBy: i.State.FrozenBy, DeletedAt: at(i.State.Deleted), PINSetAt: at(i.State.PINSet),
	}
	rules, err := policy.Decode(h.Policy)
	if err != nil {
		return ipc.WalletInfo{}, fmt.Errorf("%w: policy", seal.ErrCorrupt)
	}
	w.Policy = showPolicy(rules)
	for _, a := range h.Accounts {
		info, err := accountInfo(a, i.State)
		if err != nil {
			return ipc.WalletInfo{}, err
		}
		w.Accounts = append(w.Accounts, info)
	}
	for _, s := range h.Sources {
		w.Provenance = append(w.Provenance, provenance(s))
	}
	return w, nil
}

// at is a time of a record, nil when it is not set.
func at(unix int64) *ipc.Time {
	if unix == 0 {
		return nil
	}
	t := ipc.At(time.Unix(unix, 0))
	return &t
}

func latest(times []int64) (last int64) {
	for _, t := range times {
		last = max(last, t)
	}
	return last
}

func accountInfo(a seal.Account, s *seal.State) (ipc.AccountInfo, error) {
	key, err := secp.ParsePubKey(a.Public)
	if err != nil {
		return ipc.AccountInfo{}, fmt.Errorf("%w: public key of account %d", seal.ErrCorrupt, a.Index)
	}
	info := ipc.AccountInfo{Index: a.Index, Curve: string(a.Curve), PublicKey: key.SerializeUncompressed(),
		Address: eth.Checksum(common.Address(a.Address)), Custody: string(a.Custody)}
	if int(a.Index) < len(s.AccountLabels) {
		info.Label = s.AccountLabels[a.Index]
	}
	if int(a.Index) < len(s.Exported) {
		info.ExportedAt = at(s.Exported[a.Index])
	}
	return info, nil
}

func provenance(s seal.Source) ipc.ProvenanceRecord {
	return ipc.ProvenanceRecord{
		Source: s.Name, Count: int(s.Count), RequestID: s.RequestID, Region: s.Region,
		Manufacturer: s.Manufacturer, Model: s.Model, Version: s.Version, Time: ipc.At(time.Unix(s.Time, 0)),
	}
}

func (d *Daemon) receipt(r *wallet.Receipt) ipc.Receipt {
	return ipc.Receipt{Statement: r.Statement, Signature: r.Signature, Key: d.identityKey()}
}
