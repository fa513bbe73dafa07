package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

const (
	headerSize      = 10   // TPM 2.0 Part 1, section 18: tag, size, code
	maxResponseSize = 4096 // the buffer of Linux's TPM driver and of swtpm
)

// wire carries whole commands to one TPM and whole responses back. It is used
// by one goroutine at a time, and not again after an error.
type wire interface {
	// exchange fails when the response is not complete at the deadline.
	exchange(command []byte, deadline time.Time) ([]byte, error)
	close()
}

// dialWire picks the transport by what the path is. managed tells whether a
// resource manager keeps our handles apart from those of other programs.
func dialWire(device string) (w wire, managed bool, err error) {
	if !filepath.IsAbs(device) {
		return nil, false, invalid("the device %q is not an absolute path", device)
	}
	info, err := os.Stat(device)
	if err != nil {
		return nil, false, unavailable(err)
	}
	switch {
	case info.Mode()&os.ModeSocket != 0:
		return &socketWire{path: device}, false, nil
	case info.Mode()&os.ModeCharDevice != 0:
		w, err = openDevice(device)
		return w, true, err
	}
	return nil, false, invalid("%s is neither a character device nor a Unix socket (mode %s)", device, info.Mode())
}

// readResponse reads one response of the length that its header states.
func readResponse(r io.Reader) ([]byte, error) {
	buffer := make([]byte, maxResponseSize)
	have, want := 0, headerSize
	for have < want {
		n, err := r.Read(buffer[have:])
		have += n
		if have >= headerSize {
			want = int(binary.BigEndian.Uint32(buffer[2:6]))
		}
		if want < headerSize || want > maxResponseSize || have > want {
			return nil, fmt.Errorf("response of %d bytes announces a size of %d", have, want)
		}
		if err != nil && have < want {
			return nil, shortResponse(err, have)
		}
	}
	return buffer[:want], nil
}

func shortResponse(err error, have int) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("response cut off after %d bytes: %w", have, err)
}
