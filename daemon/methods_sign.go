package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

// payload is something that a request wants signed: its digest, what a policy
// may decide on, and how the signature is shown.
type payload struct {
	digest [32]byte
	facts  eth.Facts
	sender *[20]byte
	verify func() error // what is dear to look at; nil: nothing is
	show   func(s *wallet.Signed, to *ipc.BatchSignature) error
}

func transactionPayload(raw json.RawMessage) (*payload, error) {
	tx, err := eth.ParseTransaction(raw)
	if err != nil {
		return nil, err
	}
	p := &payload{digest: tx.SigningDigest(), facts: tx.Facts(), sender: (*[20]byte)(tx.From()), verify: tx.CheckAuthorizations}
	p.show = func(s *wallet.Signed, to *ipc.BatchSignature) error {
		signed, err := tx.WithSignature(s.R, s.S, s.RecoveryID, s.Address)
		if err != nil {
			return err
		}
		to.Signature = append(append(s.R[:], s.S[:]...), s.RecoveryID)
		to.Raw, to.Hash, to.Transaction = ipc.Hex(signed.Raw), signed.Hash[:], signed.Transaction
		return nil
	}
	return p, nil
}

func messagePayload(message []byte) *payload {
	p := &payload{digest: eth.MessageDigest(message), facts: eth.MessageFacts(message)}
	p.show = p.showMessage
	return p
}

func typedDataPayload(raw json.RawMessage) (*payload, error) {
	digest, facts, err := eth.TypedDataDigest(raw)
	if err != nil {
		return nil, err
	}
	if facts.Operation == eth.OperationUserOperation {
		// As typed data its call could not be held against a policy.
		return nil, &eth.FieldError{Field: "typedData.primaryType", Problem: "is a user operation: use sigild_signUserOperation"}
	}
	p := &payload{digest: digest, facts: facts}
	p.show = p.showMessage
	return p, nil
}

func authorizationPayload(raw json.RawMessage) (*payload, error) {
	a, err := eth.ParseAuthorization(raw)
	if err != nil {
		return nil, err
	}
	p := &payload{digest: a.SigningDigest(), facts: a.Facts()}
	p.show = func(s *wallet.Signed, to *ipc.BatchSignature) (err error) {
		if to.Signed, err = a.WithSignature(s.R, s.S, s.RecoveryID, s.Address); err != nil {
			return err
		}
		return p.showMessage(s, to)
	}
	return p, nil
}

func userOperationPayload(raw json.RawMessage) (*payload, error) {
	u, err := eth.ParseUserOperation(raw)
	if err != nil {
		return nil, err
	}
	p := &payload{digest: u.SigningDigest(), facts: u.Facts()}
	p.show = p.showMessage
	return p, nil
}

func digestPayload(digest []byte) (*payload, error) {
	if len(digest) != 32 {
		return nil, ipc.InvalidParams("digest", "must be 32 bytes")
	}
	p := &payload{digest: [32]byte(digest), facts: eth.Facts{Operation: "rawDigest", AllChains: true}}
	p.show = p.showMessage
	return p, nil
}

// showMessage checks the signature once more, against the address, and shows
// it as r ‖ s ‖ v.
func (p *payload) showMessage(s *wallet.Signed, to *ipc.BatchSignature) error {
	if err := eth.CheckSignature(p.digest, s.R, s.S, s.RecoveryID, s.Address); err != nil {
		return err
	}
	sig, err := eth.SignatureBytes(s.R, s.S, s.RecoveryID)
	to.Signature = sig
	return err
}

// target is how a request names the account that signs.
type target struct {
	walletID ipc.Hex
	address  string
	account  *uint32
}

// item is what the wallet service is asked for.
func (p *payload) item() wallet.Item {
	i := wallet.Item{Sender: p.sender, Digest: p.digest, Facts: policyFacts(p.facts)}
	if p.verify != nil {
		i.Verify = func(uint32) error { return p.verify() }
	}
	return i
}

// locate gives the wallet that t names, by its id or by the index, and what the
// request says of the account in i: its number, 0 by default, or its address.
// Both must agree, which shows when the record is read.
func (d *Daemon) locate(ctx context.Context, peer wallet.Peer, t target, i *wallet.Item) (seal.ID, error) {
	if err := namedOnce(t.walletID, t.address, ""); err != nil {
		return seal.ID{}, err
	}
	if t.address == "" {
		if t.account != nil {
			i.Account = *t.account
		}
		return walletID(t.walletID)
	}
	address, err := parseAddress(t.address)
	if err != nil {
		return seal.ID{}, err
	}
	i.Address = &address
	verify := i.Verify
	i.Verify = func(found uint32) error {
		if t.account != nil && *t.account != found {
			return ipc.InvalidParams("account", "is not the account of this address")
		}
		if verify == nil {
			return nil
		}
		return verify(found)
	}
	return d.wallets.ByAddress(ctx, peer, address)
}

// sign has one account sign one payload.
func (d *Daemon) sign(ctx context.Context, c *caller, t target, pin []byte, p *payload) (*ipc.BatchSignature, int, error) {
	item := p.item()
	id, err := d.locate(ctx, c.peer, t, &item)
	if err != nil {
		return nil, 0, err
	}
	r := &wallet.SignRequest{Peer: c.peer, Wallet: id, PIN: pin, Items: []wallet.Item{item}}
	list, left, err := d.signAll(ctx, c, r, []*payload{p})
	if err != nil {
		return nil, 0, err
	}
	return &list[0], left, nil
}

