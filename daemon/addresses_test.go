package daemon

import (
	"testing"

	"github.com/sigild/sigild/ipc"
)

// A mistyped address must not be taken for another one, wherever it stands.
func TestAddressesAreChecked(t *testing.T) {
	const (
		lower = "0x9858effd232b4033e47d90003d41ec34ecaeda94"
		right = "0x9858EfFD232B4033E47d90003D41EC34EcaEda94"
		wrong = "0x9858EfFD232B4033E47d90003D41EC34EcaEdA94"
	)
	for _, spelled := range []string{lower, right} {
		if _, err := parseAddress(spelled); err != nil {
			t.Errorf("%s: %v", spelled, err)
		}
		p, err := parsePolicy("policy", &ipc.Policy{Operations: []string{"message"}, Recipients: []string{spelled}})
		if err != nil || len(p.Recipients) != 1 || p.Recipients[0] != lower {
			t.Errorf("%s: recipients %q, %v", spelled, p.Recipients, err)
		}
	}
	for _, spelled := range []string{wrong, lower[2:], lower + "00", lower[:40], "0X" + lower[2:], lower + `","`, "", "any"} {
		if _, err := parseAddress(spelled); err == nil {
			t.Errorf("the address %q was taken", spelled)
		}
		if p, err := parsePolicy("policy", &ipc.Policy{Operations: []string{"message"}, Recipients: []string{lower, spelled}}); err == nil {
			t.Errorf("the recipient %q was taken as %q", spelled, p.Recipients)
		}
	}
}
