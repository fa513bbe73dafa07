package daemon

import (
	"log/slog"
	"strings"
	"time"

	manager "github.com/coreos/go-systemd/v22/daemon"
)

// notifier speaks to the service manager (sd_notify(3)). Where there is none,
// what it says goes nowhere.
type notifier struct{ log *slog.Logger }

// say sends assignments such as manager.SdNotifyReady in one message.
func (n notifier) say(assignments ...string) {
	if _, err := manager.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		n.log.Warn("the service manager cannot be told", "error", err)
	}
}

// watchdog is how long the service manager waits for a sign of life before it
// kills the daemon (WatchdogSec=); 0: it does not.
func (n notifier) watchdog() time.Duration {
	interval, err := manager.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("the service manager's watchdog is not understood", "error", err)
		return 0
	}
	return interval
}

// statusLine is one line for systemctl status.
func statusLine(text string) string {
	return "STATUS=" + strings.ReplaceAll(text, "\n", "; ")
}
