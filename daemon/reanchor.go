package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/tpm"
)

// ownCounters gives a ledger's parts over the TPM's counters. Where the TPM does
// not have those that the guard root names, or the configuration wants others,
// they are defined anew.
func (m *maintenance) ownCounters(ctx context.Context) (*ledgerParts, error) {
	c, missing, err := m.findCounters(ctx, m.devices.tpm, m.mac)
	if err == nil && (missing != nil || !m.doc.Anchor.configured(m.config.Guard)) {
		c, err = m.reanchor(ctx)
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

// reanchor defines the counters that the configuration wants. Their place is
// made sure of first, and what will be defined is written down before it is, so
// that a run after one that was cut short knows its own from somebody else's.
// The caller anchors the database in them and then calls dropFormer.
func (m *maintenance) reanchor(ctx context.Context) (*counters, error) {
	next, last := newAnchor(m.config.Guard), *m.doc.Anchor
	next.Former, last.Former = last.Former, nil
	next.Former = append(slices.Clone(next.Former), last)
	root, err := m.guardRoot(ctx, m.mac)
	if err != nil {
		return nil, err
	}
	// The document may be an older one than the root: the root knows what
	// counted last.
	if id := root.AnchorName[len(root.AnchorName)-anchorIDSize:]; !bytes.Equal(id, last.ID) {
		next.Former = append(next.Former, anchor{Mode: next.Mode, Handle: next.Handle, Unclean: next.Unclean, ID: id})
	}
	ours := func(handle uint32) (bool, error) { return m.owns(ctx, next.Former, handle) }
	if err := next.free(ctx, m.devices.tpm, ours); err != nil {
		return nil, err
	}
	m.doc.Anchor = next
	if err := m.storeInstallation(ctx); err != nil {
		return nil, err
	}
	auth, err := next.auth(ctx, m.mac, m.doc.ID)
	defer clear(auth)
	if err != nil {
		return nil, err
	}
	return next.define(ctx, m.devices.tpm, auth)
}

func (m *maintenance) owns(ctx context.Context, definitions []anchor, handle uint32) (bool, error) {
	return ownsCounter(ctx, m.devices.tpm, definitions, m.mac, m.doc.ID, handle)
}

// ownsCounter says whether a counter of one of an installation's definitions is at an
// NV index.
func ownsCounter(ctx context.Context, t *tpm.TPM, definitions []anchor, mac macFunc, id seal.ID, handle uint32) (bool, error) {
	for n := range definitions {
		auth, err := definitions[n].auth(ctx, mac, id)
		if err != nil {
			return false, err
		}
		owned, err := t.OwnsCounter(ctx, handle, auth)
		clear(auth)
		if err != nil || owned {
			return owned, err
		}
	}
	return false, nil
}

// dropFormer removes the counters that nothing is anchored in any more.
func (m *maintenance) dropFormer(ctx context.Context) error {
	a := m.doc.Anchor
	if len(a.Former) == 0 {
		return nil
	}
	for _, former := range a.Former {
		for _, handle := range former.handles() {
			if slices.Contains(a.handles(), handle) {
				continue
			}
			owned, err := m.owns(ctx, a.Former, handle)
			if err == nil && owned {
				err = m.devices.tpm.UndefineCounter(ctx, handle)
			}
			if err != nil {
				return fmt.Errorf("the former NV index %#x: %w", handle, err)
			}
		}
	}
	a.Former = nil
	return m.storeInstallation(ctx)
}

func (m *maintenance) storeInstallation(ctx context.Context) error {
	document, err := encodeInstallation(ctx, m.doc, m.mac)
	if err != nil {
		return err
	}
	return m.db.Put(ctx, map[store.Document][]byte{store.Installation: document})
}

// epoch is what a recovery does to the guard root.
type epoch struct {
	number uint64 // the one that begins; 0: none does
	begin  func(ctx context.Context) error
	notes  []string // for the operator and the audit log
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
			[]string{"a new TPM cannot tell whether this database is the latest: each wallet keeps at most 3 attempts until its next right PIN"}}, nil
	}
	c, missing, err := m.findCounters(ctx, m.devices.tpm, m.mac)
	if err != nil {
		return nil, err
	}
	found, err := guard.Open(ctx, *m.counterParts(c, missing))
	if err != nil {
		return nil, err
	}
	s := found.Status()
	if s.Refused != nil {
		return &epoch{notes: []string{"PINs stay refused: " + s.Refused.Error()}}, nil
	}
	next := &epoch{number: s.Epoch + 1, begin: found.NextEpoch}
	if s.Start.Unclean {
		next.notes = append(next.notes, fmt.Sprintf("the TPM lost power without an orderly shutdown, its counter is %d steps ahead of the database: %d of %d starts that are allowed",
			s.Start.Jump, s.Unclean, guard.UncleanMax))
	}
	return next, nil
}

func (m *maintenance) onNewTPM(ctx context.Context) error {
	c, err := m.reanchor(ctx)
	if err != nil {
		return err
	}
	_, err = guard.Accept(ctx, *m.counterParts(c, nil))
	return errors.Join(err, m.dropFormer(ctx))
}
