package hsm

// ParsePoint and DecodeCanary are the decoders of what comes from the token and
// from disk.
var ParsePoint = parsePoint

// RecodeCanary decodes a fingerprint and encodes it again.
func RecodeCanary(b []byte) ([]byte, error) {
	c, err := decodeCanary(b)
	if err != nil {
		return nil, err
	}
	return c.encode()
}

// ReturnCodes lists the codes that have a row in the table.
func ReturnCodes() []uint {
	var out []uint
	for _, row := range returnCodes {
		out = append(out, row.code)
	}
	return out
}

// NewError makes an error as the module's answers do.
func NewError(function string, code uint) *Error { return newError(function, code) }

// UnclearLogins counts the log-ins without a clear answer until the next is refused.
func UnclearLogins(ours bool) int {
	k := newKnownPIN()
	for k.refusedBy(0, ours) == nil {
		k.doubt(ErrHung)
	}
	return k.doubts
}

// UnwrapPadded and ParsePrivateKey are the two halves of UnwrapKnown.
var (
	UnwrapPadded    = unwrapPadded
	ParsePrivateKey = parsePrivateKey
)
