package ask

import (
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// waiter waits for descriptors until its context ends. It leaves the flags of
// descriptors alone, because they belong to every process that shares them:
// O_NONBLOCK on the shell's own input would break the shell.
type waiter struct {
	ctx  context.Context
	wake int           // eventfd(2), readable once ctx has ended
	stop func() bool   // of the function that makes it so
	done chan struct{} // closed when that function has ended
}

// newWaiter returns a waiter that the caller closes.
func newWaiter(ctx context.Context) (*waiter, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	w := &waiter{ctx: ctx, wake: wake, done: make(chan struct{})}
	w.stop = context.AfterFunc(ctx, func() {
		defer close(w.done)
		_, _ = unix.Write(wake, binary.NativeEndian.AppendUint64(nil, 1))
	})
	return w, nil
}

func (w *waiter) close() {
	if !w.stop() {
		<-w.done // or it would write to whatever gets this number next
	}
	_ = unix.Close(w.wake)
}

// wait returns nil when fd has one of events, or an error or a hang-up that the
// read or write after it will show.
func (w *waiter) wait(fd int, events int16) error {
	for {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		set := []unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: int32(w.wake), Events: unix.POLLIN}}
		_, err := unix.Poll(set, -1)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case set[1].Revents == 0:
			return nil
		}
	}
}
