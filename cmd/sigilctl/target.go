package main

import (
	"encoding/hex"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

// target is a wallet, named by exactly one of its id and an address.
type target struct {
	wallet  ipc.Hex
	address string // as it was written: the daemon checks its EIP-55 checksum
}

const (
	walletIDBytes = 16
	addressBytes  = 20
)

// parseTarget tells a wallet id from an address by the length.
func parseTarget(c *cobra.Command, text string) (target, error) {
	digits, prefixed := strings.CutPrefix(text, "0x")
	b, err := hex.DecodeString(digits)
	switch {
	case !prefixed || err != nil:
	case len(b) == walletIDBytes:
		return target{wallet: b}, nil
	case len(b) == addressBytes:
		return target{address: text}, nil
	}
	return target{}, usage(c, "%q is neither a wallet id (0x and 32 digits) nor an address (0x and 40 digits)", text)
}

func (t target) String() string {
	if t.address != "" {
		return t.address
	}
	return t.wallet.String()
}
