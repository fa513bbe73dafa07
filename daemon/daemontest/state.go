package daemontest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// kept are the parts of a host that outlive its processes: the token, the TPM's
// state, the database and the audit log.
var kept = []string{"tokens", "tpm", "sigild.db", "audit.log"}

// SaveState ends sigild and the TPM in good order and copies what outlives them
// into a folder that does not exist yet. Options.State starts a host from it.
// The host can only be closed after it.
func (h *Host) SaveState(to string) error {
	if h.process.Load() != nil {
		if err := h.Stop(); err != nil {
			return err
		}
	}
	if err := h.TPM.Shutdown(); err != nil {
		return err
	}
	return copyState(h.Dir, to)
}

// copyState copies the kept parts; sockets and locks of ended processes are left
// out. Modes are private whatever they were: a checkout does not keep them.
func copyState(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, name := range kept {
		err := filepath.WalkDir(filepath.Join(from, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			place, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			return copyEntry(path, filepath.Join(to, place), d)
		})
		if err != nil {
			return fmt.Errorf("the state of a host: %w", err)
		}
	}
	return nil
}

func copyEntry(from, to string, d fs.DirEntry) error {
	switch {
	case d.IsDir():
		if err := os.Mkdir(to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case !d.Type().IsRegular() || strings.HasSuffix(d.Name(), ".lock"):
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
