package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/sigild/sigild/daemon/audit"
	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/tpm"
)

// CheckReport is what `sigild check` found.
type CheckReport struct {
	Installation string   `json:"installation"`
	Mode         string   `json:"anchor"`        // "orderly" or "durable"
	Database     uint64   `json:"database"`      // the counter's value that the database names
	TPM          uint64   `json:"tpm"`           // the TPM's own; 0 when it has no such counter
	Step         uint64   `json:"step"`          // anchored changes since provisioning
	Epoch        uint64   `json:"epoch"`         // 1, and one more for each accepted older copy
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
	d := &Daemon{config: c, options: o.Options, log: o.Logger}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.openKeysOnly(ctx); err != nil {
		return nil, err
	}
	if d.audit, err = audit.Open(c.Audit.Path); err != nil {
		return nil, err
	}
	if err := d.changeAnchor(ctx, o.Accept); err != nil {
		return nil, err
	}
	if err := d.openLedger(ctx); err != nil {
		return nil, err
	}
	s := d.ledger.Status()
	accepted := o.Accept && (s.Refused != nil || s.Unclean > 0)
	if o.Accept && !accepted {
		return nil, guard.ErrNothingToAccept
	}
	if accepted {
		if err := d.accept(ctx, s); err != nil {
			return nil, err
		}
	}
	r, err := d.report(ctx)
	if err != nil {
		return nil, err
	}
	r.Accepted = accepted
	return r, nil
}

// openKeysOnly opens what the ledger needs: database, TPM, token.
func (d *Daemon) openKeysOnly(ctx context.Context) (err error) {
	if d.db, err = openStore(d.config.Store.Path); err != nil {
		return err
	}
	doc, err := d.readInstallation(ctx)
	if err != nil {
		return err
	}
	if d.devices, err = openDevices(ctx, d.config); err != nil {
		return err
	}
	if err := d.unlockToken(ctx); err != nil {
		return err
	}
	return d.openKeys(ctx, doc)
}

// accept writes down what is accepted, and then accepts it. Counters that the
// TPM does not have any more are defined anew.
func (d *Daemon) accept(ctx context.Context, s guard.Status) error {
	reason := "unclean starts"
	if s.Refused != nil {
		reason = s.Refused.Error()
	}
	if err := d.auditGuard(ctx, "acceptDatabase", reason, s); err != nil {
		return err
	}
	c, err := d.guardConfig(ctx)
	if err != nil {
		return err
	}
	if c.Missing != nil {
		if c, err = d.defineAnew(ctx); err != nil {
			return err
		}
	}
	if d.ledger, err = guard.Accept(ctx, *c); err != nil {
		return err
	}
	return d.auditGuard(ctx, "acceptDatabase", "ok", d.ledger.Status())
}

// changeAnchor writes down the anchor that the configuration wants and takes the
// old one's counters away. The ledger then lacks its counters, and accepting the
// database defines them.
func (d *Daemon) changeAnchor(ctx context.Context, accept bool) error {
	old, next := *d.doc.Anchor, newAnchor(d.config.Guard)
	if !accept || old == *next {
		return nil
	}
	for _, handle := range []uint32{old.Handle, old.Unclean} {
		if handle == 0 {
			continue
		}
		if err := d.devices.tpm.UndefineCounter(ctx, handle); err != nil && !errors.Is(err, tpm.ErrCounterMissing) {
			return err
		}
	}
	if err := next.free(ctx, d.devices.tpm); err != nil {
		return err
	}
	d.doc.Anchor = next
	document, err := encodeInstallation(ctx, d.doc, d.token.RecordMAC)
	if err != nil {
		return err
	}
	return d.db.Put(ctx, map[store.Document][]byte{store.Installation: document})
}

func (d *Daemon) defineAnew(ctx context.Context) (*ledgerParts, error) {
	auth, err := nvAuth(ctx, d.token.RecordMAC, d.doc.ID)
	defer clear(auth)
	if err != nil {
		return nil, err
	}
	c, err := d.doc.Anchor.define(ctx, d.devices.tpm, auth)
	if err != nil {
		return nil, err
	}
	return d.ledgerConfig(c, nil), nil
}

func (d *Daemon) report(ctx context.Context) (*CheckReport, error) {
	s := d.ledger.Status()
	r := &CheckReport{Installation: hexText(d.doc.ID[:]), Mode: d.doc.Anchor.Mode, Database: s.Anchored, TPM: s.Counter,
		Step: s.Step, Epoch: s.Epoch, Unclean: s.Unclean}
	if s.Refused != nil {
		r.Refused = s.Refused.Error()
	}
	found, err := d.ledger.VerifyAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify the wallets: %w", err)
	}
	r.Wallets = found.Wallets
	for _, id := range found.Bad {
		r.Bad = append(r.Bad, hexText(id[:]))
	}
	return r, nil
}
