package daemon

import (
	"context"
	"fmt"

	"github.com/sigild/sigild/daemon/store"
)

// makeAnchor defines the TPM's counters, whose place is made sure of before.
func (p *provisioning) makeAnchor(ctx context.Context) error {
	if err := p.placeAnchor(ctx); err != nil {
		return err
	}
	auth, err := p.doc.Anchor.auth(ctx, p.mac, p.doc.ID)
	defer clear(auth)
	if err != nil {
		return err
	}
	p.anchor, err = p.doc.Anchor.define(ctx, p.devices.tpm, auth)
	if err == nil {
		p.say("TPM: %s counter at NV index %#x", p.doc.Anchor.Mode, p.doc.Anchor.Handle)
	}
	return err
}

// placeAnchor decides which counters will be defined. A repeated run takes nothing for
// granted: another installation may have taken the place since, and the operator may
// have configured another, because the TPM had no room for the first.
func (p *provisioning) placeAnchor(ctx context.Context) error {
	begun := p.doc.Anchor
	if begun != nil && begun.configured(p.config.Guard) {
		return begun.free(ctx, p.devices.tpm, p.owned(ctx, begun))
	}
	next := newAnchor(p.config.Guard)
	if err := next.free(ctx, p.devices.tpm, p.owned(ctx, begun)); err != nil {
		return err
	}
	if err := p.dropBegun(ctx, begun); err != nil {
		return err
	}
	return p.writeAnchor(ctx, next)
}

// owned tells the counters of a definition that was begun, if any was, from somebody
// else's, by their authorisation.
func (p *provisioning) owned(ctx context.Context, begun *anchor) func(handle uint32) (bool, error) {
	var definitions []anchor
	if begun != nil {
		definitions = []anchor{*begun}
	}
	return func(handle uint32) (bool, error) {
		return ownsCounter(ctx, p.devices.tpm, definitions, p.mac, p.doc.ID, handle)
	}
}

// dropBegun removes what an earlier run defined. Nothing is anchored in it.
func (p *provisioning) dropBegun(ctx context.Context, begun *anchor) error {
	if begun == nil {
		return nil
	}
	owned := p.owned(ctx, begun)
	for _, handle := range begun.handles() {
		own, err := owned(handle)
		if err == nil && own {
			err = p.devices.tpm.UndefineCounter(ctx, handle)
		}
		if err != nil {
			return fmt.Errorf("NV index %#x of an earlier run: %w", handle, err)
		}
	}
	return nil
}

// writeAnchor writes down what will be defined before it is, so that a repeated run
// knows its own from somebody else's.
func (p *provisioning) writeAnchor(ctx context.Context, a *anchor) error {
	data, err := encodeInstallation(ctx, &installation{ID: p.doc.ID, Created: p.doc.Created, Anchor: a}, nil)
	if err != nil {
		return err
	}
	if err := p.db.Put(ctx, map[store.Document][]byte{store.Installation: data}); err != nil {
		return err
	}
	p.doc.Anchor = a
	return nil
}
