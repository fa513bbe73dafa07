package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/tpm"
)

// maxPredicted bounds the states that are approved ahead of an update.
const maxPredicted = 8

// ErrPrediction is returned for a predicted state that cannot be approved.
var ErrPrediction = errors.New("this state cannot be approved ahead")

// prediction is a measured state that was approved before the host was in it.
type prediction struct {
	Approval   []byte `cbor:"1,keyasint"` // tpm.Approval, encoded
	ResetCount uint32 `cbor:"2,keyasint"` // of the TPM when it was made: which boot
	Created    int64  `cbor:"3,keyasint"` // Unix seconds
}

// ResealOptions say what to do with the states that are approved ahead.
type ResealOptions struct {
	Ask Prompt // for token.pin = "prompt" and "credential:"
	// PCRs are the values that an update will change; the others are taken
	// from the present. Empty: approve nothing.
	PCRs map[int][32]byte
	// Clear removes what was approved ahead before.
	Clear bool
	// Progress gets one line a state.
	Progress func(line string)
}

// Reseal approves a predicted measured state before a planned update, so that
// the host signs after it without the recovery code. The host must be in an
// approved state now and the daemon stopped. ErrPrediction.
func Reseal(ctx context.Context, c *config.Config, o ResealOptions) (err error) {
	if _, err := protect(); err != nil {
		return err
	}
	d, err := Open(ctx, c, Options{Ask: o.Ask, Logger: NewLogger(io.Discard, c.Log), command: true})
	if err != nil {
		return stopFirst(err)
	}
	m := &maintenance{Daemon: d, progress: o.Progress}
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := m.borrow(); err != nil {
		return err
	}
	if o.Clear && len(m.doc.Predicted) > 0 {
		m.doc.Predicted = nil
		if err := m.commit(ctx, "approvalRemoved", nil); err != nil {
			return err
		}
	}
	if len(o.PCRs) > 0 {
		if err := m.predict(ctx, o.PCRs); err != nil {
			return err
		}
	}
	return m.list(ctx)
}

// predict approves the present state with some PCRs replaced.
func (m *maintenance) predict(ctx context.Context, pcrs map[int][32]byte) error {
	if len(m.doc.Predicted) >= maxPredicted {
		return fmt.Errorf("%w: %d are already; remove them with --clear", ErrPrediction, maxPredicted)
	}
	profile, err := m.doc.profile()
	if err != nil {
		return err
	}
	values, err := m.devices.tpm.ReadPCRs(ctx, profile.PCRs())
	if err != nil {
		return err
	}
	changed := false
	for pcr, value := range pcrs {
		if _, ok := values[pcr]; !ok {
			return fmt.Errorf("%w: PCR %d is not one of those that this installation is bound to (%s)", ErrPrediction, pcr, profile.PCRs())
		}
		changed = changed || values[pcr] != value
		values[pcr] = value
	}
	if !changed {
		return fmt.Errorf("%w: the PCRs have these values now", ErrPrediction)
	}
	if err := checkMeasured(profile, values, m.config.TPM.Force); err != nil {
		return err
	}
	return m.approveAhead(ctx, profile, values)
}

func (m *maintenance) approveAhead(ctx context.Context, profile tpm.Profile, values tpm.PCRValues) error {
	signer, err := m.keys.Signer(hsm.Policy)
	if err != nil {
		return err
	}
	a, err := tpm.Approve(signer, m.doc.ID, profile, values)
	if err != nil {
		return err
	}
	data, err := a.MarshalBinary()
	if err != nil {
		return err
	}
	clock, err := m.devices.tpm.Clock(ctx)
	if err != nil {
		return err
	}
	m.doc.Predicted = append(m.doc.Predicted, prediction{Approval: data, ResetCount: clock.ResetCount, Created: time.Now().Unix()})
	return m.commit(ctx, "approvalAhead", map[string]string{"pcrs": pcrText(a.Values)})
}

