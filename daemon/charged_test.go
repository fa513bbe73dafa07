package daemon

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/sigild/sigild/daemon/guard"
	"github.com/sigild/sigild/daemon/wallet"
	"github.com/sigild/sigild/ipc"
)

// An attempt that could not be given back is told, whatever else went wrong: no
// answer says charged: false while the charge stands.
func TestChargeThatStandsIsTold(t *testing.T) {
	for _, f := range failures() {
		for _, stands := range []error{wallet.ErrChargeStands, guard.ErrChargeStands} {
			for _, err := range []error{
				fmt.Errorf("%w: %w", f.is, stands),
				fmt.Errorf("%w: %w: %w", f.is, stands, syscall.ENOSPC), // why it stands
				errors.Join(f.is, stands, guard.ErrUnconfirmed),
			} {
				var e *ipc.Error
				if !errors.As(wireError(err), &e) || e.Charged == nil || !*e.Charged {
					t.Errorf("%v: %+v, want charged: true", err, e)
				}
			}
		}
		var e *ipc.Error
		if !errors.As(wireError(f.is), &e) || f.free && (e.Charged == nil || *e.Charged) {
			t.Errorf("%v: %+v, want charged: false", f.is, e)
		}
	}
}
