package main

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

const (
	// maxMessage is the size of the longest message, in bytes: in hexadecimal
	// it fits into one request.
	maxMessage = 256 << 10
	// maxShown is how much of a message people are shown, in bytes.
	maxShown = 1024
)

func (a *app) signMessageCommand() *cobra.Command {
	s := &signing{app: a}
	var inHex bool
	c := &cobra.Command{
		Use:   "message WALLET|ADDRESS TEXT|-",
		Short: "Sign a message (EIP-191, personal_sign)",
		Long: `Sign a message by EIP-191, as personal_sign does. With "-" it is standard input,
to the last byte: mind the newline that echo adds. With --hex the text is the
message's bytes in hexadecimal, and white space around it does not count.`,
		Example: "  sigilctl sign message 0x5290…2ba9 'Log in to example.org'\n  printf %s \"$challenge\" | sigilctl sign message 0x5290…2ba9 -",
		Args:    arguments("WALLET|ADDRESS", "TEXT|-"),

		ValidArgsFunction: a.completeWallet,
	}
	c.RunE = s.run(func(c *cobra.Command, text string) ([]byte, error) { return a.message(c, text, inHex) }, s.message)
	c.Flags().BoolVar(&inHex, "hex", false, "TEXT is hexadecimal, with or without 0x")
	s.flags(c)
	return c
}

// message is the bytes to sign.
func (a *app) message(c *cobra.Command, text string, inHex bool) ([]byte, error) {
	limit := maxMessage
	if inHex {
		limit = 2*maxMessage + 64
	}
	message := []byte(text)
	if text == fromStdin {
		var err error
		if message, err = a.readStdin(c, int64(limit)); err != nil {
			return nil, err
		}
	}
	if inHex {
		digits := strings.TrimPrefix(string(bytes.TrimSpace(message)), "0x")
		decoded, err := hex.DecodeString(digits)
		if err != nil {
			return nil, usage(c, "the message is not hexadecimal: %v", err)
		}
		message = decoded
	}
	if len(message) > maxMessage {
		return nil, usage(c, "the message is longer than %d bytes", maxMessage)
	}
	return message, nil
}

func (s *signing) message(c *cobra.Command, t target, message []byte) error {
	return s.authorise(c.Context(), t, messageText(message, s.signer(c, t)), func(client *ipc.Client, pin ipc.Secret) error {
		p := ipc.SignMessageParams{WalletID: t.wallet, Address: t.address, Account: s.index(c), Message: message, PIN: pin}
		r, raw, err := call[ipc.SignMessageResult](c.Context(), s.app, client, ipc.MethodSignMessage, p)
		if err != nil {
			return err
		}
		return s.app.print(raw, func() string {
			var t sheet
			t.add("signature", r.Signature.String())
			t.add("digest", r.Digest.String())
			t.addf("attempts left", "%d", r.AttemptsLeft)
			return t.String()
		})
	})
}

// messageText quotes the message, so that line ends and what is not printable
// can be seen.
func messageText(message []byte, signer string) string {
	shown, rest := message, ""
	if len(shown) > maxShown {
		shown, rest = shown[:maxShown], " and more"
	}
	var t sheet
	t.add("message", strconv.Quote(string(shown))+rest)
	t.addf("length", "%d bytes", len(message))
	t.add("signer", signer)
	return t.String()
}
