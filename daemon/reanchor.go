package daemon

import (
	"context"

	"github.com/sigild/sigild/daemon/guard"
)

// ownCounters gives a ledger's parts over the TPM's counters, which are defined
// where the TPM does not have them any more.
func (m *maintenance) ownCounters(ctx context.Context) (*ledgerParts, error) {
	c, missing, err := m.findCounters(ctx, m.devices.tpm, m.mac)
	if err == nil && missing != nil {
		c, err = m.defineAnew(ctx)
	}
	if err != nil {
		return nil, err
	}
	return m.counterParts(c, nil), nil
}

func (m *maintenance) counterParts(c *counters, missing error) *ledgerParts {
	parts := m.ledgerParts(c, missing, m.mac)
	parts.Resets = func(ctx context.Context) (uint32, error) {
		clock, err := m.devices.tpm.Clock(ctx)
		return clock.ResetCount, err
	}
	return parts
}

// defineAnew defines the counters. One of them that is there from an
// interrupted run is defined again; an NV index of somebody else is an error.
func (m *maintenance) defineAnew(ctx context.Context) (*counters, error) {
	root, err := m.guardRoot(ctx, m.mac)
	if err != nil {
		return nil, err
	}
	auth, err := nvAuth(ctx, m.mac, m.doc.ID)
	defer clear(auth)
	if err != nil {
		return nil, err
	}
	if err := m.doc.Anchor.remove(ctx, m.devices.tpm, auth, root); err != nil {
		return nil, err
	}
	if err := m.doc.Anchor.free(ctx, m.devices.tpm); err != nil {
		return nil, err
	}
	return m.doc.Anchor.define(ctx, m.devices.tpm, auth)
}

// epoch is what a recovery does to the guard root.
type epoch struct {
	number uint64 // the one that begins; 0: none does
	begin  func(ctx context.Context) (*ledger, error)
	note   string // for the operator
}

// nextEpoch prepares the epoch that a recovery begins. On the TPM that counted
// so far the database must be the latest, or nothing begins and PINs stay
// refused. With another TPM nothing can be compared: it counts as an older copy.
func (m *maintenance) nextEpoch(ctx context.Context, newTPM bool) (*epoch, error) {
	root, err := m.guardRoot(ctx, m.mac)
	if err != nil {
		return nil, err
	}
	if newTPM {
		return &epoch{root.Epoch + 1, m.onNewTPM,
			"a new TPM cannot tell whether this database is the latest: each wallet keeps at most 3 attempts until its next right PIN"}, nil
	}
	c, missing, err := m.findCounters(ctx, m.devices.tpm, m.mac)
	if err != nil {
		return nil, err
	}
	parts := m.counterParts(c, missing)
	found, err := guard.Open(ctx, *parts)
	if err != nil {
		return nil, err
	}
	if refused := found.Status().Refused; refused != nil {
		return &epoch{note: "PINs stay refused: " + refused.Error()}, nil
	}
	again := func(ctx context.Context) (*ledger, error) { return guard.Anew(ctx, *parts) }
	return &epoch{number: found.Status().Epoch + 1, begin: again}, nil
}

func (m *maintenance) onNewTPM(ctx context.Context) (*ledger, error) {
	parts, err := m.ownCounters(ctx)
	if err != nil {
		return nil, err
	}
	return guard.Accept(ctx, *parts)
}
