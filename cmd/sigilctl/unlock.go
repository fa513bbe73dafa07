package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

// unlocking is one run of unlock: its terms, each given explicitly.
type unlocking struct {
	app        *app
	pin        pinSource
	ttl        time.Duration
	accounts   []uint
	terms      ipc.Terms
	bind       string
	hold       bool
	maxValue   string
	maxCost    string
	totalValue string
}

func (a *app) unlockCommand() *cobra.Command {
	u := &unlocking{app: a}
	c := &cobra.Command{
		Use:   "unlock WALLET|ADDRESS --signatures N --ttl TIME --operation NAME… (--bind uid | --hold)",
		Short: "Let programs of this user sign with a wallet for a while, without its PIN",
		Long: `Let programs sign with a wallet without its PIN, within terms. What the terms leave
out is not allowed: no chain, no recipient, no call data, no value.

An unlock of a connection would end with this command. --bind uid lets every
program of this user sign, until the terms are used up or sigilctl lock. --hold
does the same, keeps this command running, and locks the wallet when it ends.

Amounts have a unit: 1.5ether, 20gwei, 1000wei; or "any".`,
		Example: `  sigilctl unlock 0x5290…2ba9 --signatures 10 --ttl 15m --operation message --chain any --bind uid
  sigilctl unlock 0x5290…2ba9 --signatures 1 --ttl 5m --operation transaction --chain eip155:1 \
    --recipient 0x9858EfFD232B4033E47d90003D41EC34EcaEda94 --max-value 1ether --max-cost 1.1ether --total-value 1ether --hold`,
		Args:              arguments("WALLET|ADDRESS"),
		ValidArgsFunction: a.completeWallet,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := parseTarget(c, args[0])
		if err != nil {
			return err
		}
		if err := u.read(c); err != nil {
			return err
		}
		return a.onWalletWithPIN(c.Context(), t, func(client *ipc.Client, id ipc.Hex) error {
			return u.run(c.Context(), client, id)
		})
	}
	u.flags(c)
	return c
}

func (u *unlocking) flags(c *cobra.Command) {
	f := c.Flags()
	p := &u.terms.Policy
	f.IntVar(&u.terms.Signatures, "signatures", 0, "how `MANY` signatures may be made (required)")
	f.DurationVar(&u.ttl, "ttl", 0, "how long, a `TIME` such as 15m, at most 24h (required)")
	f.StringArrayVar(&p.Operations, "operation", nil, "a `NAME`: transaction, message, typedData, authorization, userOperation, validatorData, cliqueHeader or rawDigest; may be repeated (required)")
	f.StringArrayVar(&p.Chains, "chain", nil, "a CAIP-2 `NAME` such as eip155:1, or any; may be repeated")
	f.StringArrayVar(&p.Recipients, "recipient", nil, "an `ADDRESS`, or any; may be repeated")
	f.StringArrayVar(&p.Selectors, "selector", nil, "the first 4 `BYTES` of call data, or any; may be repeated")
	f.StringVar(&u.maxValue, "max-value", "0wei", "the most that one transaction may send, an `AMOUNT`")
	f.StringVar(&u.maxCost, "max-cost", "0wei", "the most that one transaction may cost with fees, an `AMOUNT`")
	f.StringVar(&u.totalValue, "total-value", "0wei", "the most that all transactions together may send, an `AMOUNT`")
	f.BoolVar(&p.ContractCreation, "contract-creation", false, "transactions may create contracts")
	f.UintSliceVar(&u.accounts, "account", nil, "the `INDEX` of an account that may sign; may be repeated (default: 0)")
	f.StringVar(&u.bind, "bind", "", "`WHO` may sign: uid, every program of this user")
	f.BoolVar(&u.hold, "hold", false, "stay, and lock the wallet at the end")
	words(c, "operation", "transaction", "message", "typedData", "authorization", "userOperation", "validatorData", "cliqueHeader", "rawDigest")
	words(c, "bind", "uid")
	u.pin.flag(c)
}

