package daemon

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/ipc"
)

// reloadable are the keys that a running daemon takes over at a reload. What is
// not here was given to a device, a cache or a listener at the start.
func reloadable() []string {
	return []string{"custody.export", "custody.import", "log.level", "pin.plain_from", "socket.allow", "socket.operators", "wallets.delete_grace"}
}

// settings is the configuration as it stands after the last reload; what cannot
// be reloaded is as it was at the start.
func (d *Daemon) settings() *config.Config { return d.live.Load() }

// allows says whether a peer is served. It is asked at each request, so that a
// uid that a reload took out loses its open connections too.
func (d *Daemon) allows(p ipc.Peer) bool { return d.serves(p.UID) }

// admitted asks before each method whether the peer is still served.
func (d *Daemon) admitted(methods map[string]ipc.Handler) map[string]ipc.Handler {
	admitted := make(map[string]ipc.Handler, len(methods))
	for name, method := range methods {
		admitted[name] = func(ctx context.Context, params json.RawMessage) (any, error) {
			if peer, known := ipc.PeerFrom(ctx); !known || !d.allows(peer) {
				return nil, peerNotAllowed()
			}
			return method(ctx, params)
		}
	}
	return admitted
}

// peerNotAllowed is what a peer gets that was allowed when it connected.
func peerNotAllowed() error {
	return &ipc.Error{Code: ipc.CodeUnauthorized, Reason: ipc.ReasonPeerNotAllowed,
		Message: "this user may not use the daemon any more", Charged: new(bool)}
}

// reloads reads the configuration anew whenever it is asked to, until ctx ends.
func (d *Daemon) reloads(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.options.Reload:
			d.reload()
		}
	}
}

// reload takes over what can be changed while the daemon runs, and names the
// keys that need a restart. A configuration with a fault changes nothing.
func (d *Daemon) reload() {
	next, err := d.options.Load()
	if err != nil {
		d.log.Error("the configuration was not reloaded: it has a fault, and the old one stays", "error", err)
		return
	}
	running := d.settings()
	var taken, left []string
	for _, key := range config.Changed(running, next) {
		if slices.Contains(reloadable(), key) {
			taken = append(taken, key)
		} else {
			left = append(left, key)
		}
	}
	d.live.Store(running.With(next, taken))
	select {
	case d.reloaded <- struct{}{}:
	default: // it is told already
	}
	d.lockOthers()
	if d.options.Level != nil {
		d.options.Level.Set(levelOf(next.Log))
	}
	d.tell(slog.LevelInfo, "configuration reloaded", "changed", strings.Join(taken, ","))
	if len(left) > 0 {
		d.tell(slog.LevelWarn, "these keys were changed and need a restart", "keys", strings.Join(left, ","))
	}
}

// tell writes to the log at any level: it answers an operator, who waits for it.
func (d *Daemon) tell(level slog.Level, message string, attrs ...any) {
	r := slog.NewRecord(time.Now(), level, message, 0)
	r.Add(attrs...)
	_ = d.log.Handler().Handle(context.Background(), r) // as slog itself does
}

// levelOf reads a level that the configuration's check let through.
func levelOf(l config.Log) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return slog.LevelInfo
	}
	return level
}
