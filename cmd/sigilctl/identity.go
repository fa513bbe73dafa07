package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sigild/sigild/ipc"
)

// identityVariable holds the installation's identity key where --identity does
// not.
const identityVariable = "SIGIL_IDENTITY"

// Reasons of failures about identities.
const (
	reasonIdentity   = "identityChanged"
	reasonNoIdentity = "noIdentity"
	reasonProof      = "answerForged"
)

// known is the file of the installations that this user trusts: a line for each
// socket, "SOCKET INSTALLATION KEY". It is public, but who can change it can
// have PINs sealed to himself.
type known struct{ path string }

func knownFile() (known, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return known{}, fail(exitUsage, reasonNoIdentity, "give the installation's identity key with --identity",
			"there is no folder to remember the daemon's identity key in")
	}
	return known{filepath.Join(dir, "sigil", "known_installations")}, nil
}

// lookup gives the key that was remembered for a socket, or nil.
func (k known) lookup(socket string) (ipc.Hex, error) {
	text, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || fields[0] != socketName(socket) {
			continue
		}
		var key ipc.Hex
		if err := key.UnmarshalText([]byte(fields[2])); err != nil {
			return nil, fmt.Errorf("%s: the line of %s is malformed: run sigilctl trust", k.path, socket)
		}
		return key, nil
	}
	return nil, nil
}

// remember puts the key of a socket in the place of an older one; the file is
// replaced as a whole.
func (k known) remember(socket string, installation, key ipc.Hex) error {
	old, err := os.ReadFile(k.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(string(old)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] != socketName(socket) {
			out.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	fmt.Fprintf(&out, "%s %s %s\n", socketName(socket), installation, key)
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(k.path), ".known-")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.WriteString(out.String())
	if err := errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), k.path)
}

// socketName is a socket as the file spells it: absolute, without spaces.
func socketName(socket string) string {
	if abs, err := filepath.Abs(socket); err == nil {
		socket = abs
	}
	return strings.ReplaceAll(strings.ReplaceAll(socket, "%", "%25"), " ", "%20")
}

// fingerprint is how a key is read out over the telephone, as ssh does.
func fingerprint(key []byte) string {
	sum := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// connectForPIN reaches the daemon with the identity key that PINs are sealed
// under: the one of --identity or SIGIL_IDENTITY, else the one remembered for
// this socket. On first use that is the daemon's own, which is then remembered.
func (a *app) connectForPIN(ctx context.Context) (*ipc.Client, error) {
	c, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.pinIdentity(ctx, c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (a *app) pinIdentity(ctx context.Context, c *ipc.Client) error {
	key, err := a.givenIdentity()
	if err != nil {
		return err
	}
	if key == nil {
		if key, err = a.knownIdentity(ctx, c); err != nil {
			return err
		}
	}
	if err := c.PinIdentity(key); err != nil {
		return fail(exitUsage, reasonNoIdentity, "sigilctl status shows the daemon's own", "this is not an identity key: 0x04 and 128 hexadecimal digits")
	}
	return nil
}

func (a *app) givenIdentity() (key ipc.Hex, err error) {
	text := a.identity
	if text == "" {
		text = os.Getenv(identityVariable)
	}
	if text == "" {
		return nil, nil
	}
	if key.UnmarshalText([]byte(text)) != nil {
		return nil, fail(exitUsage, reasonNoIdentity, "sigilctl status shows the daemon's own", "this is not an identity key: 0x04 and 128 hexadecimal digits")
	}
	return key, nil
}

func (a *app) knownIdentity(ctx context.Context, c *ipc.Client) (ipc.Hex, error) {
	file, err := knownFile()
	if err != nil {
		return nil, err
	}
	key, err := file.lookup(a.socket)
	if key != nil || err != nil {
		return key, err
	}
	return a.trust(ctx, c, file)
}

// trust remembers the key that the daemon itself shows.
func (a *app) trust(ctx context.Context, c *ipc.Client, file known) (ipc.Hex, error) {
	s, _, err := call[ipc.StatusResult](ctx, a, c, ipc.MethodStatus, ipc.StatusParams{})
	if err != nil {
		return nil, err
	}
	if err := file.remember(a.socket, s.Installation, s.IdentityKey); err != nil {
		return nil, fmt.Errorf("remembering the identity key: %w", err)
	}
	fmt.Fprintf(a.stderr, "identity key of installation %s remembered in %s\n  %s\n", s.Installation, file.path, fingerprint(s.IdentityKey))
	return s.IdentityKey, nil
}

func (a *app) trustCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "trust",
		Short: "Remember the daemon's identity key in the place of an older one",
		Long: `Remember the identity key of the daemon at --socket. PINs are sealed so that only
the holder of that key reads them. The first command with a PIN remembers the
key by itself; this one replaces it, after the installation was provisioned
anew. Compare the fingerprint with the one that the operator was shown, or give
the key itself with --identity: then only a daemon that has it is trusted.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.replaceTrust(c.Context())
		},
	}
}

func (a *app) replaceTrust(ctx context.Context) error {
	want, err := a.givenIdentity()
	if err != nil {
		return err
	}
	file, err := knownFile()
	if err != nil {
		return err
	}
	s, raw, err := query[ipc.StatusResult](ctx, a, ipc.MethodStatus, ipc.StatusParams{})
	if err != nil {
		return err
	}
	if want != nil && !bytes.Equal(want, s.IdentityKey) {
		return fail(exitRefused, reasonIdentity, "make sure of both keys before anybody types a PIN", "the daemon shows another identity key than --identity")
	}
	if err := file.remember(a.socket, s.Installation, s.IdentityKey); err != nil {
		return fmt.Errorf("remembering the identity key: %w", err)
	}
	return a.print(raw, func() string {
		var t sheet
		t.add("installation", s.Installation.String())
		t.add("identity key", s.IdentityKey.String())
		t.add("fingerprint", fingerprint(s.IdentityKey))
		t.add("remembered in", file.path)
		return t.String()
	})
}

// channelFailure explains what stands between this program and the daemon.
func channelFailure(err error) *failure {
	switch {
	case errors.Is(err, ipc.ErrIdentity):
		return fail(exitRefused, reasonIdentity, "if the installation was provisioned anew on purpose: sigilctl trust; else do not type a PIN here",
			"the daemon's PIN key is not signed by the identity key known for it; no PIN was sent")
	case errors.Is(err, ipc.ErrProof):
		return fail(exitFailed, reasonProof, "do not rely on it; look at the wallet (sigilctl wallet show) over another way",
			"the answer does not come from the daemon that the PIN was sealed for")
	}
	return nil
}
