package hsmtest_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sigild/sigild/hsm/hsmtest"
)

func TestInstancesAreFreshAndLeaveNothing(t *testing.T) {
	const variable = "SOFTHSM2_CONF"
	before, had := os.LookupEnv(variable)
	var serials, dirs []string
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			instance := hsmtest.New(t, hsmtest.Label(name))
			info, err := instance.Open(t).Info(t.Context())
			if err != nil || info.Label != name {
				t.Fatalf("Info: %+v, %v", info, err)
			}
			serials, dirs = append(serials, info.Serial), append(dirs, instance.Dir)
		})
	}
	if len(serials) != 2 || serials[0] == serials[1] {
		t.Errorf("serial numbers: %v", serials)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
	if after, has := os.LookupEnv(variable); has != had || after != before {
		t.Errorf("%s is %q, was %q", variable, after, before)
	}
}

// A child process finds the token by Env alone.
func TestEnvServesAChildProcess(t *testing.T) {
	instance := hsmtest.New(t)
	cmd := exec.Command("softhsm2-util", "--show-slots")
	cmd.Env = instance.Env()
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(instance.Label)) {
		t.Errorf("softhsm2-util: %v: %s", err, out)
	}
}

func TestFaultsCountAndClear(t *testing.T) {
	instance := hsmtest.New(t, hsmtest.WithFaults())
	token := instance.Open(t)
	instance.Faults.FailAfter("C_GenerateRandom", 5)
	if _, err := token.Random(t.Context(), 8); err == nil || !strings.Contains(err.Error(), "CKR_GENERAL_ERROR") {
		t.Errorf("Random: %v", err)
	}
	instance.Faults.Clear("C_GenerateRandom")
	if _, err := token.Random(t.Context(), 8); err != nil {
		t.Error(err)
	}
	if n := instance.Faults.Calls("C_GenerateRandom"); n != 3 { // a session fault is tried once more
		t.Errorf("%d calls", n)
	}
	if n := instance.Faults.Calls("C_Decrypt"); n != 0 {
		t.Errorf("%d calls of a function that was not called", n)
	}
}
