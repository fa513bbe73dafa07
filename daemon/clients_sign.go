package daemon

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/ethereum/go-ethereum/common"

	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

// listAddresses gives the accounts that sign without a PIN now, and then, up to
// the configured number, others of the peer's active wallets, oldest first: for
// these a signature is refused with the command that unlocks them.
func (d *Daemon) listAddresses(ctx context.Context, c *clientCall) (any, error) {
	list := []string{}
	seen := map[[20]byte]bool{}
	add := func(a [20]byte) {
		if !seen[a] {
			seen[a] = true
			list = append(list, eth.Checksum(a))
		}
	}
	for _, u := range d.wallets.Unlocked(c.peer) {
		add(u.Address)
	}
	most := d.config.Ethereum.Accounts
	if len(list) >= most {
		return list, nil
	}
	err := d.wallets.EachActive(ctx, c.peer, func(i *wallet.Info) bool {
		for _, a := range i.Header.Accounts {
			if len(list) < most {
				add([20]byte(a.Address))
			}
		}
		return len(list) < most
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// signBy has the account of an address sign by the unlock that the peer holds.
func (d *Daemon) signBy(ctx context.Context, peer wallet.Peer, address [20]byte, p *payload) (*ipc.BatchSignature, error) {
	s, _, err := d.sign(ctx, &caller{peer: peer}, target{address: common.Address(address).Hex()}, nil, p)
	if errors.Is(err, wallet.ErrUnlockRequired) || errors.Is(err, wallet.ErrRelock) {
		return nil, d.unlockFirst(ctx, peer, address, p, err)
	}
	return s, err
}

func (d *Daemon) ethSign(ctx context.Context, c *clientCall) (any, error) {
	return d.signMessageBy(ctx, c.peer, c.args[0], c.args[1])
}

func (d *Daemon) personalSign(ctx context.Context, c *clientCall) (any, error) {
	return d.signMessageBy(ctx, c.peer, c.args[1], c.args[0])
}

// signMessageBy signs bytes with the prefix of EIP-191.
func (d *Daemon) signMessageBy(ctx context.Context, peer wallet.Peer, address, data json.RawMessage) (any, error) {
	a, err := addressArg(address)
	if err != nil {
		return nil, err
	}
	message, err := ipc.DecodeArg[ipc.Hex](data, "data")
	if err != nil {
		return nil, err
	}
	return signatureOf(d.signBy(ctx, peer, a, messagePayload(message)))
}

func (d *Daemon) signTypedDataBy(ctx context.Context, c *clientCall) (any, error) {
	data := c.args[1]
	if data[0] == '"' { // ethers and viem send the JSON text in a string
		text, err := ipc.DecodeArg[string](data, "typedData")
		if err != nil {
			return nil, err
		}
		data = json.RawMessage(text)
	}
	return d.signTyped(ctx, c.peer, c.args[0], data)
}

func (d *Daemon) signTyped(ctx context.Context, peer wallet.Peer, address, data json.RawMessage) (any, error) {
	return d.signPayloadBy(ctx, peer, address, func() (*payload, error) {
		raw, err := withoutEmptyDomain(data)
		if err != nil {
			return nil, err
		}
		return typedDataPayload(raw)
	})
}

func signatureOf(s *ipc.BatchSignature, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return s.Signature, nil
}

func addressArg(raw json.RawMessage) ([20]byte, error) {
	text, err := ipc.DecodeArg[string](raw, "address")
	if err != nil {
		return [20]byte{}, err
	}
	return parseAddress(text)
}

// withoutEmptyDomain takes out of the domain what its type does not declare, as
// far as that is "" or null: go-ethereum's own type sends every field of a
// domain, and what is not declared does not enter the digest. Anything else is
// left for the strict reader to refuse.
func withoutEmptyDomain(raw json.RawMessage) (json.RawMessage, error) {
	if _, err := ipc.DecodeArg[json.RawMessage](raw, "typedData"); err != nil {
		return nil, err
	}
	var data, domain map[string]json.RawMessage
	if json.Unmarshal(raw, &data) != nil || json.Unmarshal(data["domain"], &domain) != nil {
		return raw, nil
	}
	var types map[string]json.RawMessage
	var declared []struct{ Name string }
	if json.Unmarshal(data["types"], &types) != nil || json.Unmarshal(types["EIP712Domain"], &declared) != nil {
		return raw, nil
	}
	needed := map[string]bool{}
	for _, field := range declared {
		needed[field.Name] = true
	}
	changed := false
	for name, value := range domain {
		if !needed[name] && (string(value) == `""` || string(value) == "null") {
			delete(domain, name)
			changed = true
		}
	}
	if !changed {
		return raw, nil
	}
	text, err := json.Marshal(domain)
	if err != nil {
		return nil, err
	}
	data["domain"] = text
	return json.Marshal(data)
}
