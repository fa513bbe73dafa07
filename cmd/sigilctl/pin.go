package main

import (
	"context"
	"crypto/subtle"
	"errors"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/cmd/internal/ask"
	"github.com/sigild/sigild/daemon/seal"
	"github.com/sigild/sigild/ipc"
)

// pinSource is where a command takes the PIN from.
type pinSource struct {
	fd int
}

func (p *pinSource) flag(c *cobra.Command) {
	c.Flags().IntVar(&p.fd, "pin-fd", ask.Terminal, "read the PIN, one line, from this file descriptor instead of asking")
}

// check refuses descriptors that cannot hold a PIN; input is true when the
// command reads something else from standard input.
func (p *pinSource) check(c *cobra.Command, input bool) error {
	if !c.Flags().Changed("pin-fd") {
		return nil
	}
	switch {
	case p.fd < 0:
		return usage(c, "--pin-fd must not be negative")
	case p.fd == 0 && input:
		return usage(c, "standard input cannot hold both the PIN and what to sign: use --pin-fd 3 3<pin-file")
	}
	return nil
}

// question says to a person how many attempts are left, where the daemon tells.
func (p *pinSource) question(ctx context.Context, a *app, client *ipc.Client, t target) string {
	if p.fd != ask.Terminal {
		return "PIN"
	}
	w, _, err := call[ipc.WalletInfo](ctx, a, client, ipc.MethodGetWallet, ipc.GetWalletParams{WalletID: t.wallet, Address: t.address})
	if err != nil { // the call that needs the PIN says what is wrong
		return "PIN"
	}
	return "PIN (" + attempts(w.AttemptsLeft) + ")"
}

// pin asks for the PIN of a wallet. The caller wipes it. A PIN that no wallet
// can have is refused here, where it costs nothing.
func (p *pinSource) pin(ctx context.Context, question string) ([]byte, error) {
	source := ask.Source{FD: p.fd}
	pin, err := source.Secret(ctx, question)
	if err != nil {
		return nil, err
	}
	if err := seal.CheckSyntax(pin); err != nil {
		clear(pin)
		return nil, fail(exitUsage, "pinSyntax", "", "%v", err)
	}
	return pin, nil
}

// newPIN asks for a PIN that is not set yet, twice if a person types it. The
// caller wipes it.
func (p *pinSource) newPIN(ctx context.Context, question string) ([]byte, error) {
	source := ask.Source{FD: p.fd}
	pin, err := source.Secret(ctx, question)
	if err != nil {
		return nil, err
	}
	err = checkNew(pin)
	if err == nil && p.fd == ask.Terminal {
		err = again(ctx, &source, pin)
	}
	if err != nil {
		clear(pin)
		return nil, err
	}
	return pin, nil
}

func checkNew(pin []byte) error {
	err := seal.CheckNew(pin)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, seal.ErrPINWeak):
		return fail(exitUsage, "pinWeak", "", "%v", err)
	}
	return fail(exitUsage, "pinSyntax", "", "%v", err)
}

func again(ctx context.Context, source *ask.Source, pin []byte) error {
	second, err := source.Secret(ctx, "The same PIN again")
	defer clear(second)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(pin, second) != 1 {
		return fail(exitUsage, reasonPINMismatch, "", "the two PINs differ")
	}
	return nil
}
