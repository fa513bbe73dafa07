package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

// actor says whether a peer is an operator.
func (d *Daemon) actor(p wallet.Peer) wallet.Actor {
	return wallet.Actor{Peer: p, Operator: slices.Contains(d.operators(), p.UID)}
}

// operators are the listed uids, or root. A relay often has the daemon's own
// uid, so that one is no operator unless the installation is a throw-away one.
func (d *Daemon) operators() []uint32 {
	switch listed := d.settings().Socket.Operators; {
	case listed != nil:
		return listed
	case d.config.Dev:
		return ownAndRoot(nil)
	}
	return []uint32{0}
}

func (d *Daemon) updateWallet(ctx context.Context, c *call[ipc.UpdateWalletParams]) (*ipc.WalletInfo, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	return shown(d.wallets.Update(ctx, c.peer, id, &wallet.Update{Label: c.params.Label,
		ExternalID: c.params.ExternalID, Tags: c.params.Tags}))
}

func (d *Daemon) labelAccount(ctx context.Context, c *call[ipc.LabelAccountParams]) (*ipc.WalletInfo, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	return shown(d.wallets.LabelAccount(ctx, c.peer, id, c.params.Account, c.params.Label))
}

func (d *Daemon) freezeWallet(ctx context.Context, c *call[ipc.WalletParams]) (*ipc.WalletInfo, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	a := d.actor(c.peer)
	return shown(d.wallets.Freeze(ctx, a, id, freezer(a)))
}

// freezer is what a frozen wallet shows of who did it.
func freezer(a wallet.Actor) string {
	if a.Operator {
		return "operator"
	}
	return "relay"
}

func (d *Daemon) unfreezeWallet(ctx context.Context, c *call[ipc.UnfreezeParams]) (*ipc.WalletInfo, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	return shown(d.wallets.Unfreeze(ctx, d.actor(c.peer), id, c.params.FrozenBy))
}

func (d *Daemon) giveBackAttempts(ctx context.Context, c *call[ipc.GiveBackParams]) (*ipc.WalletInfo, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	return shown(d.wallets.GiveBack(ctx, d.actor(c.peer), id, c.params.Attempts))
}

func (d *Daemon) restoreWallet(ctx context.Context, c *call[ipc.WalletParams]) (*ipc.WalletInfo, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	return shown(d.wallets.Restore(ctx, d.actor(c.peer), id))
}

// freezeBudget is how long one call of sigild_freezeAll begins to freeze
// wallets: well below the time that a request may take.
const freezeBudget = 5 * time.Second

func (d *Daemon) freezeAll(ctx context.Context, c *call[ipc.FreezeAllParams]) (*ipc.FreezeAllResult, error) {
	a := d.actor(c.peer)
	if !a.Operator {
		return nil, wallet.ErrOperator
	}
	var after *seal.ID
	if c.params.Cursor != "" {
		cursor, err := hex.DecodeString(c.params.Cursor)
		if err != nil || len(cursor) != len(seal.ID{}) {
			return nil, ipc.InvalidParams("cursor", "is not one that this method gave")
		}
		after = (*seal.ID)(cursor)
	}
	budget := min(freezeBudget, time.Duration(d.config.Limits.RequestTimeout)/2)
	done, err := d.wallets.FreezeAll(ctx, a, after, budget)
	if err != nil {
		return nil, err
	}
	for _, id := range done.Corrupt {
		d.log.Error("not frozen: the record was changed outside the daemon", "wallet", hexText(id[:]))
	}
	r := &ipc.FreezeAllResult{Wallets: done.Wallets, Corrupt: len(done.Corrupt)}
	if done.Next != nil {
		r.Cursor = hex.EncodeToString(done.Next[:])
	}
	return r, nil
}

func (d *Daemon) deleteWallet(ctx context.Context, c *call[ipc.DeleteWalletParams]) (*ipc.ChangedWalletResult, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	r, err := d.wallets.Delete(ctx, &wallet.DeleteRequest{Actor: d.actor(c.peer), RequestID: c.params.RequestID,
		Wallet: id, PIN: c.params.PIN, Digest: c.digest, Repetition: c.repetition()})
	if err != nil {
		return nil, err
	}
	return d.changed(r.Existing, r.Info, r.Receipt)
}

