package hsm

import (
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"
)

// present is a token that the module sees.
type present struct {
	slot uint
	info pkcs11.TokenInfo
}

func (p present) String() string {
	return fmt.Sprintf("label %q serial %q (%s)", p.info.Label, p.info.SerialNumber, p.info.Model)
}

// matches compares the whole label or serial number; blanks at the end, which
// PKCS#11 pads with, are gone already.
func (p present) matches(cfg Config) bool {
	if cfg.Serial != "" {
		return p.info.SerialNumber == cfg.Serial
	}
	return p.info.Label == cfg.Label
}

// listTokens returns the initialised tokens of the module.
func listTokens(m *pkcs11.Ctx) ([]present, error) {
	slots, err := m.GetSlotList(true)
	if err != nil {
		return nil, fromModule("C_GetSlotList", err)
	}
	var out []present
	for _, slot := range slots {
		info, err := m.GetTokenInfo(slot)
		if err != nil {
			return nil, fromModule("C_GetTokenInfo", err)
		}
		if info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 {
			out = append(out, present{slot, info})
		}
	}
	return out, nil
}

// findSlot returns the one token that cfg names.
func findSlot(m *pkcs11.Ctx, cfg Config) (present, error) {
	all, err := listTokens(m)
	if err != nil {
		return present{}, err
	}
	var found []present
	for _, p := range all {
		if p.matches(cfg) {
			found = append(found, p)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return present{}, notFound(cfg, len(found), all)
}

func notFound(cfg Config, matches int, all []present) error {
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.String()
	}
	list := strings.Join(names, "; ")
	if list == "" {
		list = "none"
	}
	if matches > 1 {
		return fmt.Errorf("%w: %d tokens have %s; name it by its serial number; present: %s",
			ErrTokenNotFound, matches, cfg.named(), list)
	}
	return fmt.Errorf("%w: none has %s; present: %s", ErrTokenNotFound, cfg.named(), list)
}

// explain finds out why the signer could not open the token: its own error does
// not say what is there instead.
func explain(cfg Config, cause error) error {
	m := pkcs11.New(cfg.Module)
	if m == nil {
		return fmt.Errorf("hsm: cannot load the PKCS#11 module %s", cfg.Module)
	}
	defer m.Destroy()
	err := fromModule("C_Initialize", m.Initialize())
	if err == nil {
		defer func() { _ = m.Finalize() }()
	} else if codeOf(err) != pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED {
		return err
	}
	if _, err := findSlot(m, cfg); err != nil {
		return err
	}
	var code pkcs11.Error
	if errors.As(cause, &code) {
		return fromModule("open", cause)
	}
	return fmt.Errorf("hsm: cannot open the token: %w", cause)
}
