package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

// payload is a kind of JSON file that is signed.
type payload struct {
	use, short, long, example string
	method                    string
	describe                  func(raw json.RawMessage, signer string) (string, error)
}

func typedDataPayload() payload {
	return payload{use: "typed-data", short: "Sign typed data (EIP-712)", method: ipc.MethodSignTypedData,
		long:     "Sign typed data by EIP-712, which FILE holds as eth_signTypedData_v4 takes it:\na JSON object with types, primaryType, domain and message.",
		example:  "  sigilctl sign typed-data 0x5290…2ba9 permit.json",
		describe: describeTypedData}
}

func authorizationPayload() payload {
	return payload{use: "authorization", short: "Sign an authorization (EIP-7702)", method: ipc.MethodSignAuthorization,
		long:     "Sign an EIP-7702 authorization: the account then runs the code at an address, until\nanother one is signed. FILE holds a JSON object with chainId, address and nonce.",
		example:  "  sigilctl sign authorization 0x5290…2ba9 delegation.json",
		describe: describeAuthorization}
}

func userOperationPayload() payload {
	return payload{use: "user-operation", short: "Sign a user operation (ERC-4337, entry point 0.8)", method: ipc.MethodSignUserOperation,
		long:     "Sign a user operation for the entry point 0.8. FILE holds a JSON object with chainId,\nentryPoint, userOperation (packed) and, for an EIP-7702 account, delegate.",
		example:  "  sigilctl sign user-operation 0x5290…2ba9 operation.json",
		describe: describeUserOperation}
}

// signPayloadCommand makes the command for one kind of payload.
func (a *app) signPayloadCommand(p payload) *cobra.Command {
	s := &signing{app: a}
	c := &cobra.Command{
		Use:               p.use + " WALLET|ADDRESS FILE|-",
		Short:             p.short,
		Long:              p.long,
		Example:           p.example,
		Args:              arguments("WALLET|ADDRESS", "FILE|-"),
		ValidArgsFunction: a.completeWalletThenFile,
	}
	c.RunE = s.runFile(func(c *cobra.Command, t target, raw []byte) error { return s.payload(c, t, p, raw) })
	s.flags(c)
	return c
}

func (s *signing) payload(c *cobra.Command, t target, p payload, raw json.RawMessage) error {
	text, err := p.describe(raw, s.signer(c, t))
	if err != nil {
		return err
	}
	return s.authorise(c.Context(), t, text, func(client *ipc.Client, pin ipc.Secret) error {
		return s.signed(c, client, p.method, ipc.SignPayloadParams{WalletID: t.wallet, Address: t.address,
			Account: s.index(c), Payload: raw, PIN: pin})
	})
}

// signed calls a method whose answer is one signature over a payload.
func (s *signing) signed(c *cobra.Command, client *ipc.Client, method string, params any) error {
	r, raw, err := call[ipc.SignPayloadResult](c.Context(), s.app, client, method, params)
	if err != nil {
		return err
	}
	return s.app.print(raw, func() string {
		var t sheet
		t.add("signature", r.Signature.String())
		t.add("digest", r.Digest.String())
		t.add("signed", compacted(r.Signed))
		t.addf("attempts left", "%d", r.AttemptsLeft)
		return t.String()
	})
}

func compacted(raw json.RawMessage) string {
	var b bytes.Buffer
	if len(raw) == 0 || json.Compact(&b, raw) != nil {
		return ""
	}
	return b.String()
}

func (a *app) signDigestCommand() *cobra.Command {
	s := &signing{app: a}
	c := &cobra.Command{
		Use:   "digest WALLET|ADDRESS DIGEST",
		Short: "Sign 32 bytes as they are; the wallet's policy must allow rawDigest",
		Long: `Sign 32 bytes, in hexadecimal, as they are. Nobody can see what they stand for: they
may be the digest of a transaction that empties the account. So no wallet's policy
allows it unless rawDigest is among its operations.`,
		Args:              arguments("WALLET|ADDRESS", "DIGEST"),
		ValidArgsFunction: a.completeWallet,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := parseTarget(c, args[0])
		if err != nil {
			return err
		}
		digest, err := hex.DecodeString(strings.TrimPrefix(args[1], "0x"))
		if err != nil || len(digest) != 32 {
			return usage(c, "DIGEST must be 32 bytes: 0x and 64 digits")
		}
		if err := s.pin.check(c, false); err != nil {
			return err
		}
		return s.digest(c, t, digest)
	}
	s.flags(c)
	return c
}

func (s *signing) digest(c *cobra.Command, t target, digest ipc.Hex) error {
	var text sheet
	text.add("digest", digest.String())
	text.add("stands for", "UNKNOWN: it may be anything that this account can sign")
	text.add("signer", s.signer(c, t))
	return s.authorise(c.Context(), t, text.String(), func(client *ipc.Client, pin ipc.Secret) error {
		return s.signed(c, client, ipc.MethodSignDigest, ipc.SignDigestParams{WalletID: t.wallet, Address: t.address,
			Account: s.index(c), Digest: digest, PIN: pin})
	})
}

// describeTypedData shows the domain and every value of the message.
func describeTypedData(raw json.RawMessage, signer string) (string, error) {
	o, err := parseObject("typedData", raw)
	if err != nil {
		return "", err
	}
	var s sheet
	s.add("signer", signer)
	s.add("type", o.text("primaryType"))
	flatten(&s, "domain", o.members["domain"])
	flatten(&s, "message", o.members["message"])
	return o.shown(&s)
}

func describeAuthorization(raw json.RawMessage, signer string) (string, error) {
	o, err := parseObject("authorization", raw)
	if err != nil {
		return "", err
	}
	var s sheet
	s.add("signer", signer)
	if chain := o.number("chainId"); chain != nil && chain.Sign() == 0 {
		s.add("chain", "0: it is valid on EVERY chain")
	} else if chain != nil {
		s.add("chain", chainText(chain))
	}
	delegate := o.address("address")
	if strings.Trim(delegate, "0x") == "" && delegate != "" {
		s.add("effect", "takes a delegation back")
	} else {
		s.add("effect", "the account runs the code at "+delegate+", which can then move all it holds")
	}
	if nonce := o.number("nonce"); nonce != nil {
		s.add("nonce", nonce.String())
	}
	return o.shown(&s)
}

func describeUserOperation(raw json.RawMessage, signer string) (string, error) {
	o, err := parseObject("userOperation", raw)
	if err != nil {
		return "", err
	}
	var s sheet
	s.add("signer", signer)
	if chain := o.number("chainId"); chain != nil {
		s.add("chain", chainText(chain))
	}
	s.add("entry point", o.address("entryPoint"))
	s.add("delegate", o.address("delegate"))
	flatten(&s, "operation", o.members["userOperation"])
	return o.shown(&s)
}

// shown is the text, unless something keeps the object from being shown, and so
// from being signed.
func (o *object) shown(s *sheet) (string, error) {
	if o.err != nil {
		return "", o.err
	}
	return s.String(), nil
}
