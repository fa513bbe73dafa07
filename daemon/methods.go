package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/ethereum/go-ethereum/common"
	"github.com/gowebpki/jcs"

	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

// methods are all that the socket answers.
func (d *Daemon) methods() map[string]ipc.Handler {
	return map[string]ipc.Handler{
		ipc.MethodStatus:          handle(d, d.status),
		ipc.MethodCreateWallet:    handle(d, d.createWallet),
		ipc.MethodGetWallet:       handle(d, d.getWallet),
		ipc.MethodListWallets:     handle(d, d.listWallets),
		ipc.MethodDeriveAccount:   handle(d, d.deriveAccount),
		ipc.MethodSignTransaction: handle(d, d.signTransaction),
		ipc.MethodSignMessage:     handle(d, d.signMessage),
	}
}

// call is one request with its decoded parameters.
type call[P any] struct {
	peer   wallet.Peer
	params P
	digest [32]byte // SHA-256 of the parameters' JCS form (RFC 8785) without the PIN
}

// handle decodes strictly, runs method and names its error for the wire.
func handle[P, R any](d *Daemon, method func(context.Context, *call[P]) (R, error)) ipc.Handler {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		peer, ok := ipc.PeerFrom(ctx)
		if !ok {
			return nil, errors.New("request without a peer")
		}
		params, err := ipc.Decode[P](raw)
		if err != nil {
			return nil, err
		}
		defer wipePIN(&params)
		digest, err := requestDigest(raw)
		if err != nil {
			return nil, err
		}
		c := &call[P]{peer: wallet.Peer{UID: peer.UID, GID: peer.GID, PID: peer.PID}, params: params, digest: digest}
		result, err := method(ctx, c)
		if err != nil {
			return nil, wireError(err)
		}
		if d.config.Dev {
			return devAnswer{result}, nil
		}
		return result, nil
	}
}

// devAnswer marks an answer of a throw-away installation with "dev": true.
type devAnswer struct{ result any }

// MarshalJSON adds the mark to the result, which is an object in every method.
func (a devAnswer) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(a.result)
	if err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, err
	}
	object["dev"] = json.RawMessage("true")
	return json.Marshal(object)
}

// wipePIN overwrites the PIN of parameters that have one.
func wipePIN(params any) {
	switch p := params.(type) {
	case *ipc.CreateWalletParams:
		p.PIN.Wipe()
	case *ipc.DeriveAccountParams:
		p.PIN.Wipe()
	case *ipc.SignTransactionParams:
		p.PIN.Wipe()
	case *ipc.SignMessageParams:
		p.PIN.Wipe()
	}
}

// requestDigest is SHA-256 over the parameter object without its "pin", in the
// canonical form of RFC 8785. No parameters are the empty object.
func requestDigest(raw json.RawMessage) ([32]byte, error) {
	var list []map[string]json.RawMessage
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &list); err != nil {
			return [32]byte{}, ipc.InvalidParams("", "must be an array of one object")
		}
	}
	object := map[string]json.RawMessage{}
	if len(list) > 0 {
		object = list[0]
	}
	clear(object["pin"])
	delete(object, "pin")
	text, err := json.Marshal(object)
	if err != nil {
		return [32]byte{}, err
	}
	canonical, err := jcs.Transform(text)
	if err != nil {
		return [32]byte{}, ipc.InvalidParams("", "cannot be put into canonical form (RFC 8785)")
	}
	return sha256.Sum256(canonical), nil
}

func (d *Daemon) createWallet(ctx context.Context, c *call[ipc.CreateWalletParams]) (*ipc.CreateWalletResult, error) {
	r, err := d.wallets.Create(ctx, &wallet.CreateRequest{Peer: c.peer, RequestID: c.params.RequestID,
		Owner: c.params.Owner, Label: c.params.Label, PIN: c.params.PIN, Digest: c.digest})
	if err != nil {
		return nil, err
	}
	info, err := walletInfo(r.Info)
	if err != nil {
		return nil, err
	}
	return &ipc.CreateWalletResult{Existing: r.Existing, Wallet: info, Receipt: d.receipt(r.Receipt)}, nil
}

