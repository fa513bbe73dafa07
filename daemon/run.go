package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"

	manager "github.com/coreos/go-systemd/v22/daemon"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/hsm"
	"github.com/sigild/sigild/ipc"
)

// drainTimeout is how long requests under way may take after a stop signal.
const drainTimeout = 20 * time.Second

// Run starts the daemon, serves until ctx ends, drains and closes.
func Run(ctx context.Context, c *config.Config, o Options) (err error) {
	locked, err := protect()
	if err != nil {
		return err
	}
	confined, err := confineProcess(c, o.ConfigPath)
	if err != nil {
		return err
	}
	d, err := Open(ctx, c, o)
	if err != nil {
		return err
	}
	d.memoryLocked, d.confined = locked, confined
	defer func() { err = errors.Join(err, d.Close()) }()
	listener, err := listen(c.Socket)
	if err != nil {
		return err
	}
	d.announce()
	return d.Serve(ctx, listener)
}

// announce logs that the socket is served, and what is missing.
func (d *Daemon) announce() {
	attributes := []any{"installation", hexText(d.doc.ID[:]), "socket", d.config.Socket.Path,
		"identityKey", hexText(d.identityKey()), "version", d.options.Version, "dev", d.config.Dev,
		"landlock", d.confined.ABI}
	state, reasons := d.health.report()
	if state == stateReady {
		d.log.Info(stateReady, attributes...)
		return
	}
	d.log.Warn("serving", append(attributes, "state", state)...)
	for _, r := range reasons {
		d.log.Warn("missing", "reason", r.Reason, "detail", r.Detail, "works", r.Works, "action", r.Action)
	}
}

// reportToken logs each change of the token's state.
func (d *Daemon) reportToken(s hsm.SupervisorState) {
	if d.lines.verified.Load() { // before, it may be another token's keys that do not match
		d.condemn(s.Cause)
	}
	d.health.hurry()
	if s.Phase == hsm.Ready {
		d.health.token.hurry()
		d.log.Info("the token can be used", "recoveries", s.Recoveries)
		return
	}
	c := conditionOf(tokenReason(s))
	d.log.Warn("the token cannot be used", "phase", s.Phase.String(), "reason", c.reason, "error", s.Cause,
		"works", c.works, "action", c.action)
}

// listen takes systemd's socket when it gave one, and else makes the
// configured one.
func listen(s config.Socket) (net.Listener, error) {
	given, ok, err := ipc.FromSystemd()
	if err != nil || ok {
		return given, err
	}
	gid, err := groupID("socket.group", s.Group)
	if err != nil {
		return nil, err
	}
	return ipc.Listen(s.Path, s.FileMode(), gid)
}

// groupID resolves the group that a key of the configuration names; -1 leaves the
// group as it is. ErrConfig for one that does not exist.
func groupID(key, group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.Atoi(group); err == nil && gid >= 0 {
		return gid, nil
	}
	g, err := user.LookupGroup(group)
	var unknown user.UnknownGroupError
	if errors.As(err, &unknown) {
		return 0, fmt.Errorf("%w: %s: %w", ErrConfig, key, err)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", key, err)
	}
	return strconv.Atoi(g.Gid)
}

// Serve answers on listener until ctx ends, then lets requests under way
// finish.
func (d *Daemon) Serve(ctx context.Context, listener net.Listener) error {
	server := ipc.NewServer(ipc.Options{Limits: limits(d.config.Limits), Allow: d.allows,
		Methods: d.admitted(d.methods()), Logger: d.log, OnRequest: d.logRequest,
		Large: []string{ipc.MethodListWallets}})
	var background sync.WaitGroup
	defer background.Wait()
	purging, stop := context.WithCancel(ctx)
	defer stop()
	background.Go(func() { d.purges(purging) })
	watching, blind := context.WithCancel(context.WithoutCancel(ctx)) // the watchdog wants to be fed to the end
	defer blind()
	background.Go(func() { d.newWatcher().run(watching) })
	background.Go(func() { d.observe(watching) })
	background.Go(func() { d.reloads(purging) })
	background.Go(func() { d.settleDoubts(purging) })
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.WithoutCancel(ctx), listener) }()
	var refused error
	select {
	case err := <-done:
		return err
	case refused = <-d.lines.ended:
	case <-ctx.Done():
	}
	d.log.Info("stopping")
	notifier{d.log}.say(manager.SdNotifyStopping, statusLine("finishing the requests under way"))
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := server.Shutdown(drain)
	d.end()
	return errors.Join(refused, err, served(<-done))
}

// served says how serving ended after a stop signal. One that came before the
// server had begun is an orderly stop as well.
func served(err error) error {
	if errors.Is(err, ipc.ErrServerClosed) {
		return nil
	}
	return err
}

// ownAndRoot are the listed uids, or the daemon's own and root.
func ownAndRoot(uids []uint32) []uint32 {
	if uids == nil {
		return []uint32{0, uint32(os.Getuid())}
	}
	return uids
}

func limits(l config.Limits) ipc.Limits {
	return ipc.Limits{
		MessageBytes: l.MessageBytes, Depth: l.Depth, Batch: l.Batch, InFlight: l.InFlight,
		InFlightPerUID: l.InFlightPerUID, InFlightBytesPerUID: l.InFlightBytes,
		AnswerBytesPerUID: ipc.DefaultLimits().AnswerBytesPerUID,
		Connections:       l.Connections, ConnectionsPerUID: l.ConnectionsPerUID,
		IdleTimeout: time.Duration(l.IdleTimeout), WriteTimeout: time.Duration(l.WriteTimeout),
		RequestTimeout: time.Duration(l.RequestTimeout),
	}
}

// logRequest writes the one line of a request. It holds neither parameters nor
// results.
func (d *Daemon) logRequest(ctx context.Context, r ipc.RequestInfo) {
	d.countRequest(r)
	attrs := []slog.Attr{slog.Uint64("uid", uint64(r.Peer.UID)), slog.Int("pid", int(r.Peer.PID)),
		slog.String("method", d.metrics.Method(r.Method)), slog.Duration("duration", r.Duration)}
	if r.Err == nil {
		d.log.LogAttrs(ctx, slog.LevelInfo, "request", append(attrs, slog.String("result", "ok"))...)
		return
	}
	reason := ipc.ReasonOf(r.Err)
	if reason == "" {
		reason = ipc.ReasonInternal
	}
	attrs = append(attrs, slog.String("result", reason))
	if callersWords(reason) {
		d.log.LogAttrs(ctx, slog.LevelWarn, "request", attrs...)
		return
	}
	attrs = append(attrs, slog.String("error", r.Err.Error()))
	d.log.LogAttrs(ctx, slog.LevelWarn, "request", attrs...)
}

// callersWords reports whether errors of a reason repeat what the caller wrote,
// such as the name of a member that is not known. It could be anything, also a
// PIN in the wrong place: the caller is told, the log is not.
func callersWords(reason string) bool {
	return reason == ipc.ReasonInvalidParams || reason == ipc.ReasonMethodNotFound
}
