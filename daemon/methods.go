package daemon

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"

	"github.com/sigild/sigild/daemon/channel"
	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/daemon/policy"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/daemon/wipe"
	"github.com/sigild/sigild/ipc"
)

// call is one request with its decoded parameters.
type call[P any] struct {
	caller
	params P
	digest [32]byte // SHA-256 of the parameters' JCS form (RFC 8785) without the PIN
	sealed bool     // the PIN came sealed: the answer will be proven
}

// caller is who asks for something.
type caller struct {
	peer wallet.Peer
	// standing is set by what signs or exports with a PIN: a result that is kept is
	// given again as long as it holds. nil: always.
	standing *wallet.Standing
}

// repetition says that a proven answer is for the PIN's owner only.
func (c *call[P]) repetition() wallet.Repetition { return wallet.Repetition{Unproven: !c.sealed} }

// handle decodes strictly, runs method and names its error for the wire.
func handle[P, R any](d *Daemon, method func(context.Context, *call[P]) (R, error)) ipc.Handler {
	if pinFieldsOf(new(P)).pin == nil {
		return func(ctx context.Context, raw json.RawMessage) (any, error) { return serve(ctx, d, method, raw) }
	}
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		defer d.collector.soon()
		defer wipe.Stack() // this goroutine ends, and nobody would write over it
		return serve(ctx, d, method, raw)
	}
}

// serve answers one request.
func serve[P, R any](ctx context.Context, d *Daemon, method func(context.Context, *call[P]) (R, error), raw json.RawMessage) (any, error) {
	peer, ok := ipc.PeerFrom(ctx)
	if !ok {
		return nil, errors.New("request without a peer")
	}
	if args, err := ipc.DecodeArgsBetween(raw, 0, 1); err == nil && len(args) == 0 {
		raw = json.RawMessage("[{}]") // no parameters are the empty object
	}
	params, err := ipc.Decode[P](raw)
	if err != nil {
		return nil, err
	}
	defer wipePINs(&params) // those in the clear; c.params are wiped below
	digest, err := requestDigest(raw)
	if err != nil {
		return nil, err
	}
	connection, _ := ipc.ConnectionFrom(ctx)
	c := &call[P]{params: params, digest: digest,
		caller: caller{peer: wallet.Peer{UID: peer.UID, GID: peer.GID, PID: peer.PID, Connection: connection}}}
	name, _ := ctx.Value(methodKey{}).(string)
	use, err := d.openPINs(c.peer, channel.Request{Method: name, Digest: digest}, &c.params, raw)
	defer wipePINs(&c.params)
	c.sealed = use != nil
	run := func(ctx context.Context) (any, error) { return answer(ctx, d, method, c) }
	switch {
	case use == nil && err != nil:
		return nil, wireError(err)
	case use == nil:
		return run(ctx)
	case err != nil:
		run = func(context.Context) (any, error) { return nil, wireError(err) }
	}
	return d.answerSealed(ctx, use, func(ctx context.Context) (any, error) {
		result, err := run(ctx)
		if c.standing != nil {
			use.Holds = c.standing.Holds
		}
		return result, err
	})
}

