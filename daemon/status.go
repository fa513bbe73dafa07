package daemon

import (
	"context"
	"fmt"
	"slices"

	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/daemon/wipe"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
)

// identityKey is the public half of the installation's identity key: the
// uncompressed point, 65 bytes (SEC 1). Until the token was seen there is none.
func (d *Daemon) identityKey() []byte {
	key := d.identity.Load()
	if key == nil {
		return nil
	}
	b, err := key.Bytes()
	if err != nil { // it was checked to be on the curve when it was opened
		return nil
	}
	return b
}

// status answers without touching a device, and also where the database cannot
// be read: that is the time when somebody asks.
func (d *Daemon) status(ctx context.Context, c *call[ipc.StatusParams]) (*ipc.StatusResult, error) {
	wallets, err := d.db.Count(ctx)
	if err != nil && ctx.Err() == nil {
		d.health.probed.set(databaseRead, err)
	}
	k := d.config.PIN
	state, reasons := d.health.report()
	return &ipc.StatusResult{
		APIVersion: ipc.APIVersion, Version: d.options.Version, State: state, Reasons: reasons, Dev: d.config.Dev,
		Installation: d.doc.ID[:], IdentityKey: d.identityKey(),
		Token: d.tokenStatus(), TPM: d.tpmStatus(),
		Entropy: ipc.EntropyStatus{Sources: d.mixer.Sources(), Dropped: d.config.Entropy.Drop},
		Wallets: int(wallets),
		PINCheck: ipc.PINCheckStatus{Argon2: fmt.Sprintf("m=%d,t=%d,p=%d", k.Memory, k.Time, k.Threads),
			Anchor: d.doc.Anchor.Mode, Failures: int(k.Consecutive), PlainPIN: d.plainPIN(c.peer.UID)},
		Custody:  d.custodyStatus(),
		Landlock: d.landlockStatus(),
		Notes:    append(guardNotes(d.guarded.status()), d.notes()...),
	}, nil
}

func (d *Daemon) tokenStatus() ipc.TokenStatus {
	status := ipc.TokenStatus{Custody: string(d.token.Custody()),
		WrapMechanism: fmt.Sprintf("%#x", d.token.Mechanism()), Generation: int(d.token.newest.Token)}
	if c := d.lines.token.Last(); c != nil {
		i := c.Info
		status.Model, status.Manufacturer, status.Serial, status.Firmware = i.Model, i.Manufacturer, i.Serial, i.FirmwareVersion
		status.Enforcement = c.Keys(d.token.newest.Token).Enforcement()
	}
	return status
}

func (d *Daemon) tpmStatus() ipc.TPMStatus {
	status := ipc.TPMStatus{PCRProfile: d.doc.Profile, PCRs: slices.Clone(d.doc.PCRs)}
	if chip := d.lines.tpm.chip.Load(); chip != nil {
		status.Manufacturer, status.Firmware = chip.Manufacturer, chip.FirmwareVersion
	}
	return status
}

// notes say in plain words which promise is weaker on this host than it could be.
func (d *Daemon) notes() []string {
	var notes []string
	if d.config.Dev {
		notes = append(notes, "this is a throw-away development installation")
	}
	if d.token.Custody() == seal.CustodySoftwareToken {
		notes = append(notes, "the token is software: its keys are in this process's memory while they are used")
	}
	if e := d.tokenStatus().Enforcement; e != "" && e != hsm.EnforcedByToken {
		notes = append(notes, "the token does not enforce unwrap templates ("+e+"): whoever has its user PIN and a wrapped key can read the key")
	}
	notes = append(append(append(notes, d.custodyNotes()...), d.memoryNotes()...), d.landlockNotes()...)
	if refusal := d.token.unfed.Load(); refusal != nil {
		notes = append(notes, "the token's own generator is not fed with the mixed randomness: "+refusal.Error())
	}
	for _, name := range d.config.Entropy.Drop {
		notes = append(notes, "new wallets are made without randomness from "+name)
	}
	return notes
}

// memoryNotes say what keeps secrets in memory longer than they must be.
func (d *Daemon) memoryNotes() (notes []string) {
	if !d.memoryLocked {
		notes = append(notes, "this process's memory may be swapped out: give the service LimitMEMLOCK=infinity, or turn swap off")
	}
	if !wipe.Enabled() {
		notes = append(notes, "this build does not erase what libraries leave of secrets: build with GOEXPERIMENT=runtimesecret, as make does")
	}
	return notes
}
