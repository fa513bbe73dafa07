package entropy

import (
	"context"
	"errors"
	"io"
	"net"
)

// isCanceled reports whether the caller gave up.
func isCanceled(err error) bool { return errors.Is(err, context.Canceled) }

// isTimeout reports whether a deadline passed: the caller's, or that of one
// attempt.
func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	late, ok := errors.AsType[net.Error](err)
	return ok && late.Timeout()
}

// brokenOff reports whether the connection ended inside an answer.
func brokenOff(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}
