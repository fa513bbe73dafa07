package daemon

import (
	"context"
	"encoding/json"
	"mime"

	"github.com/ethereum/go-ethereum/accounts"

	"github.com/sigild/sigild/daemon/eth"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

// accountSignData signs data of each of go-ethereum's content types, in the shapes
// that Clef took.
func (d *Daemon) accountSignData(ctx context.Context, c *clientCall) (any, error) {
	text, err := ipc.DecodeArg[string](c.args[0], "contentType")
	if err != nil {
		return nil, err
	}
	contentType, _, err := mime.ParseMediaType(text)
	if err != nil {
		contentType = ""
	}
	address, data := c.args[1], c.args[2]
	switch contentType {
	case accounts.MimetypeTextPlain:
		return d.signMessageBy(ctx, c.peer, address, data)
	case accounts.MimetypeTypedData:
		raw, err := objectArg(data)
		if err != nil {
			return nil, err
		}
		return d.signTyped(ctx, c.peer, address, raw)
	case accounts.MimetypeDataWithValidator:
		raw, err := objectArg(data)
		if err != nil {
			return nil, err
		}
		return d.signPayloadBy(ctx, c.peer, address, func() (*payload, error) { return validatorDataPayload(raw) })
	case accounts.MimetypeClique:
		header, err := ipc.DecodeArg[ipc.Hex](data, "data")
		if err != nil {
			return nil, err
		}
		return d.signPayloadBy(ctx, c.peer, address, func() (*payload, error) { return cliqueHeaderPayload(header) })
	}
	return nil, ipc.InvalidParams("contentType", "must be text/plain, data/typed, data/validator or application/x-clique-header")
}

// objectArg takes an object, or its JSON text in hexadecimal, which is all that
// go-ethereum's client sends.
func objectArg(data json.RawMessage) (json.RawMessage, error) {
	if data[0] == '{' {
		return data, nil
	}
	text, err := ipc.DecodeArg[ipc.Hex](data, "data")
	return json.RawMessage(text), err
}

func (d *Daemon) signPayloadBy(ctx context.Context, peer wallet.Peer, address json.RawMessage, read func() (*payload, error)) (any, error) {
	a, err := addressArg(address)
	if err != nil {
		return nil, err
	}
	p, err := read()
	if err != nil {
		return nil, err
	}
	return signatureOf(d.signBy(ctx, peer, a, p))
}

func validatorDataPayload(raw json.RawMessage) (*payload, error) {
	digest, facts, err := eth.ValidatorDataDigest(raw)
	if err != nil {
		return nil, err
	}
	p := &payload{digest: digest, facts: facts}
	p.show = p.showMessage
	return p, nil
}

// cliqueHeaderPayload is signed with v 0 or 1, as a header carries it.
func cliqueHeaderPayload(encoded []byte) (*payload, error) {
	digest, facts, err := eth.CliqueHeaderDigest(encoded)
	if err != nil {
		return nil, err
	}
	p := &payload{digest: digest, facts: facts}
	p.show = func(s *wallet.Signed, to *ipc.BatchSignature) error {
		if err := p.showMessage(s, to); err != nil {
			return err
		}
		to.Signature[len(to.Signature)-1] = s.RecoveryID
		return nil
	}
	return p, nil
}
