package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/store"
)

// CheckReport is what `sigild check` found.
type CheckReport struct {
	Installation string   `json:"installation"`
	Mode         string   `json:"anchor"`        // "orderly" or "durable"
	Database     uint64   `json:"database"`      // the counter's value that the database names
	TPM          uint64   `json:"tpm"`           // the TPM's own; 0 when it has no such counter
	Step         uint64   `json:"step"`          // anchored changes since provisioning
	Epoch        uint64   `json:"epoch"`         // 1, and one more for each acceptance and recovery
	Unclean      uint64   `json:"uncleanStarts"` // since the last acknowledgement
	Wallets      int      `json:"wallets"`
	Bad          []string `json:"bad,omitempty"`     // wallets that were changed outside the daemon
	Refused      string   `json:"refused,omitempty"` // why PINs are refused
	Accepted     bool     `json:"accepted"`
}

// Healthy says whether the daemon would serve everything.
func (r *CheckReport) Healthy() bool { return r.Refused == "" && len(r.Bad) == 0 }

// CheckOptions are what a check gets from its command.
type CheckOptions struct {
	Options
	// Accept declares the database to be the latest, as it is.
	Accept bool
}

// Check compares the database with the TPM and verifies every wallet. It needs
// the daemon to be stopped, and is a start of its own: a last change that was
// not anchored is anchored now. With Accept a database that is not the latest
// is declared to be, and unclean starts are acknowledged, which the audit log
// records.
func Check(ctx context.Context, c *config.Config, o CheckOptions) (_ *CheckReport, err error) {
	o.anchorMayDiffer = o.Accept
	d, err := Open(ctx, c, o.Options)
	if err != nil {
		return nil, stopFirst(err)
	}
	m := &maintenance{Daemon: d}
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := m.borrow(); err != nil {
		return nil, err
	}
	l, err := d.guarded.get(ctx)
	if err != nil {
		return nil, err
	}
	if o.Accept {
		if l, err = m.accept(ctx, l); err != nil {
			return nil, err
		}
	}
	r, err := d.report(ctx, l)
	if err != nil {
		return nil, err
	}
	r.Accepted = o.Accept
	return r, nil
}

// accept writes down what is accepted, and then accepts it. Counters that the
// TPM does not have any more, or that the configuration names anew, are defined.
func (m *maintenance) accept(ctx context.Context, l *openLedger) (*openLedger, error) {
	s, reason := l.Status(), "unclean starts"
	change := *m.doc.Anchor != *newAnchor(m.config.Guard)
	switch {
	case s.Refused != nil:
		reason = s.Refused.Error()
	case change:
		reason = "another anchor"
	case s.Unclean == 0:
		return nil, guard.ErrNothingToAccept
	}
	if err := m.auditGuard(ctx, "acceptDatabase", reason, s); err != nil {
		return nil, err
	}
	if change {
		if err := m.changeAnchor(ctx); err != nil {
			return nil, err
		}
	}
	c, err := m.ownCounters(ctx)
	if err != nil {
		return nil, err
	}
	begin := guard.Anew[*store.Tx]
	if s.Refused != nil {
		begin = guard.Accept
	}
	accepted, err := begin(ctx, *c)
	if err != nil {
		return nil, err
	}
	return &openLedger{ledger: accepted}, m.auditGuard(ctx, "acceptDatabase", "ok", accepted.Status())
}

// changeAnchor writes down the anchor that the configuration wants and takes the
// old one's counters away. The ledger then lacks its counters, and accepting the
// database defines them.
func (m *maintenance) changeAnchor(ctx context.Context) error {
	next := newAnchor(m.config.Guard)
	root, err := m.guardRoot(ctx, m.mac)
	if err != nil {
		return err
	}
	auth, err := nvAuth(ctx, m.mac, m.doc.ID)
	defer clear(auth)
	if err != nil {
		return err
	}
	if err := m.doc.Anchor.remove(ctx, m.devices.tpm, auth, root); err != nil {
		return err
	}
	if err := next.free(ctx, m.devices.tpm); err != nil {
		return err
	}
	m.doc.Anchor = next
	document, err := encodeInstallation(ctx, m.doc, m.mac)
	if err != nil {
		return err
	}
	return m.db.Put(ctx, map[store.Document][]byte{store.Installation: document})
}

func (d *Daemon) report(ctx context.Context, l *openLedger) (*CheckReport, error) {
	s := l.Status()
	r := &CheckReport{Installation: hexText(d.doc.ID[:]), Mode: d.doc.Anchor.Mode, Database: s.Anchored, TPM: s.Counter,
		Step: s.Step, Epoch: s.Epoch, Unclean: s.Unclean}
	if s.Refused != nil {
		r.Refused = s.Refused.Error()
	}
	found, err := l.VerifyAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify the wallets: %w", err)
	}
	r.Wallets = found.Wallets
	for _, id := range found.Bad {
		r.Bad = append(r.Bad, hexText(id[:]))
	}
	return r, nil
}
