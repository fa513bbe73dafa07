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
	Bad          []string `json:"bad,omitempty"`     // wallets, and requests, that were changed outside the daemon
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
	if _, err := protect(); err != nil {
		return nil, err
	}
	o.anchorMayDiffer, o.command = o.Accept, true
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
	reason, begin, err := m.acceptance(ctx, l)
	if err != nil {
		return nil, err
	}
	if err := m.auditGuard(ctx, "acceptDatabase", reason, l.Status()); err != nil {
		return nil, err
	}
	c, err := m.ownCounters(ctx)
	if err != nil {
		return nil, err
	}
	accepted, err := begin(ctx, *c)
	if err != nil {
		return nil, err
	}
	if err := m.dropFormer(ctx); err != nil {
		return nil, fmt.Errorf("the database is accepted: %w", err)
	}
	return &openLedger{ledger: accepted}, m.auditGuard(ctx, "acceptDatabase", "ok", accepted.Status())
}

// acceptance says why there is something to accept, and how.
func (m *maintenance) acceptance(ctx context.Context, l *openLedger) (string, func(context.Context, ledgerParts) (*ledger, error), error) {
	s := l.Status()
	found, err := l.VerifyAll(ctx)
	if err != nil && !errors.Is(err, guard.ErrTree) {
		return "", nil, err
	}
	switch {
	case s.Refused != nil:
		return s.Refused.Error(), guard.Accept[*store.Tx], nil
	case err != nil:
		return err.Error(), guard.Accept[*store.Tx], nil
	case found.Changed > 0:
		return fmt.Sprintf("%d wallets or requests were changed outside the daemon", found.Changed), guard.Accept[*store.Tx], nil
	case !m.doc.Anchor.configured(m.config.Guard):
		return "another anchor", l.Acknowledge, nil
	case s.Unclean > 0:
		return "unclean starts", l.Acknowledge, nil
	case len(m.doc.Anchor.Former) > 0:
		return "former counters", l.Acknowledge, nil
	}
	return "", nil, guard.ErrNothingToAccept
}

func (d *Daemon) report(ctx context.Context, l *openLedger) (*CheckReport, error) {
	s := l.Status()
	r := &CheckReport{Installation: hexText(d.doc.ID[:]), Mode: d.doc.Anchor.Mode, Database: s.Anchored, TPM: s.Counter,
		Step: s.Step, Epoch: s.Epoch, Unclean: s.Unclean}
	if s.Refused != nil {
		r.Refused = s.Refused.Error()
	}
	found, err := l.VerifyAll(ctx)
	if errors.Is(err, guard.ErrTree) {
		r.Refused = err.Error()
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("verify the wallets: %w", err)
	}
	r.Wallets = found.Wallets
	for _, id := range found.Bad {
		r.Bad = append(r.Bad, hexText(id[:]))
	}
	return r, nil
}