// read checks the flags and completes the terms.
func (u *unlocking) read(c *cobra.Command) (err error) {
	switch {
	case u.bind != "" && u.hold:
		return usage(c, "--bind and --hold contradict each other: --hold stays, and locks at the end")
	case u.bind == "connection":
		return usage(c, "an unlock of this connection would end with this command: give --bind uid or --hold")
	case u.bind != "uid" && !u.hold:
		return usage(c, "say who may sign: --bind uid, or --hold to lock again when this command ends")
	case u.terms.Signatures < 1:
		return usage(c, "--signatures is missing: how many may be made?")
	case u.ttl < time.Second || u.ttl > 24*time.Hour || u.ttl%time.Second != 0:
		return usage(c, "--ttl must be whole seconds, from 1s to 24h")
	case len(u.terms.Policy.Operations) == 0:
		return usage(c, "--operation is missing: what may be signed?")
	}
	u.terms.Seconds = int(u.ttl / time.Second)
	for _, n := range u.accounts {
		u.terms.Accounts = append(u.terms.Accounts, uint32(min(n, 1<<32-1)))
	}
	for n, chain := range u.terms.Policy.Chains {
		if regexp.MustCompile(`^[1-9][0-9]*$`).MatchString(chain) {
			u.terms.Policy.Chains[n] = "eip155:" + chain
		}
	}
	if err := u.amounts(c); err != nil {
		return err
	}
	return u.pin.check(c, false)
}

func (u *unlocking) amounts(c *cobra.Command) error {
	for _, a := range []struct {
		flag, text string
		to         *string
	}{
		{"max-value", u.maxValue, &u.terms.Policy.MaxValue},
		{"max-cost", u.maxCost, &u.terms.Policy.MaxCost},
		{"total-value", u.totalValue, &u.terms.TotalValue},
	} {
		text, err := quantity(a.text)
		if err != nil {
			return usage(c, "--%s: %v", a.flag, err)
		}
		*a.to = text
	}
	return nil
}

func (u *unlocking) run(ctx context.Context, client *ipc.Client, id ipc.Hex) error {
	if !u.app.json {
		fmt.Fprint(u.app.stderr, termsText(id, &u.terms))
	}
	r, raw, err := u.send(ctx, client, id)
	if err != nil {
		return unsure(err)
	}
	if err := u.app.print(raw, func() string { return unlockText(r) }); err != nil || !u.hold {
		return err
	}
	return u.stay(ctx, client, id, r.Until)
}

func (u *unlocking) send(ctx context.Context, client *ipc.Client, id ipc.Hex) (*ipc.UnlockResult, json.RawMessage, error) {
	pin, err := u.pin.pin(ctx, u.pin.question(ctx, u.app, client, target{wallet: id}))
	defer clear(pin)
	if err != nil {
		return nil, nil, err
	}
	return call[ipc.UnlockResult](ctx, u.app, client, ipc.MethodUnlock,
		ipc.UnlockParams{WalletID: id, PIN: pin, Terms: u.terms, Bind: "uid"})
}

// stay waits for the end of the terms, or of this command, and locks.
func (u *unlocking) stay(ctx context.Context, client *ipc.Client, id ipc.Hex, until ipc.Time) error {
	if !u.app.json {
		fmt.Fprintln(u.app.stderr, "unlocked; Ctrl-C locks the wallet again")
	}
	end := time.NewTimer(min(time.Until(until.Time), u.ttl))
	defer end.Stop()
	select {
	case <-ctx.Done():
	case <-end.C:
	}
	_, _, err := call[ipc.LockResult](context.WithoutCancel(ctx), u.app, client, ipc.MethodLock, ipc.WalletParams{WalletID: id})
	if err != nil {
		f := *explain(err)
		f.answered, f.next = true, "sigilctl lock "+id.String()+": the wallet may still be unlocked"
		return &f
	}
	if !u.app.json {
		fmt.Fprintln(u.app.stderr, "locked")
	}
	return nil
}

func termsText(id ipc.Hex, terms *ipc.Terms) string {
	var t sheet
	t.add("unlock", id.String())
	t.addf("for", "%d signatures, %v", terms.Signatures, time.Duration(terms.Seconds)*time.Second)
	if len(terms.Accounts) > 0 {
		t.addf("accounts", "%v", terms.Accounts)
	}
	addPolicy(&t, &terms.Policy)
	t.add("all together", "at most "+limitText(terms.TotalValue))
	return t.String()
}

func unlockText(r *ipc.UnlockResult) string {
	var t sheet
	t.addf("signatures", "%d", r.Signatures)
	t.add("until", moment(r.Until))
	t.addf("attempts left", "%d", r.AttemptsLeft)
	if r.Failures > 0 {
		t.addf("wrong PINs", "%d since the last right one", r.Failures)
	}
	return t.String()
}