func (d *Daemon) changePIN(ctx context.Context, c *call[ipc.ChangePINParams]) (*ipc.ChangedWalletResult, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	r, err := d.wallets.ChangePIN(ctx, &wallet.ChangePINRequest{Peer: c.peer, RequestID: c.params.RequestID,
		Wallet: id, PIN: c.params.PIN, NewPIN: c.params.NewPIN, Digest: c.digest, Repetition: c.repetition()})
	if err != nil {
		return nil, err
	}
	return d.changed(r.Existing, r.Info, r.Receipt)
}

func (d *Daemon) setPolicy(ctx context.Context, c *call[ipc.SetPolicyParams]) (*ipc.ChangedWalletResult, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	rules, err := parsePolicy("policy", &c.params.Policy)
	if err != nil {
		return nil, err
	}
	r, err := d.wallets.SetPolicy(ctx, &wallet.SetPolicyRequest{Peer: c.peer, RequestID: c.params.RequestID,
		Wallet: id, Policy: rules, PIN: c.params.PIN, Digest: c.digest, Repetition: c.repetition()})
	if err != nil {
		return nil, err
	}
	return d.changed(r.Existing, r.Info, r.Receipt)
}

func (d *Daemon) changed(existing bool, i *wallet.Info, r *wallet.Receipt) (*ipc.ChangedWalletResult, error) {
	info, err := walletInfo(i)
	if err != nil {
		return nil, err
	}
	return &ipc.ChangedWalletResult{Existing: existing, Wallet: info, Receipt: d.receipt(r)}, nil
}

func (d *Daemon) unlock(ctx context.Context, c *call[ipc.UnlockParams]) (*ipc.UnlockResult, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	terms, err := parseTerms(&c.params.Terms, c.params.Bind)
	if err != nil {
		return nil, err
	}
	r, err := d.wallets.Unlock(ctx, &wallet.UnlockRequest{Peer: c.peer, Wallet: id, PIN: c.params.PIN, Terms: terms})
	if err != nil {
		return nil, err
	}
	if !d.serves(c.peer.UID) { // a reload took it out meanwhile, and may not have seen this one
		_, err := d.wallets.Lock(ctx, c.peer, id)
		return nil, errors.Join(peerNotAllowed(), err)
	}
	return &ipc.UnlockResult{Signatures: r.Signatures, Until: ipc.At(r.Until),
		AttemptsLeft: int(r.Attempts.Left), Failures: int(r.Attempts.Failures)}, nil
}

func (d *Daemon) lock(ctx context.Context, c *call[ipc.WalletParams]) (*ipc.LockResult, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	was, err := d.wallets.Lock(ctx, c.peer, id)
	return &ipc.LockResult{Locked: was}, err
}

// lockAll ends the peer's unlocks; an operator's call ends everybody's.
func (d *Daemon) lockAll(ctx context.Context, c *call[ipc.NoParams]) (*ipc.CountResult, error) {
	n, err := d.wallets.LockAll(ctx, c.peer, d.actor(c.peer).Operator)
	return &ipc.CountResult{Wallets: n}, err
}

func shown(i *wallet.Info, err error) (*ipc.WalletInfo, error) {
	if err != nil {
		return nil, err
	}
	info, err := walletInfo(i)
	return &info, err
}