// list says which states are approved, and what the present one is.
func (m *maintenance) list(ctx context.Context) error {
	values, err := m.devices.tpm.ReadPCRs(ctx, m.doc.PCRs)
	if err != nil {
		return err
	}
	m.say("present:  %s", pcrText(values))
	for _, a := range m.doc.Approvals {
		m.say("approved: %s", approvalText(a))
	}
	for _, p := range m.doc.Predicted {
		m.say("ahead:    %s", approvalText(p.Approval))
	}
	return nil
}

// profile is the one of the installation, whatever the configuration says now.
func (i *installation) profile() (tpm.Profile, error) {
	if i.Profile != tpm.ProfileList {
		return tpm.ParseProfile(i.Profile, nil, false)
	}
	return tpm.ParseProfile(i.Profile, i.PCRs, true)
}

func approvalText(data []byte) string {
	var a tpm.Approval
	if err := a.UnmarshalBinary(data); err != nil {
		return "unreadable"
	}
	return pcrText(a.Values)
}

// approvedText lists the approved states.
func (i *installation) approvedText() string {
	words := make([]string, len(i.Approvals))
	for n, a := range i.Approvals {
		words[n] = approvalText(a)
	}
	return strings.Join(words, "; ")
}

// settleApprovals runs at a good start. In a state that was approved ahead, that
// approval takes the place of all others; in an older one, approvals ahead that
// were made before the last boot are removed: the update did not come, or was
// taken back, and they are not left lying about.
func (d *Daemon) settleApprovals(ctx context.Context, mac macFunc) error {
	if len(d.doc.Predicted) == 0 {
		return nil
	}
	now, err := d.lines.tpm.tpm.ReadPCRs(ctx, d.doc.PCRs)
	if err != nil {
		return err
	}
	clock, err := d.lines.tpm.tpm.Clock(ctx)
	if err != nil {
		return err
	}
	next, action := settled(*d.doc, now, clock.ResetCount)
	if action == "" {
		return nil
	}
	return d.storeApprovals(ctx, mac, &next, action)
}

// settled gives the installation as it is to be in the present state and boot, and
// what that is called; "" when nothing changes. A list that changes is a copy.
func settled(i installation, now tpm.PCRValues, boot uint32) (next installation, action string) {
	for _, p := range i.Predicted {
		if describes(p.Approval, now) {
			i.Approvals, i.Predicted = [][]byte{p.Approval}, nil
			return i, "approvalPromoted"
		}
	}
	ofThisBoot := slices.DeleteFunc(slices.Clone(i.Predicted), func(p prediction) bool { return p.ResetCount != boot })
	if len(ofThisBoot) == len(i.Predicted) {
		return i, ""
	}
	i.Predicted = ofThisBoot
	return i, "approvalRemoved"
}

// describes reports whether an approval is of exactly these values.
func describes(approval []byte, now tpm.PCRValues) bool {
	var a tpm.Approval
	if err := a.UnmarshalBinary(approval); err != nil {
		return false
	}
	for pcr, value := range a.Values {
		if present, ok := now[pcr]; !ok || present != value {
			return false
		}
	}
	return len(a.Values) > 0
}

// storeApprovals audits and stores changed approvals, and only then has them in
// memory: after a failure the next try finds all to be done still.
func (d *Daemon) storeApprovals(ctx context.Context, mac macFunc, next *installation, action string) error {
	data, err := encodeInstallation(ctx, next, mac)
	if err != nil {
		return err
	}
	if err := d.auditOperator(ctx, action, map[string]string{"approved": next.approvedText()}); err != nil {
		return err
	}
	if err := d.db.Put(ctx, map[store.Document][]byte{store.Installation: data}); err != nil {
		return err
	}
	d.doc.Approvals, d.doc.Predicted = next.Approvals, next.Predicted
	d.log.Info("approved states changed", "action", action, "approved", next.approvedText())
	return nil
}
