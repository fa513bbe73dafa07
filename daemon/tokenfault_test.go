package daemon

import (
	"errors"
	"testing"

	"github.com/sigild/sigild/daemon/wallet"
)

// A token is in service only after it was read that no earlier run took it out,
// and out of it from the first wrong answer on.
func TestTokenIsOutOfServiceUntilItIsKnownNotToBe(t *testing.T) {
	kept := 0
	k := &token{distrusted: func(*faultMark) { kept++ }}
	if err := k.fault.check(); !errors.Is(err, ErrTokenFault) {
		t.Errorf("the zero value is in service: %v", err)
	}
	k.fault.resume(nil)
	if err := k.fault.check(); err != nil {
		t.Errorf("nothing was wrong: %v", err)
	}
	for range 2 {
		k.Distrust(wallet.ErrNonceReused)
		if _, err := k.keys(t.Context(), 0); !errors.Is(err, ErrTokenFault) || kept != 1 {
			t.Errorf("after a repeated nonce: %v, written down %d times", err, kept)
		}
	}
	k.fault.resume(&faultMark{Reason: "an earlier run's"})
	if err := k.fault.check(); !errors.Is(err, ErrTokenFault) {
		t.Errorf("with an earlier run's mark: %v", err)
	}
}