// answer runs a method, and names its error for the wire.
func answer[P, R any](ctx context.Context, d *Daemon, method func(context.Context, *call[P]) (R, error), c *call[P]) (any, error) {
	result, err := method(ctx, c)
	if err != nil {
		d.inspect(err)
		return nil, wireError(err)
	}
	if d.config.Dev {
		return devAnswer{result}, nil
	}
	return result, nil
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

// wipePINs overwrites every ipc.Secret of a parameter struct.
func wipePINs(params any) {
	v := reflect.ValueOf(params).Elem()
	for n := range v.NumField() {
		if s, ok := v.Field(n).Interface().(ipc.Secret); ok {
			s.Wipe()
		}
	}
}

// requestDigest is SHA-256 over the parameter object without its PINs, sealed
// or not, in the canonical form of RFC 8785. No parameters are the empty object.
func requestDigest(raw json.RawMessage) ([32]byte, error) {
	object := json.RawMessage("{}")
	if len(raw) > 0 {
		args, err := ipc.DecodeArgsBetween(raw, 0, 1)
		if err != nil {
			return [32]byte{}, err
		}
		if len(args) > 0 {
			object = args[0]
		}
	}
	digest, err := channel.Digest(object)
	if err != nil {
		return digest, ipc.InvalidParams("", err.Error())
	}
	return digest, nil
}

func (d *Daemon) createWallet(ctx context.Context, c *call[ipc.CreateWalletParams]) (*ipc.CreateWalletResult, error) {
	rules, err := newPolicy(c.params.Policy)
	if err != nil {
		return nil, err
	}
	return d.create(ctx, &wallet.CreateRequest{Peer: c.peer, RequestID: c.params.RequestID,
		Owner: c.params.Owner, ExternalID: c.params.ExternalID, Tags: c.params.Tags, Label: c.params.Label,
		Policy: rules, PIN: c.params.PIN, Digest: c.digest, Exportable: c.params.Exportable,
		Repetition: c.repetition()})
}

// newPolicy is the policy of a new wallet.
func newPolicy(given *ipc.Policy) (policy.Policy, error) {
	if given == nil {
		return policy.Default(), nil
	}
	return parsePolicy("policy", given)
}

func (d *Daemon) create(ctx context.Context, request *wallet.CreateRequest) (*ipc.CreateWalletResult, error) {
	r, err := d.wallets.Create(ctx, request)
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
	p := &c.params
	if err := namedOnce(p.WalletID, p.Address, p.ExternalID); err != nil {
		return nil, err
	}
	switch {
	case p.ExternalID != "":
		return shown(d.wallets.FindExternal(ctx, c.peer, p.ExternalID))
	case p.Address != "":
		a, err := parseAddress(p.Address)
		if err != nil {
			return nil, err
		}
		info, _, err := d.wallets.Find(ctx, c.peer, a)
		return shown(info, err)
	}
	id, err := walletID(p.WalletID)
	if err != nil {
		return nil, err
	}
	return shown(d.wallets.Get(ctx, c.peer, id))
}

const (
	defaultPage = 100
	largestPage = 1000
)

func (d *Daemon) listWallets(ctx context.Context, c *call[ipc.ListWalletsParams]) (*ipc.ListWalletsResult, error) {
	p := wallet.Page{Owner: c.params.Owner, Tag: c.params.Tag, Limit: c.params.Limit,
		From: unix(c.params.From), Until: unix(c.params.Until)}
	state := wallet.Status(c.params.State)
	switch state {
	case "", wallet.Active, wallet.Frozen, wallet.Locked, wallet.Deleted:
	default:
		return nil, ipc.InvalidParams("state", "must be active, frozen, locked or deleted")
	}
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
	l, err := d.listed(ctx, c, p, state)
	if err != nil {
		return nil, err
	}
	r := &ipc.ListWalletsResult{Wallets: make([]ipc.WalletInfo, len(l.Wallets)), Cursor: base64.RawURLEncoding.EncodeToString(l.Cursor)}
	for _, id := range l.Corrupt {
		r.Corrupt = append(r.Corrupt, id[:])
	}
	for n, i := range l.Wallets {
		if r.Wallets[n], err = walletInfo(i); err != nil {
			return nil, err
		}
		if c.params.Relay != nil || c.params.AllRelays {
			r.Wallets[n].Relay = &i.Header.Relay
		}
	}
	return r, nil
}

// listed reads a page of the caller's own wallets or, for an operator, of one
// relay's or all relays'.
func (d *Daemon) listed(ctx context.Context, c *call[ipc.ListWalletsParams], p wallet.Page, state wallet.Status) (*wallet.Listing, error) {
	a, relay := d.actor(c.peer), c.params.Relay
	switch {
	case relay == nil && !c.params.AllRelays:
		return d.wallets.List(ctx, c.peer, p, state)
	case relay != nil && c.params.AllRelays:
		return nil, ipc.InvalidParams("allRelays", "and relay exclude each other")
	case !a.Operator:
		return nil, wallet.ErrOperator
	case relay != nil:
		return d.wallets.List(ctx, wallet.Peer{UID: *relay}, p, state)
	}
	return d.wallets.ListAll(ctx, a, p, state)
}

func (d *Daemon) deriveAccount(ctx context.Context, c *call[ipc.DeriveAccountParams]) (*ipc.DeriveAccountResult, error) {
	id, err := walletID(c.params.WalletID)
	if err != nil {
		return nil, err
	}
	count := c.params.Count
	if count == 0 {
		count = 1
	}
	r, err := d.wallets.Derive(ctx, &wallet.DeriveRequest{Peer: c.peer, RequestID: c.params.RequestID,
		Wallet: id, Count: count, PIN: c.params.PIN, Digest: c.digest, Repetition: c.repetition()})
	if err != nil {
		return nil, err
	}
	out := &ipc.DeriveAccountResult{Existing: r.Existing, Receipt: d.receipt(r.Receipt)}
	for _, a := range r.Accounts {
		info, err := accountInfo(a, r.Info.State)
		if err != nil {
			return nil, err
		}
		out.Accounts = append(out.Accounts, info)
	}
	out.Account = out.Accounts[0]
	return out, nil
}

func unix(t *ipc.Time) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}

// namedOnce wants exactly one of wallet id, address and external id.
func namedOnce(id ipc.Hex, address, externalID string) error {
	given := 0
	for _, has := range []bool{len(id) > 0, address != "", externalID != ""} {
		if has {
			given++
		}
	}
	if given != 1 {
		return ipc.InvalidParams("walletId", "name the wallet in exactly one way")
	}
	return nil
}

func walletID(id ipc.Hex) (seal.ID, error) {
	if len(id) != len(seal.ID{}) {
		return seal.ID{}, ipc.InvalidParams("walletId", "must be 16 bytes in hexadecimal")
	}
	return seal.ID(id), nil
}

func parseAddress(text string) ([20]byte, error) {
	a, err := eth.ParseAddress(text)
	if problem := (*eth.FieldError)(nil); errors.As(err, &problem) {
		return [20]byte{}, ipc.InvalidParams("address", problem.Problem)
	}
	return a, err
}

// policyFacts maps what eth read from a payload to what policies decide on.
func policyFacts(f eth.Facts) policy.Facts {
	return policy.Facts{
		Operation: policy.Operation(f.Operation), Chain: f.Chain, AllChains: f.AllChains, Recipient: f.Recipient,
		ContractCreation: f.ContractCreation, Value: f.Value, MaxCost: f.MaxCost, Selector: f.Selector, DataLength: f.DataLength, Delegates: f.Delegates,
	}
}
