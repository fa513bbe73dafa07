package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

// maxPolicy is the size of the largest policy file, in bytes.
const maxPolicy = 256 << 10

const policyHelp = `A policy is a JSON object. What it leaves out is not allowed:

  operations        of transaction, message, typedData, authorization,
                    userOperation, validatorData, cliqueHeader, rawDigest
  chains            CAIP-2 names such as "eip155:1", or ["any"]
  recipients        addresses, or ["any"]
  selectors         the first 4 bytes of call data such as "0xa9059cbb", or ["any"]
  maxValue, maxCost wei in hexadecimal for one transaction, or "any"
  contractCreation  true or false`

func (a *app) policyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show WALLET|ADDRESS",
		Short:             "Show what a wallet may sign; with --json as policy set takes it",
		Args:              arguments("WALLET|ADDRESS"),
		ValidArgsFunction: a.completeWallet,
		RunE: func(c *cobra.Command, args []string) error {
			t, err := parseTarget(c, args[0])
			if err != nil {
				return err
			}
			w, _, err := query[struct{ Policy json.RawMessage }](c.Context(), a, ipc.MethodGetWallet,
				ipc.GetWalletParams{WalletID: t.wallet, Address: t.address})
			if err != nil {
				return err
			}
			var p ipc.Policy
			if json.Unmarshal(w.Policy, &p) != nil {
				return fmt.Errorf("%w: policy", ipc.ErrProtocol)
			}
			return a.print(w.Policy, func() string { return policyText(&p).String() })
		},
	}
}

func (a *app) policySetCommand() *cobra.Command {
	var pin pinSource
	var request requestID
	var quiet bool
	c := &cobra.Command{
		Use:               "set WALLET|ADDRESS FILE|-",
		Short:             "Give a wallet another policy; its unlocks end",
		Long:              "Give a wallet another policy, which only its PIN can do.\n\n" + policyHelp,
		Example:           "  sigilctl policy show 0x5290…2ba9 --json >policy.json\n  sigilctl policy set 0x5290…2ba9 policy.json",
		Args:              arguments("WALLET|ADDRESS", "FILE|-"),
		ValidArgsFunction: a.completeWalletThenFile,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := parseTarget(c, args[0])
		if err != nil {
			return err
		}
		if err := pin.check(c, args[1] == fromStdin); err != nil {
			return err
		}
		p, err := a.readPolicy(c, args[1])
		if err != nil {
			return err
		}
		if err := request.show(c, a); err != nil {
			return err
		}
		if !quiet && !a.json {
			fmt.Fprint(a.stderr, policyText(p))
		}
		return request.retry(a.onWalletWithPIN(c.Context(), t, func(client *ipc.Client, id ipc.Hex) error {
			return a.setPolicy(c.Context(), client, &pin, ipc.SetPolicyParams{RequestID: request.id, WalletID: id, Policy: *p})
		}))
	}
	c.Flags().BoolVar(&quiet, "quiet", false, "do not show the policy before asking for the PIN")
	pin.flag(c)
	request.flag(c)
	return c
}

func (a *app) setPolicy(ctx context.Context, client *ipc.Client, source *pinSource, p ipc.SetPolicyParams) error {
	pin, err := source.pin(ctx, source.question(ctx, a, client, target{wallet: p.WalletID}))
	defer clear(pin)
	if err != nil {
		return err
	}
	p.PIN = pin
	return a.sendChange(ctx, client, ipc.MethodSetPolicy, p, existing)
}

// readPolicy reads a policy strictly: a misspelt member would allow less, or
// more, than its author meant.
func (a *app) readPolicy(c *cobra.Command, file string) (*ipc.Policy, error) {
	text, err := a.readFile(c, file, maxPolicy)
	if err != nil {
		return nil, err
	}
	p := new(ipc.Policy)
	if err := strict(text, p); err != nil {
		return nil, usage(c, "the policy: %v", err)
	}
	if p.Operations == nil {
		return nil, usage(c, "the policy: operations is missing; [] allows nothing")
	}
	return p, nil
}

// strict decodes one JSON value without unknown members.
func strict(text []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one JSON value")
	}
	return nil
}

func policyText(p *ipc.Policy) *sheet {
	t := new(sheet)
	addPolicy(t, p)
	return t
}

// addPolicy adds what may be signed, and names what may not.
func addPolicy(t *sheet, p *ipc.Policy) {
	t.add("may sign", listText(p.Operations))
	t.add("chains", listText(p.Chains))
	t.add("recipients", listText(p.Recipients))
	t.add("selectors", listText(p.Selectors))
	t.add("value", "at most "+limitText(p.MaxValue))
	t.add("cost", "at most "+limitText(p.MaxCost))
	t.add("new contracts", yesNo(p.ContractCreation))
}

func listText(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// limitText shows an amount of the wire; an absent one is 0.
func limitText(text string) string {
	switch text {
	case ipc.Any:
		return "any"
	case "":
		return amount(new(big.Int))
	}
	n, ok := new(big.Int).SetString(strings.TrimPrefix(text, "0x"), 16)
	if !ok {
		return text
	}
	return amount(n)
}