// signAll signs the items of a request, all or none, and shows the signatures as
// their payloads say.
func (d *Daemon) signAll(ctx context.Context, c *caller, r *wallet.SignRequest, payloads []*payload) ([]ipc.BatchSignature, int, error) {
	signed, attempts, err := d.wallets.Sign(ctx, r)
	c.standing = r.Standing
	if err != nil {
		return nil, 0, err
	}
	list := make([]ipc.BatchSignature, len(signed))
	for n, s := range signed {
		list[n].Digest = payloads[n].digest[:]
		if err := payloads[n].show(s, &list[n]); err != nil {
			return nil, 0, err
		}
	}
	return list, int(attempts.Left), nil
}

func (d *Daemon) signTransaction(ctx context.Context, c *call[ipc.SignTransactionParams]) (*ipc.SignTransactionResult, error) {
	p, err := transactionPayload(c.params.Transaction)
	if err != nil {
		return nil, err
	}
	s, left, err := d.sign(ctx, &c.caller, target{c.params.WalletID, c.params.Address, c.params.Account}, c.params.PIN, p)
	if err != nil {
		return nil, err
	}
	return &ipc.SignTransactionResult{Raw: s.Raw, Hash: s.Hash, Transaction: s.Transaction,
		Signature: s.Signature, AttemptsLeft: left}, nil
}

func (d *Daemon) signMessage(ctx context.Context, c *call[ipc.SignMessageParams]) (*ipc.SignMessageResult, error) {
	s, left, err := d.sign(ctx, &c.caller, target{c.params.WalletID, c.params.Address, c.params.Account},
		c.params.PIN, messagePayload(c.params.Message))
	if err != nil {
		return nil, err
	}
	return &ipc.SignMessageResult{Signature: s.Signature, Digest: s.Digest, AttemptsLeft: left}, nil
}

// signPayload makes the handler of a method that signs one kind of payload.
func signPayload(parse func(json.RawMessage) (*payload, error)) func(*Daemon, context.Context, *call[ipc.SignPayloadParams]) (*ipc.SignPayloadResult, error) {
	return func(d *Daemon, ctx context.Context, c *call[ipc.SignPayloadParams]) (*ipc.SignPayloadResult, error) {
		p, err := parse(c.params.Payload)
		if err != nil {
			return nil, err
		}
		s, left, err := d.sign(ctx, &c.caller, target{c.params.WalletID, c.params.Address, c.params.Account}, c.params.PIN, p)
		if err != nil {
			return nil, err
		}
		return &ipc.SignPayloadResult{Signature: s.Signature, Digest: s.Digest, Signed: s.Signed, AttemptsLeft: left}, nil
	}
}

func (d *Daemon) signDigest(ctx context.Context, c *call[ipc.SignDigestParams]) (*ipc.SignPayloadResult, error) {
	p, err := digestPayload(c.params.Digest)
	if err != nil {
		return nil, err
	}
	s, left, err := d.sign(ctx, &c.caller, target{c.params.WalletID, c.params.Address, c.params.Account}, c.params.PIN, p)
	if err != nil {
		return nil, err
	}
	return &ipc.SignPayloadResult{Signature: s.Signature, Digest: s.Digest, AttemptsLeft: left}, nil
}

func (d *Daemon) signBatch(ctx context.Context, c *call[ipc.SignBatchParams]) (*ipc.SignBatchResult, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	if len(c.params.Items) == 0 || len(c.params.Items) > wallet.MaxBatch {
		return nil, ipc.InvalidParams("items", fmt.Sprintf("must be 1 to %d", wallet.MaxBatch))
	}
	r := &wallet.SignRequest{Peer: c.peer, Wallet: id, PIN: c.params.PIN}
	var payloads []*payload
	for n, item := range c.params.Items {
		p, err := itemPayload(&item)
		if err != nil {
			return nil, inItem(n, err)
		}
		i := p.item()
		i.Account = item.Account
		if p.verify != nil {
			i.Verify = func(uint32) error { return inItem(n, p.verify()) }
		}
		payloads, r.Items = append(payloads, p), append(r.Items, i)
	}
	list, left, err := d.signAll(ctx, &c.caller, r, payloads)
	if err != nil {
		return nil, err
	}
	return &ipc.SignBatchResult{Signatures: list, AttemptsLeft: left}, nil
}

// itemPayload takes the one payload that an item has.
func itemPayload(i *ipc.BatchItem) (*payload, error) {
	var found []func() (*payload, error)
	add := func(raw json.RawMessage, parse func(json.RawMessage) (*payload, error)) {
		if raw != nil {
			found = append(found, func() (*payload, error) { return parse(raw) })
		}
	}
	add(i.Transaction, transactionPayload)
	add(i.TypedData, typedDataPayload)
	add(i.Authorization, authorizationPayload)
	add(i.UserOperation, userOperationPayload)
	if i.Message != nil {
		found = append(found, func() (*payload, error) { return messagePayload(*i.Message), nil })
	}
	if len(found) != 1 {
		return nil, &eth.FieldError{Field: "item", Problem: "must have exactly one of transaction, message, typedData, authorization and userOperation"}
	}
	return found[0]()
}

// inItem puts the item's number before the field of an error.
func inItem(n int, err error) error {
	var f *eth.FieldError
	if errors.As(err, &f) {
		return ipc.InvalidParams(fmt.Sprintf("items[%d].%s", n, f.Field), f.Problem)
	}
	return err
}
