package hsm_test

import (
	"testing"

	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/hsm/hsmtest"
)

func TestSoftHSMKeepsTheContract(t *testing.T) {
	hsmtest.Contract(t, func(t testing.TB) *hsm.Token { return hsmtest.New(t).Open(t) })
}