func parseTerms(t *ipc.Terms, bind string) (wallet.Terms, error) {
	terms := wallet.Terms{Signatures: t.Signatures, Duration: time.Duration(t.Seconds) * time.Second, Accounts: t.Accounts}
	switch bind {
	case "", "connection":
	case "uid":
		terms.AnyClient = true
	default:
		return terms, ipc.InvalidParams("bind", `must be "connection" or "uid"`)
	}
	if t.Seconds < 1 || t.Seconds > int(wallet.MaxUnlockDuration/time.Second) {
		return terms, ipc.InvalidParams("terms.seconds", "must be 1 to 86400")
	}
	if len(t.Accounts) == 0 {
		terms.Accounts = []uint32{0}
	}
	var err error
	if terms.Rules, err = parsePolicy("terms.policy", &t.Policy); err != nil {
		return terms, err
	}
	if t.TotalValue == "" { // each term is explicit
		return terms, ipc.InvalidParams("terms.totalValue", `must be a hexadecimal quantity or "any"`)
	}
	total, anyTotal, err := parseAmount("terms.totalValue", t.TotalValue)
	if err != nil {
		return terms, err
	}
	if terms.AnyTotal = anyTotal; !anyTotal {
		terms.TotalValue = total
	}
	return terms, nil
}

// parsePolicy reads a policy in the words of the wire.
func parsePolicy(field string, w *ipc.Policy) (p policy.Policy, err error) {
	for _, o := range w.Operations {
		p.Operations = append(p.Operations, policy.Operation(o))
	}
	p.Chains, p.AnyChain = anyOf(w.Chains)
	recipients, anyRecipient := anyOf(w.Recipients)
	p.AnyRecipient = anyRecipient
	for n, r := range recipients {
		a, err := eth.ParseAddress(r)
		if problem := (*eth.FieldError)(nil); errors.As(err, &problem) {
			return p, ipc.InvalidParams(fmt.Sprintf("%s.recipients[%d]", field, n), problem.Problem)
		}
		p.Recipients = append(p.Recipients, strings.ToLower(a.Hex()))
	}
	selectors, anySelector := anyOf(w.Selectors)
	p.AnySelector = anySelector
	for _, s := range selectors {
		b, err := hexutil.Decode(s)
		if err != nil || len(b) != 4 {
			return p, ipc.InvalidParams(field+".selectors", "must be 4 bytes in hexadecimal each")
		}
		p.Selectors = append(p.Selectors, [4]byte(b))
	}
	if p.MaxValue, p.AnyValue, err = parseAmount(field+".maxValue", w.MaxValue); err != nil {
		return p, err
	}
	if p.MaxCost, p.AnyCost, err = parseAmount(field+".maxCost", w.MaxCost); err != nil {
		return p, err
	}
	p.ContractCreation = w.ContractCreation
	if err := p.Validate(); err != nil {
		return p, ipc.InvalidParams(field, err.Error())
	}
	return p, nil
}

func anyOf(list []string) (entries []string, all bool) {
	if len(list) == 1 && list[0] == ipc.Any {
		return nil, true
	}
	return list, false
}

func parseAmount(field, text string) (amount *big.Int, all bool, err error) {
	switch text {
	case ipc.Any:
		return nil, true, nil
	case "":
		return nil, false, nil
	}
	amount, err = hexutil.DecodeBig(text)
	if err != nil {
		return nil, false, ipc.InvalidParams(field, `must be a hexadecimal quantity or "any"`)
	}
	return amount, false, nil
}

// showPolicy is parsePolicy's inverse.
func showPolicy(p policy.Policy) *ipc.Policy {
	w := &ipc.Policy{Operations: []string{}, Chains: listOrAny(p.Chains, p.AnyChain),
		Recipients: listOrAny(p.Recipients, p.AnyRecipient), MaxValue: amountText(p.MaxValue, p.AnyValue),
		MaxCost: amountText(p.MaxCost, p.AnyCost), ContractCreation: p.ContractCreation}
	for _, o := range p.Operations {
		w.Operations = append(w.Operations, string(o))
	}
	var selectors []string
	for _, s := range p.Selectors {
		selectors = append(selectors, "0x"+hex.EncodeToString(s[:]))
	}
	w.Selectors = listOrAny(selectors, p.AnySelector)
	return w
}

func listOrAny(list []string, all bool) []string {
	if all {
		return []string{ipc.Any}
	}
	return list
}

func amountText(amount *big.Int, all bool) string {
	switch {
	case all:
		return ipc.Any
	case amount == nil:
		return ""
	}
	return hexutil.EncodeBig(amount)
}