func (d *Daemon) getWallet(ctx context.Context, c *call[ipc.GetWalletParams]) (*ipc.WalletInfo, error) {
	id, err := d.find(ctx, c.peer, c.params.WalletID, c.params.Address)
	if err != nil {
		return nil, err
	}
	r, err := d.wallets.Get(ctx, c.peer, id)
	if err != nil {
		return nil, err
	}
	info, err := walletInfo(r)
	return &info, err
}

const (
	defaultPage = 100
	largestPage = 1000
)

func (d *Daemon) listWallets(ctx context.Context, c *call[ipc.ListWalletsParams]) (*ipc.ListWalletsResult, error) {
	p := wallet.Page{Owner: c.params.Owner, Limit: c.params.Limit}
	if p.Limit == 0 {
		p.Limit = defaultPage
	}
	if p.Limit < 0 || p.Limit > largestPage {
		return nil, ipc.InvalidParams("limit", "must be 1 to 1000")
	}
	var err error
	if c.params.Cursor != "" {
		if p.After, err = base64.RawURLEncoding.DecodeString(c.params.Cursor); err != nil {
			return nil, ipc.InvalidParams("cursor", "is not one that this method gave")
		}
	}
	infos, cursor, err := d.wallets.List(ctx, c.peer, p, "")
	if err != nil {
		return nil, err
	}
	r := &ipc.ListWalletsResult{Wallets: make([]ipc.WalletInfo, len(infos)), Cursor: base64.RawURLEncoding.EncodeToString(cursor)}
	for n, i := range infos {
		if r.Wallets[n], err = walletInfo(i); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (d *Daemon) deriveAccount(ctx context.Context, c *call[ipc.DeriveAccountParams]) (*ipc.DeriveAccountResult, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	r, err := d.wallets.Derive(ctx, &wallet.DeriveRequest{Peer: c.peer, RequestID: c.params.RequestID,
		Wallet: id, PIN: c.params.PIN, Digest: c.digest})
	if err != nil {
		return nil, err
	}
	account, err := accountInfo(r.Account)
	if err != nil {
		return nil, err
	}
	return &ipc.DeriveAccountResult{Existing: r.Existing, Account: account, Receipt: d.receipt(r.Receipt)}, nil
}

func (d *Daemon) signTransaction(ctx context.Context, c *call[ipc.SignTransactionParams]) (*ipc.SignTransactionResult, error) {
	tx, err := eth.ParseTransaction(c.params.Transaction)
	if err != nil {
		return nil, err
	}
	s, err := d.sign(ctx, c.peer, target{c.params.WalletID, c.params.Address, c.params.Account},
		c.params.PIN, tx.SigningDigest(), tx.Facts(), (*[20]byte)(tx.From()))
	if err != nil {
		return nil, err
	}
	signed, err := tx.WithSignature(s.R, s.S, s.RecoveryID, s.Address)
	if err != nil {
		return nil, err
	}
	return &ipc.SignTransactionResult{Raw: ipc.Hex(signed.Raw), Hash: signed.Hash[:], Transaction: signed.Transaction,
		Signature: append(append(s.R[:], s.S[:]...), s.RecoveryID), AttemptsLeft: s.attemptsLeft}, nil
}

func (d *Daemon) signMessage(ctx context.Context, c *call[ipc.SignMessageParams]) (*ipc.SignMessageResult, error) {
	digest := eth.MessageDigest(c.params.Message)
	s, err := d.sign(ctx, c.peer, target{c.params.WalletID, c.params.Address, c.params.Account},
		c.params.PIN, digest, eth.MessageFacts(c.params.Message), nil)
	if err != nil {
		return nil, err
	}
	if err := eth.CheckSignature(digest, s.R, s.S, s.RecoveryID, s.Address); err != nil {
		return nil, err
	}
	sig, err := eth.SignatureBytes(s.R, s.S, s.RecoveryID)
	if err != nil {
		return nil, err
	}
	return &ipc.SignMessageResult{Signature: sig, Digest: digest[:], AttemptsLeft: s.attemptsLeft}, nil
}

// target is how a request names the account that signs.
type target struct {
	walletID ipc.Hex
	address  string
	account  *uint32
}

func (d *Daemon) sign(ctx context.Context, peer wallet.Peer, t target, pin []byte,
	digest [32]byte, f eth.Facts, sender *[20]byte) (*signature, error) {
	id, err := d.find(ctx, peer, t.walletID, t.address)
	if err != nil {
		return nil, err
	}
	account, err := d.accountOf(ctx, peer, t, id)
	if err != nil {
		return nil, err
	}
	list, attempts, err := d.wallets.Sign(ctx, &wallet.SignRequest{Peer: peer, Wallet: id, PIN: pin,
		Items: []wallet.Item{{Account: account, Sender: sender, Digest: digest, Facts: policyFacts(f)}}})
	if err != nil {
		return nil, err
	}
	return &signature{list[0], int(attempts.Left)}, nil
}

// signature is one verified signature and what is left of the PIN attempts.
type signature struct {
	*wallet.Signed
	attemptsLeft int
}

// accountOf gives the index that a request names, 0 by default, or the one of
// its address; when it gives both they must agree.
func (d *Daemon) accountOf(ctx context.Context, peer wallet.Peer, t target, id seal.ID) (uint32, error) {
	if t.address == "" {
		if t.account == nil {
			return 0, nil
		}
		return *t.account, nil
	}
	info, err := d.wallets.Get(ctx, peer, id)
	if err != nil {
		return 0, err
	}
	address, err := parseAddress(t.address)
	if err != nil {
		return 0, err
	}
	for _, a := range info.Header.Accounts {
		if [20]byte(a.Address) != address {
			continue
		}
		if t.account != nil && *t.account != a.Index {
			return 0, ipc.InvalidParams("account", "is not the account of this address")
		}
		return a.Index, nil
	}
	return 0, wallet.ErrNotFound
}

// find resolves exactly one of wallet id and address.
func (d *Daemon) find(ctx context.Context, peer wallet.Peer, id ipc.Hex, address string) (seal.ID, error) {
	if (len(id) > 0) == (address != "") {
		return seal.ID{}, ipc.InvalidParams("walletId", "give exactly one of walletId and address")
	}
	if len(id) > 0 {
		return walletID(id)
	}
	a, err := parseAddress(address)
	if err != nil {
		return seal.ID{}, err
	}
	return d.wallets.Find(ctx, peer, a)
}

func walletID(id ipc.Hex) (seal.ID, error) {
	if len(id) != len(seal.ID{}) {
		return seal.ID{}, ipc.InvalidParams("walletId", "must be 16 bytes in hexadecimal")
	}
	return seal.ID(id), nil
}

func parseAddress(text string) ([20]byte, error) {
	var a common.MixedcaseAddress
	if err := json.Unmarshal([]byte(`"`+text+`"`), &a); err != nil {
		return [20]byte{}, ipc.InvalidParams("address", "must be 20 bytes in hexadecimal")
	}
	return a.Address(), nil
}

// policyFacts maps what eth read from a payload to what policies decide on.
func policyFacts(f eth.Facts) policy.Facts {
	return policy.Facts{
		Operation: policy.Operation(f.Operation), Chain: f.Chain, AllChains: f.AllChains, Recipient: f.Recipient,
		ContractCreation: f.ContractCreation, Value: f.Value, MaxCost: f.MaxCost, Selector: f.Selector,
	}
}
