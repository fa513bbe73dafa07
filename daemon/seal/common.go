package seal

import (
	"bytes"
	_ "embed"
)

// commonPINs holds, one a line, PINs and passwords of 6 bytes and more that
// head published frequency counts.
//
//go:embed common.txt
var commonPINs []byte

// isCommon looks at the whole list whatever it finds, so that the time taken
// does not tell where in the list a PIN stands.
func isCommon(pin []byte) bool {
	found := false
	for line := range bytes.Lines(commonPINs) {
		if bytes.EqualFold(bytes.TrimSpace(line), pin) {
			found = true
		}
	}
	return found
}
