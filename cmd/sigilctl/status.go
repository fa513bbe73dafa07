package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

// ready is the state of a daemon that lacks nothing.
const ready = "ready"

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the state of the daemon and its devices; exit code 4 unless it is ready",
		Args:  arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			s, raw, err := query[ipc.StatusResult](c.Context(), a, ipc.MethodStatus, ipc.StatusParams{})
			if err != nil {
				return err
			}
			if err := a.print(raw, func() string { return statusText(s) }); err != nil {
				return err
			}
			if s.State != ready {
				f := fail(exitUnavailable, reasonNotReady, nextFor(s), "sigild is not ready: %s", s.State)
				f.answered = true
				return f
			}
			return nil
		},
	}
}

// nextFor says where to go on reading.
func nextFor(s *ipc.StatusResult) string {
	if len(s.Reasons) == 0 {
		return "journalctl -u sigild"
	}
	return `what stands at "do" above; the runbook has more, and journalctl -u sigild`
}

// statusText says first what matters first: the state, what is wrong and what to
// do about it, then what to know.
func statusText(s *ipc.StatusResult) string {
	var t sheet
	t.add("state", s.State)
	for _, r := range s.Reasons {
		t.addf("wrong", "%s, since %s", r.Reason, moment(r.Since))
		t.add("  detail", oneLine(r.Detail))
		t.add("  still works", oneLine(r.Works))
		t.add("  do", oneLine(r.Action))
	}
	if s.Dev {
		t.add("note", "DEVELOPMENT ONLY: no wallet on this host is safe")
	}
	if s.APIVersion != ipc.APIVersion {
		t.addf("note", "the daemon speaks API %s, this program %s", s.APIVersion, ipc.APIVersion)
	}
	for _, note := range s.Notes {
		t.add("note", note)
	}
	t.addf("wallets", "%d", s.Wallets)
	t.addf("daemon", "sigild %s, API %s", s.Version, s.APIVersion)
	t.add("installation", s.Installation.String())
	t.add("identity key", s.IdentityKey.String())
	t.add("token", tokenText(s.Token))
	t.add("token keys", joined(", ", "custody "+s.Token.Custody, enforcedBy(s.Token.Enforcement),
		"wrap mechanism "+s.Token.WrapMechanism, fmt.Sprint("generation ", s.Token.Generation)))
	t.addf("TPM", "%s, profile %s, PCRs %s", tpmText(s.TPM), s.TPM.PCRProfile, numbers(s.TPM.PCRs))
	t.add("randomness", strings.Join(s.Entropy.Sources, ", "))
	t.add("left out", strings.Join(s.Entropy.Dropped, ", "))
	t.add("PIN check", pinCheckText(s.PINCheck))
	t.add("custody", custodyText(s.Custody))
	t.add("confined", landlockText(s.Landlock))
	return t.String()
}

// oneLine joins the lines of a device's words.
func oneLine(text string) string { return strings.Join(strings.Split(text, "\n"), "; ") }

// notSeen is what there is to say of a device that was away since the start.
const notSeen = "not seen since the daemon started"

func tpmText(p ipc.TPMStatus) string {
	if p.Manufacturer == "" && p.Firmware == "" {
		return notSeen
	}
	return p.Manufacturer + ", firmware " + p.Firmware
}

func tokenText(k ipc.TokenStatus) string {
	if k.Manufacturer == "" && k.Model == "" && k.Firmware == "" {
		return notSeen
	}
	serial := k.Serial
	if serial != "" {
		serial = "serial " + serial
	}
	return joined(", ", joined(" ", k.Manufacturer, k.Model), "firmware "+k.Firmware, serial)
}

func enforcedBy(who string) string {
	if who == "" {
		return ""
	}
	return "enforced by the " + who
}

func pinCheckText(p ipc.PINCheckStatus) string {
	parts := []string{"Argon2id " + p.Argon2}
	if p.Anchor != "" {
		parts = append(parts, "anchor "+p.Anchor)
	}
	if p.Failures > 0 {
		parts = append(parts, fmt.Sprintf("locked after %d wrong PINs", p.Failures))
	}
	if p.PlainPIN {
		return strings.Join(append(parts, "this user may send plain PINs"), ", ")
	}
	return strings.Join(append(parts, "this user may not send plain PINs"), ", ")
}

// custodyText is empty where nothing is allowed and the token can do nothing, as
// with a daemon that is too old to tell.
func custodyText(c ipc.CustodyStatus) string {
	if c == (ipc.CustodyStatus{}) {
		return ""
	}
	return abilityText("import", c.Import) + "; " + abilityText("export", c.Export)
}

// abilityText says both whether the operator allows it and whether the token can.
func abilityText(what string, c ipc.CustodyAbility) string {
	allowed, able := "not allowed", "the token cannot"
	if c.Allowed {
		allowed = "allowed"
	}
	if c.Able {
		able = "the token can"
	}
	return fmt.Sprintf("%s %s, %s", what, allowed, able)
}

func landlockText(l ipc.LandlockStatus) string {
	if l.ABI == 0 {
		return "" // a note says why, or the daemon is too old to tell
	}
	return fmt.Sprintf("by Landlock ABI %d: %s", l.ABI, strings.Join(l.Restricts, ", "))
}

func numbers(list []int) string { return strings.Trim(fmt.Sprint(list), "[]") }
