package daemon

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sigild/sigild/daemon/entropy"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
	"github.com/sigild/sigild/tpm"
)

// The states of the daemon.
const (
	stateReady    = "ready"
	stateDegraded = "degraded" // something is missing, wallets can be used
	stateFailing  = "failing"  // wallets cannot be used
)

// condition is one row of the table of things that can be wrong.
type condition struct {
	reason  string
	failing bool
	works   string // what still works
	action  string // what an operator does
}

// The table. Documentation is generated from it.
func conditions() []condition {
	const nothing = "status; listing wallets is refused; nothing is charged"
	const unlocked = "wallets that are unlocked sign; nothing else; nothing is charged"
	return []condition{
		{"tokenAway", true, nothing, "plug the token in, or restore its network; the daemon takes it by itself"},
		{"tokenHangs", true, nothing, "look at the token and its module's log; service returns when the module answers"},
		{"tokenSlow", false, "everything, with fewer sessions; no new wallet or account while all of the P-256 keys hang", "look at the token and its module's log; a session is back when its call is"},
		{"tokenErrors", false, "what does not need the calls that fail; nothing is charged", "look at the detail, the token's and the module's log; the daemon rehearses all calls until they pass"},
		{"tokenErrors", true, "where a rehearsal cannot unwrap a wallet's keys or sign: at most wallets that are unlocked; nothing is charged", "as above"},
		{"tokenKeys", true, nothing, "put the right token in: this one does not have this installation's keys as they were made"},
		{"tokenPIN", true, nothing, "look at token.pin in the configuration and at what it names"},
		{"tokenRefused", true, nothing, "put the right PIN where token.pin points, or give it to `sigild recover` where the TPM keeps it; then restart"},
		{"tokenFault", true, nothing, "find out why the token signed wrongly or repeated a nonce; then stop sigild.socket and sigild.service, run `sigild clear-token-fault`, start both"},
		{"tpmAway", true, unlocked, "look whether another program holds the TPM, and at the kernel's log; the daemon takes it by itself"},
		{"tpmRefuses", true, unlocked, "look at the TPM's answer in the detail: a lock-out ends by itself or by the owner's tpm2_dictionarylockout"},
		{"tpmChanged", true, unlocked, "put the right TPM back and restart, or rebuild this host's part with the recovery code"},
		{"measuredState", true, unlocked, "start the approved system; or find the change that explains the PCRs, and bind the host to this state by `sigild recover` with the recovery code"},
		{tokenProbe, true, nothing, "the token is logged in and does not sign with the probe key: look at the detail, the token's and the module's log"},
		{tpmProbe, true, unlocked, "the TPM does not tell its clock: look at the detail and at the kernel's log"},
		{"databaseRefused", true, "looking at wallets; nothing that needs a PIN or changes one; nothing is charged", "stop sigild.socket and sigild.service and run `sigild check`: bring the right database back, or accept this one by `sigild check --accept`"},
		{databaseRead, true, "status; nothing is charged", "look at the disk: dmesg, df; then `sigild check`, while sigild is stopped, says whether the database is whole"},
		{databaseWrite, true, "looking at wallets; nothing that needs a PIN, signs or changes one; nothing is charged", "make room on the disk of the database, or mend it: df, dmesg; the daemon looks again by itself"},
		{auditLog, true, "looking at wallets; nothing is signed or changed, since nothing that was not audited leaves", "make room on the disk of the audit log, or mend it: df, dmesg; the daemon goes on by itself"},
		{"kms", false, "everything but new wallets", "look at the detail: network, credentials, clock, quota of KMS; the daemon asks again by itself, at least every 45 s"},
		{"entropy", false, "everything but new wallets", "look at the source that the detail names"},
	}
}

// conditionOf gives the row of a reason, the mildest where there are two.
func conditionOf(reason string) condition {
	for _, c := range conditions() {
		if c.reason == reason {
			return c
		}
	}
	return condition{reason: reason, failing: true, action: "see the log"}
}

// failingOf gives the row of a reason for a failing daemon.
func failingOf(reason string) condition {
	for _, c := range conditions() {
		if c.reason == reason && c.failing {
			return c
		}
	}
	return conditionOf(reason)
}

// finding is a condition that holds.
type finding struct {
	condition
	since  time.Time
	detail string
}

// health knows what is wrong. It touches no device. What it says is one and the
// same in sigild_status, the service manager's READY and STATUS, and the metrics.
type health struct {
	daemon *Daemon

	source *doubt   // the last creation failed because of it
	token  *doubt   // the token works, and answered a request with an error
	probed outcomes // how the daemon's own probes ended
	// changed has the probes asked now, and what is wrong told anew.
	changed chan struct{}
}

func newHealth(d *Daemon) *health {
	h := &health{daemon: d, changed: make(chan struct{}, 1)}
	h.source, h.token = newDoubt(d.log, h.hurry), newDoubt(d.log, h.hurry)
	return h
}

// hurry says that something changed of which somebody should be told.
func (h *health) hurry() { tell(h.changed) }

// findings lists everything that holds now.
func (h *health) findings() []finding { return append(h.reported(), h.doubts()...) }

