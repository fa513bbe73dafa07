package hsm

import (
	"context"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Info describes the token and its module.
type Info struct {
	Label, Serial, Manufacturer, Model string
	HardwareVersion, FirmwareVersion   string // "major.minor"
	Library, LibraryVersion            string // the module's description of itself
	MinPINLength, MaxPINLength         int    // bytes

	LoginRequired   bool
	UserPINCountLow bool // a wrong PIN was given since the last log-in
	UserPINFinalTry bool // one more wrong PIN locks it
	UserPINLocked   bool
}

// Info asks the token who it is and how its user PIN stands. It needs no
// log-in, so that a caller may look before it gives a PIN.
func (t *Token) Info(ctx context.Context) (Info, error) {
	return do(ctx, t.signing, "read the token's information", work[Info]{
		bare: true,
		run:  func(*session) (Info, error) { return t.readInfo() },
	})
}

func (t *Token) readInfo() (Info, error) {
	token, err := t.module.GetTokenInfo(t.slot)
	if err != nil {
		return Info{}, fromModule("C_GetTokenInfo", err)
	}
	library, err := t.module.GetInfo()
	if err != nil {
		return Info{}, fromModule("C_GetInfo", err)
	}
	has := func(flag uint) bool { return token.Flags&flag != 0 }
	return Info{
		Label: token.Label, Serial: token.SerialNumber,
		Manufacturer: token.ManufacturerID, Model: token.Model,
		HardwareVersion: version(token.HardwareVersion), FirmwareVersion: version(token.FirmwareVersion),
		Library: library.LibraryDescription, LibraryVersion: version(library.LibraryVersion),
		MinPINLength: int(token.MinPinLen), MaxPINLength: int(token.MaxPinLen),
		LoginRequired:   has(pkcs11.CKF_LOGIN_REQUIRED),
		UserPINCountLow: has(pkcs11.CKF_USER_PIN_COUNT_LOW),
		UserPINFinalTry: has(pkcs11.CKF_USER_PIN_FINAL_TRY),
		UserPINLocked:   has(pkcs11.CKF_USER_PIN_LOCKED),
	}, nil
}

func version(v pkcs11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }
