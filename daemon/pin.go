package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sigild/sigild/daemon/config"
	"github.com/sigild/sigild/tpm"
)

// Prompt asks a person for a secret and returns it in memory that the caller
// wipes. The core does not know whether a terminal or a descriptor answers.
type Prompt func(ctx context.Context, question string) ([]byte, error)

// ErrPINSource is returned when the token's user PIN lies where others can read
// it.
var ErrPINSource = errors.New("the token's PIN is not kept as it must be")

// maxTokenPIN is the longest PIN that is read from a file or a prompt.
const maxTokenPIN = 1024

// pinQuestion is what a person is asked for the token's PIN by.
const pinQuestion = "User PIN of the token"

// pinSources are what gives the token's user PIN, as the configuration says.
type pinSources struct {
	unseal func(context.Context) ([]byte, error)
	ask    Prompt
	// command says that this is an operator's command and not the service: it
	// has no credential of systemd's, and the operator is there to be asked.
	command bool
}

// tokenPIN gives the token's user PIN from where the configuration says. The
// caller wipes it.
func tokenPIN(ctx context.Context, c config.Token, from pinSources) ([]byte, error) {
	switch kind, name := c.PINSource(); kind {
	case "tpm":
		return from.unseal(ctx)
	case "prompt":
		return from.ask(ctx, pinQuestion)
	case "file":
		return readSecret(name)
	case "credential":
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		switch {
		case dir != "":
			return readCredential(dir, name)
		case from.command:
			return from.ask(ctx, pinQuestion)
		}
		return nil, fmt.Errorf("%w: token.pin names the systemd credential %q, but systemd gave none (CREDENTIALS_DIRECTORY is not set)", ErrPINSource, name)
	}
	return nil, errors.New("token.pin names no source")
}

func readCredential(dir, name string) ([]byte, error) {
	pin, err := readSecret(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // an empty folder is not even ours to look into
		return nil, fmt.Errorf("systemd gave this service no credential %q (is /etc/credstore.encrypted/%[1]s there?): %w", name, err)
	}
	return pin, err
}

// readSecret reads a file that nobody but its owner may read or write. The
// line's end does not belong to the PIN.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("token PIN: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("token PIN: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s must be a regular file that only its owner may read: chmod 0400 it", ErrPINSource, path)
	}
	buf := make([]byte, maxTokenPIN+1)
	n, err := io.ReadFull(f, buf)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		clear(buf)
		return nil, fmt.Errorf("token PIN: %s is empty, longer than %d bytes or unreadable", path, maxTokenPIN)
	}
	return bytes.TrimRight(buf[:n], "\r\n"), nil
}

// unsealPIN has the TPM give the token's user PIN.
func unsealPIN(t *tpm.TPM, i *installation) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		if len(i.TokenPIN) == 0 {
			return nil, errors.New(`token.pin is "tpm", but the PIN was not sealed at provisioning: name its source`)
		}
		var blob tpm.Blob
		if err := blob.UnmarshalBinary(i.TokenPIN); err != nil {
			return nil, err
		}
		authority, approvals, err := i.authority()
		if err != nil {
			return nil, err
		}
		return t.Unseal(ctx, blob, authority, approvals)
	}
}

// weakPIN reports whether a PIN is visibly under 128 bits.
func weakPIN(pin []byte) bool { return len(pin) < minTokenPIN || distinct(pin) < 8 }

// pinOfStrength gives a PIN that is new to the installation back, and wipes it where it is
// weak and the operator did not accept that.
func pinOfStrength(pin []byte, acceptWeak bool) ([]byte, error) {
	if acceptWeak || !weakPIN(pin) {
		return pin, nil
	}
	clear(pin)
	return nil, fmt.Errorf("the token's user PIN must be at least 128 random bits, such as 32 hexadecimal digits: "+
		"whoever has the token can guess at it; set a longer one (found %d characters), "+
		"or accept a weak one by --accept-weak-token-pin if the token takes no other", len(pin))
}

func distinct(b []byte) int {
	seen := map[byte]bool{}
	for _, c := range b {
		seen[c] = true
	}
	return len(seen)
}
