package daemon_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sigild/sigild/daemon"
	"github.com/sigild/sigild/daemon/config"
)

// Each key that SIGHUP changes is one of the configuration, and the example
// says so.
func TestReloadableKeys(t *testing.T) {
	example, err := os.ReadFile("../sigild.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range daemon.Reloadable() {
		if !slices.Contains(config.Keys(), key) {
			t.Errorf("%s is not a key", key)
		}
		if !strings.Contains(string(example), key) {
			t.Errorf("the example does not say that %s is reloaded", key)
		}
	}
}
