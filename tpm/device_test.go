package tpm_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"errors"

	"golang.org/x/sys/unix"

	"github.com/sigild/sigild/tpm"
	"github.com/sigild/sigild/tpm/tpmtest"
)

// characterDevice puts a terminal in front of the TPM: a character device that
// poll works on, as on the ones of the TPM driver. Answers stop while mute.
type characterDevice struct {
	path string
	mu   sync.Mutex
	mute bool
}

func newCharacterDevice(t *testing.T, instance *tpmtest.Instance) *characterDevice {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := rawTerminal(master)
	if err != nil {
		t.Fatal(err)
	}
	device := &characterDevice{path: fmt.Sprintf("/dev/pts/%d", number)}
	slave, err := os.OpenFile(device.path, os.O_RDWR|unix.O_NOCTTY, 0) // keeps the terminal there
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { device.serve(master, instance.Device) })
	t.Cleanup(func() {
		_ = slave.Close()
		_ = master.Close()
		running.Wait()
	})
	return device
}

// rawTerminal makes the terminal pass every byte as it is.
func rawTerminal(master *os.File) (number int, err error) {
	control, err := master.SyscallConn()
	if err != nil {
		return 0, err
	}
	outer := control.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			return
		}
		if number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err != nil {
			return
		}
		raw := unix.Termios{Cflag: unix.CS8 | unix.CREAD}
		raw.Cc[unix.VMIN] = 1
		err = unix.IoctlSetTermios(int(fd), unix.TCSETS, &raw)
	})
	return number, errors.Join(outer, err)
}

func (d *characterDevice) setMute(mute bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mute = mute
}

func (d *characterDevice) serve(master *os.File, socket string) {
	for {
		command, err := readWhole(master)
		if err != nil {
			return
		}
		d.mu.Lock()
		mute := d.mute
		d.mu.Unlock()
		if mute {
			continue
		}
		c, err := net.Dial("unix", socket)
		if err != nil {
			return
		}
		_, _ = c.Write(command)
		response, err := readWhole(c)
		_ = c.Close()
		if err != nil {
			return
		}
		if _, err := master.Write(response); err != nil {
			return
		}
	}
}

func readWhole(r io.Reader) ([]byte, error) {
	header := make([]byte, 10)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	whole := append(header, make([]byte, binary.BigEndian.Uint32(header[2:])-10)...)
	_, err := io.ReadFull(r, whole[10:])
	return whole, err
}

func TestCharacterDevice(t *testing.T) {
	instance := tpmtest.New(t)
	device := newCharacterDevice(t, instance)
	h := newHostOn(t, instance, tpm.Config{Device: device.path, Timeout: 300 * time.Millisecond})
	value, message := random(t, tpm.HMACKeySize), random(t, tpm.MaxHMACMessage)
	key := h.loadKey(t, h.createKey(t, value), h.approve(t))
	if mac, err := key.HMAC(t.Context(), message); err != nil || mac != software(value, message) {
		t.Fatal(err)
	}
	device.setMute(true)
	started := time.Now()
	if _, err := key.HMAC(t.Context(), message); !errors.Is(err, tpm.ErrUnavailable) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("without an answer: %v", err)
	}
	if took := time.Since(started); took < 250*time.Millisecond || took > 5*time.Second {
		t.Errorf("the time-out of 300 ms took %s", took)
	}
	device.setMute(false)
	instance.Restart(true) // a resource manager would free the handles of a closed descriptor
	if err := h.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if mac, err := key.HMAC(t.Context(), message); err != nil || mac != software(value, message) {
		t.Error(err)
	}
}
