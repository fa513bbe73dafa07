package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/cmd/internal/ask"
	"github.com/sigild/sigild/ipc"
)

// Exit codes; exitCodes in root.go tells them to people.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnavailable = 4
)

// Reasons of failures on this side of the socket, beside those of the daemon.
// Like these they never change their meaning.
const (
	reasonUsage       = "usage"
	reasonUnreachable = "daemonUnreachable"
	reasonDenied      = "socketDenied"
	reasonLost        = "connectionLost"
	reasonProtocol    = "protocol"
	reasonInterrupted = "interrupted"
	reasonNotReady    = "notReady"
	reasonNoPIN       = "noPin"
	reasonPINMismatch = "pinMismatch"
	reasonFailed      = "failed"
)

// codeRejected is the JSON-RPC code of a refusal by policy (EIP-1474).
const codeRejected = -32003

// failure is why the program does not exit with 0.
type failure struct {
	wire *ipc.Error // what --json prints
	exit int
	next string // what the operator does next, "" for the advice for the reason
	// answered is set when standard output already holds the daemon's result.
	answered bool
}

func (f *failure) Error() string { return f.wire.Error() }

func fail(exit int, reason, next, format string, values ...any) *failure {
	code := ipc.CodeServer
	if exit == exitUsage {
		code = ipc.CodeInvalidParams
	}
	return &failure{wire: &ipc.Error{Code: code, Reason: reason, Message: fmt.Sprintf(format, values...)},
		exit: exit, next: next}
}

// usage is the failure of a command line that cannot be carried out.
func usage(c *cobra.Command, format string, values ...any) *failure {
	return fail(exitUsage, reasonUsage, c.CommandPath()+" --help", format, values...)
}

// explain finds the failure that err is.
func explain(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var answered *ipc.Error
	if errors.As(err, &answered) {
		return &failure{wire: answered, exit: exitOf(answered)}
	}
	for _, find := range []func(error) *failure{channelFailure, connectionFailure, contextFailure, askFailure} {
		if f := find(err); f != nil {
			return f
		}
	}
	return fail(exitFailed, reasonFailed, "", "%v", err)
}

// exitOf goes by the code, not the reason: reasons of a newer daemon are
// unknown here, its codes are not.
func exitOf(e *ipc.Error) int {
	switch {
	case e.Code == ipc.CodeUnauthorized, e.Code == codeRejected:
		return exitRefused
	case e.RetryAfter != nil, e.Code == ipc.CodeLimitExceeded:
		return exitUnavailable
	case e.Code == ipc.CodeInvalidParams:
		return exitUsage
	}
	return exitFailed
}

func connectionFailure(err error) *failure {
	switch {
	case errors.Is(err, ipc.ErrParams):
		return fail(exitUsage, reasonUsage, "mend it in the file; nothing was sent", "%v", err)
	case errors.Is(err, ipc.ErrProtocol):
		return fail(exitFailed, reasonProtocol, "compare sigilctl --version with the daemon's, and check --socket",
			"the daemon's answer makes no sense")
	case errors.Is(err, ipc.ErrConnectionLost):
		return fail(exitUnavailable, reasonLost, "", "the connection broke before the daemon answered")
	}
	var dial *net.OpError
	if errors.As(err, &dial) && errors.Is(dial, fs.ErrPermission) {
		return fail(exitRefused, reasonDenied, "run it as a user, or in a group, that the socket's mode lets in",
			"this user may not open the daemon's socket")
	}
	const next = "check --socket, and whether it runs: systemctl status sigild"
	if dial != nil {
		return fail(exitUnavailable, reasonUnreachable, next, "sigild does not answer at %v: %v; nothing was sent", dial.Addr, dial.Err)
	}
	if errors.Is(err, ipc.ErrNotSent) {
		return fail(exitUnavailable, reasonUnreachable, next, "sigild closed the connection; nothing was sent")
	}
	return nil
}

func contextFailure(err error) *failure {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fail(exitUnavailable, ipc.ReasonTimeout, "",
			"the daemon did not answer within --timeout")
	case errors.Is(err, context.Canceled), errors.Is(err, ask.ErrInterrupted):
		return fail(exitFailed, reasonInterrupted, "", "interrupted")
	}
	return nil
}

func askFailure(err error) *failure {
	if errors.Is(err, ask.ErrNoTerminal) {
		return fail(exitUsage, reasonNoPIN, "give the PIN with --pin-fd, as in --pin-fd 3 3<pin-file", "there is no terminal to ask for the PIN on")
	}
	for _, e := range []error{ask.ErrEmpty, ask.ErrTooLong, ask.ErrDescriptor, ask.ErrEchoes} {
		if errors.Is(err, e) {
			return fail(exitUsage, reasonNoPIN, "", "PIN: %v", err)
		}
	}
	return nil
}
