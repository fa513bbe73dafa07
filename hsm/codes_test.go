package hsm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/sigild/sigild/hsm"
)

func TestReturnCodeTable(t *testing.T) {
	seen := map[uint]bool{}
	for _, code := range hsm.ReturnCodes() {
		if seen[code] {
			t.Errorf("0x%x is in the table twice", code)
		}
		seen[code] = true
		text := hsm.NewError("C_Sign", code).Error()
		if !strings.HasPrefix(text, "hsm: C_Sign: CKR_") || !strings.Contains(text, fmt.Sprintf("(0x%x): ", code)) {
			t.Errorf("0x%x: %q", code, text)
		}
	}
	if len(seen) < 85 {
		t.Errorf("the table has %d codes", len(seen))
	}
}

// TestEveryReturnCodeIsClassed compares the table with the header of PKCS#11
// v2.40 that the wrapper library brings.
func TestEveryReturnCodeIsClassed(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		t.Fatal(err)
	}
	header, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "pkcs11t.h"))
	if err != nil {
		t.Fatal(err)
	}
	defined := regexp.MustCompile(`#define (CKR_\w+)\s+0x([0-9A-F]+)UL`).FindAllStringSubmatch(string(header), -1)
	if len(defined) < 90 {
		t.Fatalf("%d codes in the header", len(defined))
	}
	for _, d := range defined {
		code, err := strconv.ParseUint(d[2], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		switch d[1] {
		case "CKR_OK", "CKR_VENDOR_DEFINED", "CKR_NO_EVENT": // C_WaitForSlotEvent is never called
			continue
		}
		if text := hsm.NewError("C_Sign", uint(code)).Error(); !strings.Contains(text, " "+d[1]+" (") {
			t.Errorf("%s is not in the table: %s", d[1], text)
		}
	}
}

// classes are the codes that ask for another attempt. All others are given up.
func classes() map[hsm.Class][]uint {
	return map[hsm.Class][]uint{
		hsm.NewSession: {pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DEVICE_MEMORY,
			pkcs11.CKR_FUNCTION_CANCELED, pkcs11.CKR_OPERATION_ACTIVE, pkcs11.CKR_OPERATION_NOT_INITIALIZED,
			pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_BUFFER_TOO_SMALL},
		hsm.FindKeys: {pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID,
			pkcs11.CKR_UNWRAPPING_KEY_HANDLE_INVALID, pkcs11.CKR_WRAPPING_KEY_HANDLE_INVALID},
		hsm.LogIn: {pkcs11.CKR_USER_NOT_LOGGED_IN},
		hsm.Reinitialise: {pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED,
			pkcs11.CKR_MUTEX_BAD, pkcs11.CKR_MUTEX_NOT_LOCKED},
		hsm.WaitDevice: {pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_SESSION_COUNT,
			pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_USER_TOO_MANY_TYPES},
	}
}

// TestClasses holds every row of the table, and codes that are in none, against what
// is written here.
func TestClasses(t *testing.T) {
	want := map[uint]hsm.Class{0x80000001: hsm.NewSession, 0x7777: hsm.NewSession}
	for class, codes := range classes() {
		for _, code := range codes {
			want[code] = class
		}
	}
	for _, code := range append(hsm.ReturnCodes(), 0x80000001, 0x7777) {
		if got := hsm.NewError("C_Sign", code).Class; got != want[code] {
			t.Errorf("0x%x is classed %q, want %q", code, got, want[code])
		}
	}
	if (hsm.Error{}).Class != hsm.GiveUp {
		t.Error("the zero class asks for another attempt")
	}
	for c := hsm.GiveUp; c <= hsm.WaitDevice; c++ {
		if c.String() == hsm.Class(99).String() {
			t.Errorf("class %d has no name", c)
		}
	}
}

// What is not known to have spared the PIN may have cost a try.
func TestPINIgnored(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{hsm.NewError("C_Login", pkcs11.CKR_DEVICE_REMOVED), true},
		{hsm.NewError("C_Login", pkcs11.CKR_SESSION_HANDLE_INVALID), true},
		{hsm.NewError("C_GetTokenInfo", pkcs11.CKR_DEVICE_ERROR), true},
		{hsm.ErrHung, true},
		{hsm.NewError("C_Login", pkcs11.CKR_DEVICE_ERROR), false},
		{hsm.NewError("C_Login", pkcs11.CKR_GENERAL_ERROR), false},
		{hsm.NewError("C_Login", pkcs11.CKR_VENDOR_DEFINED), false},
		{hsm.NewError("C_Login", pkcs11.CKR_PIN_INCORRECT), false},
		{context.DeadlineExceeded, false},
		{errors.New("something else"), false},
	} {
		if got := hsm.PINIgnored(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
			t.Errorf("PINIgnored(%v) is %v", c.err, got)
		}
	}
}

func TestErrorMatching(t *testing.T) {
	err := fmt.Errorf("wrapped: %w", hsm.NewError("C_Login", pkcs11.CKR_PIN_INCORRECT))
	for target, want := range map[error]bool{
		hsm.ErrPINIncorrect:                        true,
		hsm.ErrPINLocked:                           false,
		&hsm.Error{Code: pkcs11.CKR_PIN_INCORRECT}: true,
		&hsm.Error{Code: pkcs11.CKR_PIN_INCORRECT, Func: "C_Login"}:     true,
		&hsm.Error{Code: pkcs11.CKR_PIN_INCORRECT, Func: "C_SetPIN"}:    false,
		&hsm.Error{Code: pkcs11.CKR_PIN_INCORRECT, Class: hsm.FindKeys}: true,
		&hsm.Error{Code: pkcs11.CKR_PIN_LOCKED}:                         false,
	} {
		if errors.Is(err, target) != want {
			t.Errorf("errors.Is(%v, %v) is not %v", err, target, want)
		}
	}
}
