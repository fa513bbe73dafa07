package ipc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNoPeer is returned when the kernel cannot say who is at the other end.
var ErrNoPeer = errors.New("ipc: no peer credentials")

// Peer is the process at the other end of a connection, as the kernel recorded
// it when it called connect (SO_PEERCRED, unix(7)). A descriptor that is passed
// on keeps the credentials of the process that connected.
//
// In a user namespace that does not map the peer, UID and GID are the
// kernel's overflow id, usually 65534.
type Peer struct {
	UID, GID uint32
	PID      int32
}

// String returns "uid 1000 gid 1000 pid 4711".
func (p Peer) String() string { return fmt.Sprintf("uid %d gid %d pid %d", p.UID, p.GID, p.PID) }

// LogValue returns the three numbers as a group.
func (p Peer) LogValue() slog.Value {
	return slog.GroupValue(slog.Uint64("uid", uint64(p.UID)), slog.Uint64("gid", uint64(p.GID)),
		slog.Int("pid", int(p.PID)))
}

type peerKey struct{}

// PeerFrom returns the peer whose request ctx belongs to. It reports false for
// a context that does not come from a Server.
func PeerFrom(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}

type connectionKey struct{}

// ConnectionFrom returns a context that is the same for all requests of one
// connection and ends when the connection does. It reports false for a context
// that does not come from a Server.
func ConnectionFrom(ctx context.Context) (context.Context, bool) {
	c, ok := ctx.Value(connectionKey{}).(context.Context)
	return c, ok
}

func withPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// peerOf asks the kernel for the credentials of conn's other end.
func peerOf(conn syscall.Conn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %v", ErrNoPeer, err)
	}
	var cred *unix.Ucred
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		cred, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, sockErr); err != nil {
		return Peer{}, fmt.Errorf("%w: %v", ErrNoPeer, err)
	}
	// A socket that nobody connected answers with pid 0 and uid -1.
	if cred.Uid == ^uint32(0) || cred.Gid == ^uint32(0) {
		return Peer{}, ErrNoPeer
	}
	return Peer{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid}, nil
}
