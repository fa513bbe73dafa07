package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/sha3"

	"github.com/sigild/sigild/cmd/internal/ask"
)

// reasonKey is the daemon's own reason for what is no private key.
const reasonKey = "keyInvalid"

const keyBytes = 32

// keySource is where a command takes a private key from: a file, a descriptor,
// or the terminal.
type keySource struct {
	file string
	fd   int
}

func (k *keySource) flags(c *cobra.Command) {
	c.Flags().StringVar(&k.file, "key-file", "", "read the private key, one line of hexadecimal, from this `FILE` instead of asking")
	c.Flags().IntVar(&k.fd, "key-fd", ask.Terminal, "the same from this file descriptor; with --pin-fd of the same number the key is the line before the PIN")
}

func (k *keySource) check(c *cobra.Command, input bool) error {
	switch given := c.Flags().Changed("key-fd"); {
	case given && k.file != "":
		return usage(c, "give --key-file or --key-fd, not both")
	case given && k.fd < 0:
		return usage(c, "--key-fd must not be negative")
	case given && k.fd == 0 && input:
		return usage(c, "standard input cannot hold both the key and the policy: use --key-fd 3 3<key-file")
	}
	return nil
}

// key gives the private key. The caller wipes it.
func (k *keySource) key(ctx context.Context) ([]byte, error) {
	source := ask.Source{FD: k.fd}
	if k.file != "" {
		f, err := os.Open(k.file)
		if err != nil {
			return nil, fail(exitUsage, reasonUsage, "", "%v", err)
		}
		defer f.Close()
		source.FD = int(f.Fd())
	}
	line, err := source.Secret(ctx, "Private key in hexadecimal")
	defer clear(line)
	if errors.Is(err, ask.ErrNoTerminal) {
		return nil, fail(exitUsage, reasonKey, "give the key with --key-file, or --key-fd 3 3<key-file", "there is no terminal to ask for the key on")
	}
	if err != nil {
		return nil, err
	}
	return parseKey(line)
}

// parseKey reads 64 hexadecimal digits, with or without 0x, that are a private key
// of secp256k1. Errors do not repeat them.
func parseKey(line []byte) ([]byte, error) {
	digits := bytes.TrimSpace(line)
	if len(digits) > 2 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X') {
		digits = digits[2:]
	}
	bad := fail(exitUsage, reasonKey, "", "a private key is 64 hexadecimal digits, from 1 to the order of secp256k1 less 1")
	key := make([]byte, keyBytes)
	if len(digits) != hex.EncodedLen(keyBytes) {
		return nil, bad
	}
	if _, err := hex.Decode(key, digits); err != nil {
		clear(key)
		return nil, bad
	}
	var d secp256k1.ModNScalar
	defer d.Zero()
	if d.SetByteSlice(key) || d.IsZero() {
		clear(key)
		return nil, bad
	}
	return key, nil
}

// addressOf is the address of a private key, spelled as EIP-55 says. Its time
// depends on the key: it runs where the key is typed or written, not on the host
// that guards others.
func addressOf(key []byte) string {
	d := secp256k1.PrivKeyFromBytes(key)
	defer d.Zero()
	point := d.PubKey().SerializeUncompressed()
	return checksummed(keccak(point[1:])[12:])
}

func keccak(data []byte) []byte {
	h := sha3.NewLegacyKeccak256()
	h.Write(data)
	return h.Sum(nil)
}

func checksummed(address []byte) string {
	text := []byte(hex.EncodeToString(address))
	sum := keccak(text)
	for i, c := range text {
		if nibble := sum[i/2] >> (4 * (1 - i%2)) & 0xf; c > '9' && nibble >= 8 {
			text[i] = c - 'a' + 'A'
		}
	}
	return "0x" + string(text)
}

// sameAddress compares without regard to the checksum's letters.
func sameAddress(a, b string) bool { return strings.EqualFold(a, b) }
