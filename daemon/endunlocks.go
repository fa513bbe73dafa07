package daemon

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/sigild/sigild/daemon/wallet"
)

// errStopping is why unlocks end at a stop.
var errStopping = errors.New("the daemon stops")

// endTime is how long the line about unlocks that the daemon ends may take.
const endTime = 5 * time.Second

// self is this process in the audit log.
func self() wallet.Peer {
	return wallet.Peer{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PID: int32(os.Getpid())}
}

// endUnlocks ends every unlock at a stop. No request is under way any more.
func (d *Daemon) endUnlocks() {
	if d.wallets == nil {
		return
	}
	d.finishUnlocks(d.wallets.CloseUnlocks(errStopping))
	d.ending.Wait()
}

// refused ends every unlock for good when the ledger finds the database not to be
// the latest: another daemon may run on a copy in which they were never made, or
// in which the wallet is frozen. The ledger calls it, and is not kept waiting.
// Before the ledger serves there is no unlock, and another try may open it.
func (d *Daemon) refused(reason error) {
	if d.guarded.opened.Load() == nil {
		return
	}
	finish := d.wallets.CloseUnlocks(reason)
	d.ending.Go(func() { d.finishUnlocks(finish) })
}

func (d *Daemon) finishUnlocks(finish func(context.Context, wallet.Peer) error) {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	if err := finish(ctx, self()); err != nil {
		d.log.Error("the end of the unlocks has no line in the audit log", "error", err)
	}
}

// serves says whether a uid may use the daemon, by the latest configuration.
func (d *Daemon) serves(uid uint32) bool {
	return slices.Contains(ownAndRoot(d.settings().Socket.Allow), uid)
}

// lockOthers ends the unlocks of uids that a reload took out. They are let in no
// more, but could come back by another reload and find them.
func (d *Daemon) lockOthers() {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	n, err := d.wallets.LockUIDs(ctx, self(), func(uid uint32) bool { return !d.serves(uid) })
	if n > 0 {
		d.log.Warn("ended the unlocks of uids that are not allowed any more", "wallets", n)
	}
	if err != nil {
		d.log.Error("the end of these unlocks has no line in the audit log", "error", err)
	}
}
