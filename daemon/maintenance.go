package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sigild/sigild/daemon/audit"
	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/daemon/store"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/tpm"
)

// maintenance is an installation in the hands of an operator's command. No
// socket is open, and the lock on the database keeps the daemon out meanwhile.
type maintenance struct {
	*Daemon
	stored   *document // not verified until the token's keys are open
	devices  *devices
	keys     *hsm.Keys // of the newest generation; nil until openKeys or borrow
	progress func(line string)
}

// Close ends the command's hold on the installation.
func (m *maintenance) Close() error {
	if m.devices == nil || m.lines != nil {
		return m.Daemon.Close() // devices that were borrowed are the daemon's
	}
	return errors.Join(m.devices.close(), m.Daemon.Close())
}

// borrow takes over the devices of a daemon that was opened, which must work.
func (m *maintenance) borrow() error {
	state := m.lines.token.State()
	if state.Phase != hsm.Ready {
		return fmt.Errorf("the devices are not all there: %w", state.Cause)
	}
	c := m.lines.token.Last()
	m.devices = &devices{tpm: m.lines.tpm.tpm, token: c.Token, info: c.Info}
	m.keys = c.Keys(m.doc.newest())
	return nil
}

// openKeys opens every generation of a token that is logged in, and then
// verifies what was read from the database so far.
func (m *maintenance) openKeys(ctx context.Context) error {
	for _, g := range m.doc.Generations {
		keys, err := openGeneration(ctx, m.devices.token, m.doc.ID, g)
		if err != nil {
			return err
		}
		m.keys = keys
	}
	if err := m.stored.verify(ctx, m.mac); err != nil {
		return err
	}
	return m.checkRoot(ctx, m.mac)
}

// mac authenticates by the newest record key.
func (m *maintenance) mac(ctx context.Context, message []byte) ([32]byte, error) {
	return m.keys.HMAC(ctx, hsm.Record, message)
}

// openMaintenance opens database, devices and audit log; the token is not
// logged in, and the TPM may be in any state.
func openMaintenance(ctx context.Context, c *config.Config, progress func(string)) (_ *maintenance, err error) {
	if _, err := protect(); err != nil {
		return nil, err
	}
	m := &maintenance{Daemon: &Daemon{config: c}, progress: progress}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.db, err = openStore(c.Store.Path); err != nil {
		return nil, stopFirst(err)
	}
	if m.stored, err = m.readInstallation(ctx); err != nil {
		return nil, err
	}
	if m.devices, err = openDevices(ctx, c); err != nil {
		return nil, err
	}
	m.audit, err = audit.Open(c.Audit.Path)
	return m, err
}

func stopFirst(err error) error {
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%w: stop it first: systemctl stop sigild.socket sigild.service", err)
	}
	return err
}

func (m *maintenance) say(format string, args ...any) {
	if m.progress != nil {
		m.progress(fmt.Sprintf(format, args...))
	}
}

// commit audits what an operator did and then stores the changed installation.
func (m *maintenance) commit(ctx context.Context, action string, detail map[string]string) error {
	if err := m.auditOperator(ctx, action, detail); err != nil {
		return err
	}
	return m.storeInstallation(ctx)
}

// auditOperator writes that this process, and so its user, did something to the
// installation as a whole.
func (d *Daemon) auditOperator(ctx context.Context, action string, detail map[string]string) error {
	return d.audit.Write(ctx, audit.Entry{Time: time.Now().UTC(), Action: action, UID: uint32(os.Geteuid()),
		PID: int32(os.Getpid()), Result: "ok", Detail: detail})
}

// pcrText writes PCR values as "7=HEX 11=HEX", ascending.
func pcrText(values tpm.PCRValues) string {
	words := make([]string, 0, len(values))
	for _, pcr := range slices.Sorted(maps.Keys(values)) {
		value := values[pcr]
		words = append(words, fmt.Sprintf("%d=%x", pcr, value[:]))
	}
	return strings.Join(words, " ")
}