// reported are the conditions that the devices' supervision and the guard
// report, and the failures of probes that neither they nor doubts explain.
func (h *health) reported() []finding {
	list := append(append(h.tokenFindings(), h.tpmFindings()...), h.guardFindings()...)
	return append(list, h.unexplained(append(h.doubts(), list...))...)
}

// doubts are what requests met. Of a token that is not in service its supervision
// says more: a request may have met the same fault a moment before.
func (h *health) doubts() (list []finding) {
	for _, d := range []*doubt{h.token, h.source} {
		found, _ := d.look()
		if found == nil || d == h.token && h.daemon.lines.token.State().Phase != hsm.Ready {
			continue
		}
		list = append(list, *found)
	}
	return list
}

// stateOf sums findings up.
func stateOf(found []finding) string {
	state := stateReady
	for _, f := range found {
		if f.failing {
			return stateFailing
		}
		state = stateDegraded
	}
	return state
}

func (h *health) tokenFindings() (list []finding) {
	d := h.daemon
	m := d.token.fault.look()
	if m != nil {
		list = append(list, finding{conditionOf("tokenFault"), m.Time, m.Reason})
	}
	s, reason := d.lines.token.State(), ""
	if s.Phase != hsm.Ready {
		reason = tokenReason(s)
	}
	if reason != "" && (reason != "tokenFault" || m == nil) {
		list = append(list, finding{conditionOf(reason), s.Since, s.Cause.Error()})
	}
	if hang := hangReason(s.Hang); hang != "" && reason != "tokenHangs" {
		list = append(list, finding{conditionOf(hang), s.Hang.Since, hungText(s.Hang)})
	}
	return list
}

// hangReason names what hanging calls mean; "" when there are none.
func hangReason(h hsm.Hang) string {
	switch {
	case h.All:
		return "tokenHangs"
	case h.Hung > 0:
		return "tokenSlow"
	}
	return ""
}

// tokenReason names why the token is not ready.
func tokenReason(s hsm.SupervisorState) string {
	switch {
	case s.Phase == hsm.Refused:
		return "tokenRefused"
	case errors.Is(s.Cause, hsm.ErrHung):
		return "tokenHangs"
	case errors.Is(s.Cause, ErrPINSource), errors.Is(s.Cause, os.ErrNotExist), errors.Is(s.Cause, os.ErrPermission):
		return "tokenPIN"
	case permanent(s.Cause):
		return "tokenKeys"
	case errors.Is(s.Cause, hsm.ErrWrongSignature):
		return "tokenFault"
	}
	return "tokenAway"
}

func (h *health) tpmFindings() []finding {
	open, since, _, cause := h.daemon.lines.tpm.gate.look()
	if open {
		return nil
	}
	return []finding{{conditionOf(tpmReason(cause)), since, cause.Error()}}
}

func tpmReason(cause error) string {
	switch {
	case errors.Is(cause, tpm.ErrPCRMismatch), errors.Is(cause, tpm.ErrApproval):
		return "measuredState"
	case errors.Is(cause, tpm.ErrSRKChanged), errors.Is(cause, tpm.ErrObjectForeign):
		return "tpmChanged"
	case errors.Is(cause, tpm.ErrUnavailable):
		return "tpmAway"
	}
	return "tpmRefuses"
}

// sourced takes note of how the mixing for a new wallet ended.
func (h *health) sourced(err error) {
	var failed *entropy.SourceError
	switch {
	case err == nil:
		h.source.end()
	case errors.As(err, &failed) && failed.Source == "kms":
		h.source.raise("kms", err, failed.Reason.Passing())
	case errors.As(err, &failed) && failed.Source != "token" && failed.Source != "tpm":
		h.source.raise("entropy", err, false)
	}
}

// tokenErred takes note of a request that the token answered with an error, while
// its supervision finds nothing wrong with it.
func (h *health) tokenErred(err error) {
	var failed *hsm.Error
	if errors.As(err, &failed) && h.daemon.token.fault.look() == nil && h.daemon.lines.token.State().Phase == hsm.Ready {
		h.token.raise("tokenErrors", failed, true)
	}
}

// report gives state and reasons for the wire.
func (h *health) report() (state string, reasons []ipc.StatusReason) {
	found := h.findings()
	for _, f := range found {
		reasons = append(reasons, ipc.StatusReason{Reason: f.reason, Since: ipc.At(f.since), Detail: f.detail,
			Works: f.works, Action: f.action})
	}
	return stateOf(found), reasons
}

func hungText(h hsm.Hang) string {
	text := fmt.Sprintf("%d of %d sessions wait for the module for longer than token.timeout", h.Hung, h.Sessions)
	if h.Signers {
		text += ", among them all of the P-256 keys"
	}
	return text
}

// ConditionsTable is the table of what can be wrong, in Markdown, for
// docs/faults.md.
func ConditionsTable() string {
	var b strings.Builder
	b.WriteString("## States\n\n`sigild_status` is `ready`, `degraded` (something is missing, wallets can be used) or\n" +
		"`failing` (wallets cannot be used), with a reason for each thing that is wrong.\n\n" +
		"| reason | state | what still works | what to do |\n|---|---|---|---|\n")
	for _, c := range conditions() {
		state := stateDegraded
		if c.failing {
			state = stateFailing
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", c.reason, state, c.works, c.action)
	}
	return b.String()
}
